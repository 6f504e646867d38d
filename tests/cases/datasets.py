"""Cases d…: folders and lists of images with labels or captions, as found in the wild."""

import io
import json
import tarfile
import unicodedata

import numpy as np
from PIL import Image

NAMES = ["penguin", "heart", "sun", "star"]
ROWS = [(f"{name}{number}.jpg", name) for name in NAMES for number in range(2)]


def picture(seed):
    """A small JPEG, different from the others."""
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).resize((40, 32)).save(stream, "JPEG")
    return stream.getvalue()


def folders(bench, root, names, count=2):
    for place, name in enumerate(names):
        for number in range(count):
            bench.write(f"{root}/{name}/{number}.jpg", picture(10 * place + number))


def files(bench, root="."):
    """The images named in ROWS."""
    for seed, (name, _) in enumerate(ROWS):
        bench.write(f"{root}/{name}", picture(seed))


def report(answer):
    try:
        return json.loads(answer.out)
    except json.JSONDecodeError:
        return {}


def evaluate(bench, *arguments):
    return bench.run("evaluate", *arguments, "--model", "tiny", "--format", "json")


def expect_count(bench, what, answer, count=8):
    found = report(answer)
    images = found.get("n", found.get("images"))
    bench.note(what, answer.status == 0 and images == count, f"n {images}" if found else answer.said)


def splits(bench):
    for root, parts in {
        "training_testing": ["Training", "Testing"],
        "seg": ["seg_train", "seg_test"],
        "with_samples": ["train", "val", "test"],
        "folds": ["fold1", "fold2", "fold3"],
    }.items():
        for part in parts:
            folders(bench, f"{root}/{part}", NAMES)
        if root == "with_samples":
            bench.write(f"{root}/samples/0.jpg", picture(1))
        answer = evaluate(bench, root)
        warned = answer.status == 0 and parts[0] in answer.err
        bench.note(root, warned or (answer.status == 2 and parts[0] in answer.err), answer.said)
    folders(bench, "deep/cat", ["indoor", "outdoor"])
    folders(bench, "deep/dog", ["indoor", "park"])
    answer = evaluate(bench, "deep")
    bench.note("classes with folders of their own", answer.status == 0, answer.said)


