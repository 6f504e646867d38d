"""Compares pixels of HEIC, AVIF, JPEG XL and raw previews with those of Pillow's plugins.

    cargo build --release --example decode_image --features avif,jxl
    python tests/image/compare.py FOLDER [FILE...] [--decoder target/release/examples/decode_image]

(Pillow 13 with AVIF, pillow-heif 1.8, pillow-jxl-plugin 1.3, numpy, rawpy 0.28.) Writes variants of
the demo photographs into FOLDER with these plugins, and compares them and each FILE. It prints each
file that differs in its mean by more than 2 of 255 or that only one side reads, and a table.
"""

import argparse
import collections
import io
import struct
import subprocess
from pathlib import Path

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401, a plugin
import rawpy
from PIL import Image, ImageOps

ROOT = Path(__file__).parents[2]
Image.MAX_IMAGE_PIXELS = None
pillow_heif.register_heif_opener()


def variants(folder):
    """Writes the files and returns their paths."""
    paths = []

    def put(image, name, **options):
        paths.append(folder / name)
        image.save(paths[-1], **options)

    for name in ("chelsea.png", "coffee.jpg", "rocket.jpg"):
        whole = Image.open(ROOT / "assets/demo" / name).convert("RGB")
        stem = name.split(".")[0]
        rows = np.arange(whole.height)[:, None] * 255 // whole.height
        cover = Image.fromarray(np.broadcast_to(rows, (whole.height, whole.width)).astype(np.uint8))
        clear = whole.copy()
        clear.putalpha(cover)
        odd = whole.crop((0, 0, 211, 133))
        turned = Image.Exif()
        for quality in (40, 75, 95):
            for sampling in ("420", "422", "444"):
                mark = f"{stem}-{quality}-{sampling}"
                put(whole, f"{mark}.heic", quality=quality, chroma=int(sampling))
                put(whole, f"{mark}.avif", quality=quality, subsampling=":".join(sampling))
            put(clear, f"{stem}-{quality}-alpha.heic", quality=quality)
            put(clear, f"{stem}-{quality}-alpha.avif", quality=quality)
            put(whole, f"{stem}-{quality}.jxl", quality=quality)
            put(clear, f"{stem}-{quality}-alpha.jxl", quality=quality)
        for suffix in ("heic", "avif", "jxl"):
            put(odd, f"{stem}-odd.{suffix}")
            put(whole.convert("L"), f"{stem}-grey.{suffix}")
            # The plugin for JPEG XL notes a turn in EXIF data only, which do not count there.
            for value in range(2, 9) if suffix != "jxl" else ():
                turned[0x0112] = value
                put(odd, f"{stem}-turned{value}.{suffix}", exif=turned.tobytes())
        put(whole, f"{stem}-lossless.jxl", lossless=True)
        put(clear, f"{stem}-alpha-lossless.jxl", lossless=True)
        deep = (np.asarray(whole).astype(np.uint16) * 257).tobytes()
        for bits in (10, 12):
            pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
            paths.append(folder / f"{stem}-{bits}.heic")
            pillow_heif.from_bytes("RGB;16", whole.size, deep).save(paths[-1], quality=90)
        for value in (1, 3, 6, 8):
            paths.append(folder / f"{stem}-{value}.dng")
            paths[-1].write_bytes(dng(odd, value))
    return paths


