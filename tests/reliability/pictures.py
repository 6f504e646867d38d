#!/usr/bin/env python3
"""What images cost and whether any brings the program down.

  pictures.py target/release/longclip WORK [--corpus DIR] [--photos DIR...]

Three runs of `classify --model tiny`, each with its time, the largest resident size of the process
and that of the same run on one small image:

- bombs: files of little content and many pixels, made here; none may crash, take over two seconds
  of CPU time or more memory than --max-memory and a quarter of it (plain ones of 196 megapixels, as
  any encoder writes them, may take longer);
- --corpus: a folder of broken and odd images; one record per file, and no other status than 1;
- --photos: folders of JPEGs that are intact, each also cropped and encoded again in many ways;
  none may have a warning, with --strict.

Needs Pillow and NumPy. Ends with status 1 if anything failed. Damaged copies are another command:

  LONGCLIP_FUZZ_MUTATIONS=20000 cargo test --release --test fuzz images -- --nocapture
"""

import argparse
import json
import multiprocessing
import os
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

from PIL import Image

#: Memory for images, and what rounding and the allocator may add, in MB.
LIMIT, SLACK = 512, 64
#: Most CPU seconds of one bomb.
SLOWEST = 2.0
#: JPEGs made of each photo: crop, then Pillow's options.
WAYS = [
    (0, {"quality": 75}),
    (0, {"quality": 95, "subsampling": 0}),
    (1, {"quality": 60, "subsampling": 1}),
    (1, {"quality": 85, "progressive": True}),
    (2, {"quality": 40, "subsampling": 2, "progressive": True}),
    (2, {"quality": 90, "optimize": True}),
    (3, {"quality": 80, "restart_marker_rows": 1}),
    (3, {"quality": 10}),
]