def system_folders(bench):
    folders(bench, "set", NAMES)
    for name in ("@eaDir", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", "#recycle", "lost+found"):
        bench.write(f"set/{name}/thumb.jpg", picture(90))
        bench.write(f"set/sun/{name}/thumb.jpg", picture(91))
    answer = evaluate(bench, "set")
    expect_count(bench, "evaluate", answer)
    answer = bench.run("classify", "set", "--labels", "sun", "heart", "--model", "tiny")
    bench.note("classify", len(answer.records) == 8, f"{len(answer.records)} records")
    answer = bench.run("classify", "set", "--labels", "sun", "heart", "--model", "tiny", "-v")
    bench.note("-v names them", "@eaDir" in answer.err, answer.said)


def normal_forms(bench):
    labels = ["corazón", "niño"]
    for form in ("NFC", "NFD"):
        folders(bench, f"set-{form}", [unicodedata.normalize("NFD" if form == "NFC" else "NFC", label) for label in labels])
        path = bench.write(f"labels-{form}.txt", "".join(unicodedata.normalize(form, label) + "\n" for label in labels))
        expect_count(bench, f"labels in {form}", evaluate(bench, f"set-{form}", "--labels-file", path), 4)


def manifests(bench):
    files(bench, "in")
    table = lambda between, end="\n": between.join(["path", "label"]) + end + "".join(f"in/{n}{between}{c}{end}" for n, c in ROWS)
    for name, content in {
        "semicolon.csv": "\ufeff" + table(";", "\r\n"),
        "tab.csv": table("\t"),
        "pipe.csv": table("|"),
        "excel.csv": "sep=;\r\n" + table(";", "\r\n"),
        "utf16.csv": table(",").encode("utf-16"),
        "empty_rows.csv": table(",").replace("\n", ",,\n") + ",,,\n,,,\n",
        "filename.csv": table(",").replace("path,label", "Image Name,Class Name"),
    }.items():
        expect_count(bench, name, evaluate(bench, bench.write(name, content)))
    answer = evaluate(bench, bench.write("backslashes.csv", table(",").replace("/", "\\")))
    read = report(answer).get("n") == 8
    bench.note("backslashes.csv", read or (answer.status == 2 and "\\" in answer.err), answer.said)


def numbers(bench):
    files(bench)
    labels = bench.write("labels.txt", "".join(name + "\n" for name in NAMES))
    number = {name: place for place, name in enumerate(NAMES)}
    lines = lambda of: "".join(json.dumps({"path": n, "label": of(c)}) + "\n" for n, c in ROWS)
    rows = lambda of: "path,label\n" + "".join(f"{n},{of(c)}\n" for n, c in ROWS)
    for name, content in {
        "int.jsonl": lines(number.get),
        "int.csv": rows(number.get),
        "float.csv": rows(lambda c: float(number[c])),
        "text.jsonl": lines(lambda c: str(number[c])),
    }.items():
        answer = evaluate(bench, bench.write(name, content), "--labels-file", labels)
        expect_count(bench, name, answer)
    answer = evaluate(bench, bench.write("beyond.csv", rows(lambda c: number[c] + 1)), "--labels-file", labels)
    bench.refused("numbers from 1", answer, "4")
    captions = "".join(json.dumps({"path": n, "caption": [f"a {c}", f"one {c}"]}) + "\n" for n, c in ROWS)
    answer = evaluate(bench, bench.write("captions.jsonl", captions), "--task", "retrieval")
    bench.note("captions.jsonl", answer.status == 0 and report(answer).get("texts", report(answer).get("captions")) == 16, answer.said)


def numbered_folders(bench):
    labels = bench.write("labels.txt", "penguin\nheart\nsun\nstar\n")
    for root, names in {
        "cub": ["001.Penguin", "002.Heart", "003.Sun", "004.Star"],
        "numbered": ["1_penguin", "2_heart", "3_sun", "4_star"],
        "spaced": ["01 - penguin", "02 - heart", "03 - sun", "04 - star"],
    }.items():
        folders(bench, root, names)
        expect_count(bench, root, evaluate(bench, root, "--labels-file", labels))
    for root, names, label in (
        ("birds", ["001.Black_footed_Albatross", "002.Laysan_Albatross"], "Black footed Albatross"),
        ("actions", ["ApplyEyeMakeup", "YoYo"], "Apply Eye Makeup"),
    ):
        folders(bench, root, names)
        answer = evaluate(bench, root)
        found = [item["label"] for item in report(answer).get("per_class", [])]
        bench.note(f"{root} without labels", label in found, ", ".join(found) or answer.said)


def real_folder_names(bench):
    """Folder names of the datasets themselves; the files in assets/labels give their source."""
    sets = {
        "eurosat": ["AnnualCrop", "HerbaceousVegetation", "SeaLake"],
        "ucf101": ["ApplyEyeMakeup", "YoYo", "HandstandPushups"],
        "gtsrb": ["00000", "00042"],
        "flowers102": ["1", "102"],
        "fer2013": ["angry", "surprise"],
        "country211": ["AD", "ZW"],
        "pcam": ["0", "1"],
        "resisc45": ["airplane", "ground_track_field"],
        "caltech101": ["BACKGROUND_Google", "Faces_easy", "airplanes"],
        "dtd": ["banded", "zigzagged"],
        "food101": ["apple_pie", "waffles"],
        "pets": ["Abyssinian", "yorkshire_terrier"],
        "mnist": ["0", "9"],
        "cifar10": ["airplane", "truck"],
        "imagenet": ["n01440764", "n15075141"],
    }
    for name, classes in sets.items():
        folders(bench, name, classes, count=1)
        answer = evaluate(bench, name, "--labels-file", name)
        expect_count(bench, name, answer, len(classes))


def sidecars(bench):
    rows = [(f"{number}.jpg", name) for number, (_, name) in enumerate(ROWS)]
    for root in ("jsonl", "csv", "caption", "labels"):
        for number, (name, _) in enumerate(rows):
            bench.write(f"{root}/{name}", picture(number))
    text = lambda name, label: f"a drawing of a {label}, {name}"
    bench.write("jsonl/metadata.jsonl", "".join(json.dumps({"file_name": n, "text": text(n, c)}) + "\n" for n, c in rows))
    bench.write("csv/metadata.csv", "file_name,text\n" + "".join(f'{n},"{text(n, c)}"\n' for n, c in rows))
    for name, label in rows:
        bench.write(f"caption/{name[:-4]}.caption", text(name, label))
    for root in ("jsonl", "csv", "caption"):
        tuning = ["--batch-size", "8", "--loss", "clip", "--steps", "1", "--out", bench.folder / f"out-{root}"]
        answer = bench.run("finetune", root, "--model", "tiny", *tuning)
        bench.note(f"finetune {root}", answer.status == 0, answer.said)
        answer = evaluate(bench, root, "--task", "retrieval")
        bench.note(f"retrieval {root}", answer.status == 0, answer.said)
    bench.write("labels/metadata.jsonl", "".join(json.dumps({"file_name": n, "label": c}) + "\n" for n, c in rows))
    expect_count(bench, "evaluate labels", evaluate(bench, "labels"))


def caption_files(bench):
    files(bench)
    text = lambda name, label: f"A drawing of a {label} {name} ."
    retrieval = {
        "captions.txt": "image,caption\n" + "".join(f"{n},{text(n, c)}\n" for n, c in ROWS),
        "results.csv": "image_name| comment_number| comment\n" + "".join(f"{n}| 0| {text(n, c)}\n" for n, c in ROWS),
        "Flickr8k.token.txt": "".join(f"{n}#0\t{text(n, c)}\n" for n, c in ROWS),
        "captions.json": json.dumps({n: [text(n, c), f"a {c} in {n}"] for n, c in ROWS}),
    }
    for name, content in retrieval.items():
        answer = evaluate(bench, bench.write(name, content), "--task", "retrieval")
        named = answer.status == 2 and any(word in answer.err for word in (".csv", "separated", "column"))
        bench.note(name, answer.status == 0 or named, answer.said if answer.status else f"{len(ROWS)} images read")
    split = [[n, NAMES.index(c), c] for n, c in ROWS]
    path = bench.write("split_zhou_Birds.json", json.dumps({"train": split[:2], "val": [], "test": split}))
    answer = evaluate(bench, path)
    bench.note("split_zhou_Birds.json", report(answer).get("n") == 8 or (answer.status == 2 and "split" in answer.err), answer.said)
    path = bench.write("several.csv", "path,label\n" + "".join(f"{n},{c};sun\n" for n, c in ROWS))
    bench.refused("two labels in a cell", evaluate(bench, path, "--labels", *NAMES), "penguin;sun")


def tars(bench):
    def tar(name, members):
        with tarfile.open(bench.folder / name, "w") as archive:
            for member, content in members:
                entry = tarfile.TarInfo(member)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))

    pairs = lambda key, other, of: [
        item
        for number, (_, label) in enumerate(ROWS)
        for item in ((f"{key(number)}.jpg", picture(number)), (f"{key(number)}.{other}", of(label).encode()))
    ]
    tar("dotted_names.tar", pairs(lambda n: f"img.v1.{n:03}", "txt", lambda c: f"a {c}"))
    tar("wds_classes.tar", pairs(lambda n: f"s{n:05}", "cls", lambda c: str(NAMES.index(c))))
    tuning = ["--model", "tiny", "--batch-size", "8", "--loss", "clip", "--steps", "1", "--out", bench.folder / "out"]
    bench.refused("dotted_names.tar", bench.run("finetune", "dotted_names.tar", *tuning), "first dot", "img.v1.000")
    answer = evaluate(bench, "wds_classes.tar", "--labels", *NAMES)
    bench.note("wds_classes.tar", report(answer).get("n") == 8 or (answer.status == 2 and "tar" in answer.err), answer.said)


CASES = {
    "d01-splits-as-classes": splits,
    "d02-system-folders": system_folders,
    "d03-nfd-folders": normal_forms,
    "d04-manifest-kinds": manifests,
    "d05-numbers-as-labels": numbers,
    "d06-numbered-folders": numbered_folders,
    "d07-real-folder-names": real_folder_names,
    "d08-sidecars": sidecars,
    "d09-caption-files": caption_files,
    "d10-tars": tars,
}