def dng(image, orientation):
    """A DNG with a small preview, a larger one, and a sensor's data of nothing."""
    previews = []
    for size in ((64, 40), image.size):
        file = io.BytesIO()
        image.resize(size).save(file, "JPEG", quality=90)
        previews.append(file.getvalue())
    short, long, byte, text = 3, 4, 1, 2
    sensor = np.full((64, 64), 1000, np.uint16).tobytes()
    start, blocks = 8, []

    def place(data):
        nonlocal start
        data += bytes(len(data) % 2)
        blocks.append(data)
        start += len(data)
        return start - len(data)

    def directory(entries):
        rows = b""
        for tag, kind, values in sorted(entries):
            form = {short: "H", long: "I", byte: "B", text: "B", 5: "I", 10: "i"}[kind]
            data = struct.pack(f"<{len(values)}{form}", *values)
            count = len(values) // 2 if kind in (5, 10) else len(values)
            field = data.ljust(4, b"\0") if len(data) <= 4 else struct.pack("<I", place(data))
            rows += struct.pack("<HHI", tag, kind, count) + field
        return place(struct.pack("<H", len(entries)) + rows + bytes(4))

    def of_preview(data, size):
        width, height = size
        return [(254, long, [1]), (256, long, [width]), (257, long, [height]), (258, short, [8] * 3),
                (259, short, [7]), (262, short, [6]), (273, long, [place(data)]), (277, short, [3]),
                (278, long, [height]), (279, long, [len(data)])]  # fmt: skip

    raw = directory([
        (254, long, [0]), (256, long, [64]), (257, long, [64]), (258, short, [16]), (259, short, [1]),
        (262, short, [32803]), (273, long, [place(sensor)]), (277, short, [1]), (278, long, [64]),
        (279, long, [len(sensor)]), (33421, short, [2, 2]), (33422, byte, [0, 1, 1, 2]),
    ])  # fmt: skip
    large = directory(of_preview(previews[1], image.size))
    matrix = [value for one in (1, 0, 0, 0, 1, 0, 0, 0, 1) for value in (one, 1)]
    first = directory([
        *of_preview(previews[0], (64, 40)), (271, text, b"Drawn\0"), (272, text, b"Test\0"),
        (274, short, [orientation]), (330, long, [raw, large]), (50706, byte, [1, 4, 0, 0]),
        (50708, text, b"Drawn Test\0"), (50721, 10, matrix), (50728, 5, [1, 1] * 3),
    ])  # fmt: skip
    return struct.pack("<2sHI", b"II", 42, first) + b"".join(blocks)


def expected(path):
    """Upright RGB on white."""
    if path.suffix == ".dng":
        with rawpy.imread(str(path)) as raw:
            turn = raw.sizes.flip
            # The last method is a dictionary's, of the largest preview.
            image = Image.open(io.BytesIO(raw.extract_thumb().data))
        return image.rotate({0: 0, 3: 180, 5: 90, 6: -90}[turn], expand=True).convert("RGB")
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I;16"):
        # Pillow cuts these at 255.
        grey = (np.asarray(image).astype(np.uint32) + 128) // 257
        return Image.fromarray(grey.astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("files", type=Path, nargs="*")
    parser.add_argument("--decoder", default=str(ROOT / "target/release/examples/decode_image"))
    arguments = parser.parse_args()
    out = arguments.folder / "pixels"
    out.mkdir(parents=True, exist_ok=True)
    paths = variants(arguments.folder) + arguments.files
    said = subprocess.run(
        [arguments.decoder, out, *paths], check=True, capture_output=True, text=True
    )
    lines = dict(line.split("\t", 1) for line in said.stdout.splitlines())
    table = collections.defaultdict(list)
    for path in paths:
        kind, _, note = lines[path.name].partition("\t")
        try:
            reference = np.asarray(expected(path)).astype(int)
        except Exception as error:
            reference = None
            print(f"{path.name}: the reference says {error}; {kind} {note}")
        if kind == "-" or reference is None:
            if reference is not None:
                print(f"{path.name}: {note}")
                table[path.suffix].append(None)
            continue
        found = np.asarray(Image.open(out / f"{path.name}.ppm")).astype(int)
        if found.shape != reference.shape:
            print(f"{path.name}: {found.shape} instead of {reference.shape}")
            table[path.suffix].append(None)
            continue
        difference = abs(found - reference)
        table[path.suffix].append((difference.mean(), difference.max()))
        if difference.mean() > 2:
            print(f"{path.name}: mean {difference.mean():.3f}, maximum {difference.max()}; {note}")
    print(
        f"{'format':8} {'files':>5} {'equal size':>10} {'mean':>7} {'largest mean':>12} {'maximum':>7}"
    )
    for suffix, rows in sorted(table.items()):
        if not any(rows):
            print(f"{suffix:8} {len(rows):5} {0:10}")
            continue
        means, most = zip(*[row for row in rows if row], strict=True)
        print(
            f"{suffix:8} {len(rows):5} {len(means):10} {np.mean(means):7.3f} {max(means):12.3f} {max(most):7}"
        )


if __name__ == "__main__":
    main()
