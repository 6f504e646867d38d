"""Images in Parquet tables against the same images in a folder, over what pyarrow can write.

    pip install pyarrow==26.0.1 pillow==13.0.0
    python tests/image/tables.py target/release/longclip

200 images in each codec, as a column of bytes and as the hub's pair of bytes and path, in several
sizes of row groups and pages, both versions of pages, and the encodings of bytes. The records of
`classify` must be those of the folder, byte for byte. Then the peak memory over a table of 500 MB
in one row group, against that over its folder of 100 images.
"""

import io
import itertools
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

LONGCLIP = str(Path(sys.argv[1]).resolve())
NAME = "x.parquet"
ARGUMENTS = ["classify", NAME, "--model", "tiny", "--labels", "cat", "dog", "--format", "jsonl"]


def image(number, side, kind):
    noise = random.Random(number).randbytes(side * side * 3)
    written = io.BytesIO()
    Image.frombytes("RGB", (side, side), noise).save(written, kind)
    return written.getvalue()


def run(folder, *more):
    """What the program writes, and its peak memory in MB."""
    most = 0
    with open(folder / "out", "wb") as out:
        process = subprocess.Popen([LONGCLIP, *ARGUMENTS, *more], cwd=folder, stdout=out, stderr=subprocess.DEVNULL)
        # At the end, the kernel would count this script's memory too.
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            most = max([most, *map(int, re.findall(r"VmHWM:\s+(\d+) kB", status))])
            time.sleep(0.005)
    assert process.returncode == 0, (folder, process.returncode)
    return (folder / "out").read_bytes(), most / 1024



def columns(names, images, is_hub):
    bytes_, paths = pa.array(images, pa.binary()), pa.array(names, pa.string())
    if is_hub:
        image_ = pa.StructArray.from_arrays([bytes_, paths], names=["bytes", "path"])
        return pa.table({"image": image_, "label": pa.array([0] * len(names))})
    return pa.table({"path": paths, "jpg": bytes_})


def main(room):
    cache = ["--cache", str(room / "cache")]
    kinds = [("JPEG", ".jpg"), ("PNG", ".png")]
    images = {f"{number:03}{kinds[number % 2][1]}": image(number, 20 + number, kinds[number % 2][0])
              for number in range(200)}
    folder = room / "folder"
    (folder / NAME).mkdir(parents=True)
    for name, content in images.items():
        (folder / NAME / name).write_bytes(content)
    expected, _ = run(folder, *cache)
    assert expected.count(b"\n") == len(images)
    table = room / "table"
    table.mkdir()
    count = 0
    groups = [(7, 1 << 10, 1), (64, 1 << 16, 8), (200, 1 << 20, 1024)]
    encodings = [None, "PLAIN", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"]
    for codec, is_hub, (rows, page, batch), version, encoding in itertools.product(
        ["none", "snappy", "gzip", "zstd"], [False, True], groups, ["1.0", "2.0"], encodings
    ):
        column = "image.bytes" if is_hub else "jpg"
        how = {"column_encoding": {column: encoding}, "use_dictionary": False} if encoding else {}
        pq.write_table(
            columns(images.keys(), images.values(), is_hub), table / NAME, compression=codec,
            row_group_size=rows, data_page_size=page, write_batch_size=batch, data_page_version=version, **how,
        )
        found, _ = run(table, *cache)
        assert found == expected, (codec, is_hub, rows, page, version, encoding)
        count += 1
    print(f"{count} tables of {len(images)} images: records as of the folder, byte for byte")
    large = {f"{number:04}.png": image(number, 184, "PNG") for number in range(100)}
    few = room / "few"
    (few / NAME).mkdir(parents=True)
    for name, content in large.items():
        (few / NAME / name).write_bytes(content)
    _, least = run(few, *cache)
    print(f"peak memory: {least:.0f} MB over a folder of {len(large)} images of {len(content) / 1e3:.0f} kB")
    for codec in ["none", "snappy", "gzip", "zstd"]:
        pq.write_table(
            columns([f"{number:05}.png" for number in range(5000)], [*large.values()] * 50, True),
            table / NAME, compression=codec, row_group_size=5000, use_dictionary=False,
        )
        about = pq.ParquetFile(table / NAME).metadata
        found, most = run(table, *cache)
        assert about.num_row_groups == 1 and found.count(b"\n") == 5000
        size = (table / NAME).stat().st_size / 1e6
        print(f"peak memory: {most:.0f} MB over a table of {size:.0f} MB, {codec}, one row group")


with tempfile.TemporaryDirectory() as name:
    main(Path(name))
