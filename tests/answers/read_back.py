"""Reads what longclip writes for other programs with those programs.

Needs exiftool (Debian's libimage-exiftool-perl) and
`pip install pyarrow pandas duckdb jsonschema label-studio-sdk`.

    python tests/answers/read_back.py --longclip target/release/longclip
"""

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import duckdb
import jsonschema
import pandas
import pyarrow.parquet

ROOT = Path(__file__).resolve().parents[2]
LABELS = ["penguin", "owl & <friends>", "fox"]
RATED = [
    "-XMP-xmp:Rating=4",
    "-XMP-dc:Title=A title",
    "-XMP-dc:Subject=holiday",
    "-XMP-dc:Subject=sea & sand",
    "-XMP-lr:HierarchicalSubject=places|sea",
    "-XMP-photoshop:City=Bern",
    "-XMP-exif:GPSLatitude=46.9",
]


def run(arguments, folder, statuses=(0,)):
    done = subprocess.run(arguments, cwd=folder, capture_output=True, text=True)
    assert done.returncode in statuses, (arguments, done)
    return done.stdout


def tags(sidecar):
    """All tags of a sidecar by group and name, as exiftool reads them."""
    command = ["exiftool", "-j", "-G1", "-struct", "-XMP:all", sidecar]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]
    found.pop("SourceFile")
    subject = found.pop("XMP-dc:Subject", [])
    # The toolkit that wrote it last.
    found.pop("XMP-x:XMPToolkit", None)
    return found, subject if isinstance(subject, list) else [subject]


def check_xmp(longclip, folder):
    images = folder / "xmp"
    images.mkdir()
    names = ["plain", "rated", "compact", "stem"]
    for name in names:
        shutil.copy(ROOT / "assets/demo/drawn-penguin.png", images / f"{name}.png")
    run(["exiftool", "-q", *RATED, "-o", "rated.png.xmp"], images)
    compact = ["exiftool", "-q", "-api", "Compact=Shorthand,OneDesc", *RATED]
    run([*compact, "-o", "compact.png.xmp"], images)
    run(["exiftool", "-q", *RATED[:2], "-o", "stem.xmp"], images)
    sidecars = {name: images / f"{name}.png.xmp" for name in names}
    sidecars["stem"] = images / "stem.xmp"
    before = {name: path.read_bytes() for name, path in sidecars.items() if path.exists()}
    foreign = {name: tags(sidecars[name]) for name in before}
    pixels = {path: path.read_bytes() for path in images.glob("*.png")}
    command = [longclip, "classify", "xmp", "--model", "tiny", "-f", "jsonl", "--xmp"]
    command += ["--threshold", "0", "-k", "2", "--labels", *LABELS]
    records = [json.loads(line) for line in run(command, folder).splitlines()]
    for record in records:
        name = Path(record["image"]).stem
        labels = [prediction["label"] for prediction in record["predictions"]]
        found, subject = tags(sidecars[name])
        assert found == foreign.get(name, ({}, []))[0], (name, found)
        assert subject == foreign.get(name, ({}, []))[1] + labels, (name, subject)
        print(f"xmp {name}: {len(found)} other tags as before, subject {subject}")
    assert len(records) == len(names)
    assert all(path.read_bytes() == content for path, content in pixels.items())
    once = {path: path.read_bytes() for path in sidecars.values()}
    run(command, folder)
    assert all(path.read_bytes() == content for path, content in once.items())
    (journal,) = folder.glob("longclip-xmp-*.jsonl")
    run([longclip, "undo", journal.name], folder)
    after = {name: path.read_bytes() for name, path in sidecars.items() if path.exists()}
    assert after == before
    print("xmp: twice is once, undo gives every byte back, images are untouched")


def check_parquet(longclip, folder):
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    demo = str(ROOT / "assets/demo")
    command = [longclip, "classify", demo, "broken.png", "--model", "tiny", "--labels", *LABELS]
    run([*command, "-o", "x.parquet"], folder, (1,))
    run([*command, "-o", "x.csv"], folder, (1,))
    path = str(folder / "x.parquet")
    table = pyarrow.parquet.read_table(path)
    frame = pandas.read_parquet(path)
    csv = pandas.read_csv(folder / "x.csv")
    for column in ["image", "label", "rank", "error"]:
        present = frame[column].notna()
        assert (present == csv[column].notna()).all(), column
        assert (frame[column][present] == csv[column][present]).all(), column
    for column in ["probability", "logit", "cosine"]:
        assert (frame[column].dropna() == csv[column].dropna().astype("float32")).all(), column
    query = f"SELECT image, label FROM '{path}' WHERE rank = 1 ORDER BY image"
    best = duckdb.sql(query).fetchall()
    expected = frame[frame["rank"] == 1].sort_values("image")
    assert best == list(zip(expected["image"], expected["label"], strict=True))
    codec = pyarrow.parquet.ParquetFile(path).metadata.row_group(0).column(0).compression
    print(f"parquet: {table.num_rows} rows, {codec}, equal to csv in pyarrow, pandas and DuckDB")


def check_label_studio(longclip, folder):
    from label_studio_sdk.label_interface import LabelInterface

    shutil.copy(ROOT / "assets/demo/drawn-penguin.png", folder / "a b.png")
    command = [longclip, "classify", "a b.png", "--model", "tiny", "-f", "label-studio"]
    tasks = json.loads(run([*command, "--labels", *LABELS], folder))
    choices = "".join(
        f'<Choice value="{label.replace("&", "&amp;").replace("<", "&lt;")}"/>' for label in LABELS
    )
    interface = LabelInterface(
        '<View><Image name="image" value="$image"/>'
        f'<Choices name="label" toName="image">{choices}</Choices></View>'
    )
    interface.validate()
    for task in tasks:
        # With predictions, this method of label-studio-sdk 2.1.2 raises a TypeError of its own.
        assert interface.validate_task({"data": task["data"]}), task
        for prediction in task["predictions"]:
            assert interface.validate_prediction(prediction), prediction
    wrong = json.loads(json.dumps(tasks[0]["predictions"][0]))
    wrong["result"][0]["value"]["choices"] = ["bus"]
    assert not interface.validate_prediction(wrong)
    print(f"label-studio: {len(tasks)} task accepted by label-studio-sdk, a wrong label refused")


def check_schemas(longclip, folder):
    names = [line.split()[0] for line in run([longclip, "schema"], folder).splitlines()]
    for name in names:
        schema = json.loads(run([longclip, "schema", name], folder))
        jsonschema.Draft202012Validator.check_schema(schema)
    schema = json.loads(run([longclip, "schema", "record"], folder))
    command = [longclip, "classify", str(ROOT / "assets/demo"), "--model", "tiny", "-f", "jsonl"]
    for line in run([*command, "--labels", *LABELS], folder).splitlines():
        jsonschema.validate(json.loads(line), schema, jsonschema.Draft202012Validator)
    print(f"schemas: {len(names)} are valid by JSON Schema 2020-12")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--longclip", type=Path, required=True)
    longclip = str(parser.parse_args().longclip.resolve())
    for check in [check_xmp, check_parquet, check_label_studio, check_schemas]:
        with tempfile.TemporaryDirectory() as folder:
            check(longclip, Path(folder))


if __name__ == "__main__":
    main()