def png(width, height, kind, bits, interlaced=0):
    """A black PNG; `kind` 0 grey, 2 RGB, 6 RGBA."""
    row = bytes(1 + (width * {0: 1, 2: 3, 6: 4}[kind] * bits + 7) // 8)
    packer = zlib.compressobj(1)
    block = max(1, (1 << 20) // len(row))
    rows = height + 2 * interlaced  # its passes have more rows, each with a byte for its filter
    data = [packer.compress(row * min(block, rows - top)) for top in range(0, rows, block)]

    def chunk(tag, body):
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, interlaced)
    data = b"".join([*data, packer.flush()])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def gif(screen, frame, data):
    """A GIF of two colours."""
    header = struct.pack("<HHBBB", *screen, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return b"GIF89a" + header + b"," + struct.pack("<HHHHB", 0, 0, *frame, 0) + data + b"\0;"


def tiff(width, height, bits, compression, data, *more):
    """A grey TIFF of one strip."""
    entries = [(256, width), (257, height), (258, bits), (259, compression), (262, 1), (273, None),
               (278, height), (279, len(data)), *more]
    start = 8 + 2 + 12 * len(entries) + 4
    fields = [struct.pack("<HHII", tag, 4, 1, start if value is None else value) for tag, value in entries]
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + b"".join(fields) + bytes(4) + data


def bombs(folder):
    """Files of few bytes that claim or hold many pixels."""
    packed = lambda count: b"\x81\0" * (count // 128 + 1)
    bmp = struct.pack("<IHHI", 1080, 0, 0, 1078) + struct.pack("<IiiHHIIiiII", 40, 14000, 14000, 1, 8, 1, 2, 0, 0, 256, 0)
    files = {
        "rgba16.png": png(14142, 14142, 6, 16),
        "interlaced.png": png(14142, 14142, 0, 8, 1),
        "tall.png": png(1, 200_000_000, 0, 8),
        "tall-million.png": png(1, 1_000_000, 0, 8),
        "tall-thousand.png": png(1000, 199_999, 2, 8),
        "wide-thousand.png": png(199_999, 1000, 2, 8),
        "wide-million.png": png(1_000_000, 200, 6, 16),
        "cut.png": png(14142, 14142, 6, 16)[:2000],
        "claim.gif": gif((14000, 14000), (14000, 14000), b"\x02\x01\x44"),
        "screen.gif": gif((14000, 14000), (1, 1), b"\x02\x02\x44\x01"),
        "packbits.tif": tiff(14142, 14142, 8, 32773, packed(14142**2)),
        "packbits-bits.tif": tiff(14142, 14142, 1, 32773, packed(1768 * 14142)),
        "packbits-float.tif": tiff(7000, 14142, 32, 32773, packed(28000 * 14142), (339, 3)),
        "fax.tif": tiff(14142, 14142, 1, 4, b"\xff" * 1800),
        "runs.bmp": b"BM" + bmp + bytes(1024) + b"\0\1",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    plain = Image.new("RGB", (14000, 14000), (9, 9, 9))
    plain.save(folder / "plain.webp", lossless=True)
    plain.save(folder / "plain-lossy.webp", quality=10)
    plain.save(folder / "plain.jpg", quality=5)
    plain.save(folder / "plain-progressive.jpg", quality=5, progressive=True)
    Image.new("RGB", (8000, 8000), "white").save(folder / "white.png")


def photos(sources, folder):
    """Intact JPEGs of `sources`, and others made of them."""
    originals = sorted({path for source in sources for path in source.rglob("*.jp*g")})
    for number, path in enumerate(originals):
        name = folder / f"{number:04}.jpg"
        name.write_bytes(path.read_bytes())
        image = Image.open(path).convert("RGB")
        width, height = image.size
        crops = [(0, 0, width, height), (width // 7, height // 9, width, height),
                 (0, 0, width * 2 // 3 + 1, height // 2 + 1), (width // 3, 0, width, height * 3 // 4 + 1)]
        for way, (crop, options) in enumerate(WAYS):
            image.crop(crops[crop]).save(folder / f"{number:04}-{way}.jpg", **options)


def apart(work, *arguments):
    """Calls `work` in a process of its own: a large parent counts as the size of its children."""
    process = multiprocessing.Process(target=work, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        sys.exit(f"{work.__name__} failed")


def run(options, *arguments):
    """Records, stderr, status, seconds, CPU seconds and the largest resident size in MB."""
    command = [options.longclip, "classify", "--model", "tiny", "-l", "cat", "dog", "-f", "jsonl",
               "--max-memory", f"{LIMIT}M", *map(str, arguments)]
    start = time.perf_counter()
    with open(options.work / "stderr.txt", "w") as errors, open(options.work / "records.jsonl", "w") as records:
        process = subprocess.Popen(command, stdout=records, stderr=errors)
        _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    lines = (options.work / "records.jsonl").read_text().splitlines()
    return {
        "records": [json.loads(line) for line in lines],
        "errors": (options.work / "stderr.txt").read_text(errors="replace"),
        "status": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "cpu": used.ru_utime + used.ru_stime,
        "megabytes": used.ru_maxrss / 1024,
    }


def shown(ran):
    refused = [record for record in ran["records"] if "error" in record]
    warned = [record for record in ran["records"] if "warnings" in record]
    return (f"{len(ran['records'])} records, {len(refused)} errors, {len(warned)} with warnings, status "
            f"{ran['status']}, {ran['seconds']:.1f} s, {ran['megabytes']:.0f} MB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("longclip")
    parser.add_argument("work", type=Path)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    options = parser.parse_args()
    failures = []

    def check(what, holds):
        if not holds:
            failures.append(what)
            print(f"FAILED: {what}")

    made, clean = options.work / "bombs", options.work / "photos"
    made.mkdir(parents=True, exist_ok=True)
    clean.mkdir(exist_ok=True)
    Image.new("RGB", (30, 20)).save(options.work / "small.png")
    base = run(options, options.work / "small.png")
    print(f"one small image: {base['seconds']:.2f} s, {base['megabytes']:.0f} MB")
    most = base["megabytes"] + LIMIT * 1.25 + SLACK

    apart(bombs, made)
    for path in sorted(made.iterdir()):
        ran = run(options, path, "--threads", 1)
        record = ran["records"][0] if ran["records"] else {}
        print(f"  {path.name:24} {path.stat().st_size:9} bytes {ran['cpu'] - base['cpu']:6.2f} s "
              f"{ran['megabytes'] - base['megabytes']:6.0f} MB  {record.get('error', 'answered')}")
        check(f"{path.name}: status {ran['status']}", ran["status"] in (0, 2) and len(ran["records"]) == 1)
        is_plain = path.name.startswith("plain")
        check(f"{path.name}: over {SLOWEST} s", is_plain or ran["cpu"] - base["cpu"] <= SLOWEST)
        check(f"{path.name}: over {most:.0f} MB", ran["megabytes"] <= most)
    for threads in (2, 8):
        ran = run(options, made, "--threads", threads)
        print(f"bombs, {threads} threads: {shown(ran)}")
        check("bombs together", ran["status"] == 1 and ran["megabytes"] <= most)

    if options.corpus:
        ran = run(options, options.corpus)
        print(f"corpus: {shown(ran)}")
        crashed = ran["errors"].count("this is a bug")
        check(f"corpus: {crashed} crashes", ran["status"] == 1 and crashed == 0)
        check(f"corpus: over {most:.0f} MB", ran["megabytes"] <= most)
    if options.photos:
        apart(photos, options.photos, clean)
        names = [path.stem for path in clean.iterdir()]
        originals = sum("-" not in name for name in names)
        others = len(names) - originals
        ran = run(options, clean, "--strict")
        print(f"photos: {originals} JPEGs and {others} made of them: {shown(ran)}")
        is_clean = ran["status"] == 0 and not any("warnings" in record for record in ran["records"])
        check("photos", is_clean and len(ran["records"]) == originals + others >= 260)
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
