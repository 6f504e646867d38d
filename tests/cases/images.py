"""Cases p…: kinds of images that decoders get wrong. Pillow is the reference."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from bench import DRAWING, PHOTOGRAPH

HERE = Path(__file__).parent / "images"
RIGHT = 0.995


def embedding(bench, path):
    answer = bench.run("embed", path, "--model", "tiny", "--precision", "f32")
    vector = answer.records[0].get("embedding") if answer.records else None
    return (None if vector is None else np.array(vector)), answer


def compare(bench, name, path, image, refusal=()):
    """Compares the file with Pillow's result; or it is refused with these words."""
    reference = bench.folder / f"{name}.reference.png"
    image.convert("RGB").save(reference)
    want, _ = embedding(bench, reference)
    got, answer = embedding(bench, path)
    if got is None:
        words = all(word in answer.err for word in refusal) and "again" not in answer.err
        bench.note(name, bool(refusal) and answer.status == 2 and words, answer.said)
    else:
        cosine = float(want @ got)
        bench.note(name, cosine >= RIGHT, f"cosine {cosine:.5f}")


def against_pillow(bench, names, refusal=()):
    for name in names:
        compare(bench, name, HERE / name, ImageOps.exif_transpose(Image.open(HERE / name)), refusal)


def chroma_finer(bench):
    against_pillow(bench, ["base_1x1_2x2_2x2.jpg", "base_1x1_2x1_2x1.jpg", "prog_1x1_2x2_2x2.jpg"])


def jpeg_kinds(bench):
    against_pillow(bench, ["mjpeg_without_dht.jpg"])
    against_pillow(bench, ["arithmetic.jpg"], ["arithmetic"])


def orientation(bench):
    against_pillow(bench, ["png_raw_profile.png"])
    photograph = Image.open(PHOTOGRAPH).convert("RGB").resize((120, 80))
    for number in (3, 6, 8):
        for kind, size in ((3, "H"), (4, "I")):
            value = struct.pack("<" + size, number).ljust(4, b"\0")
            exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + struct.pack("<HHI", 0x0112, kind, 1) + value + b"\0\0\0\0"
            for suffix in ("jpg", "png", "webp"):
                name = f"{number}-{'SHORT' if kind == 3 else 'LONG'}.{suffix}"
                photograph.save(bench.folder / name, exif=exif, **({"lossless": True} if suffix == "webp" else {}))
                compare(bench, name, bench.folder / name, ImageOps.exif_transpose(Image.open(bench.folder / name)))


def alpha_all_zero(bench):
    drawing = Image.open(DRAWING).convert("RGB").resize((121, 93))
    compare(bench, "bmp_v4.bmp", HERE / "bmp_v4.bmp", Image.open(HERE / "bmp_v4.bmp"))
    labels = ["a penguin", "a blank white page"]
    answer = bench.run("classify", HERE / "bmp_v4.bmp", "--labels", *labels, "--model", "tiny")
    bench.note("a penguin is seen", next(iter(answer.labels), "") == labels[0], json.dumps(answer.labels))
    drawing.putalpha(0)
    drawing.save(bench.folder / "clear.png")
    answer = bench.run("classify", bench.folder / "clear.png", "--labels", *labels, "--model", "tiny")
    seen = next(iter(answer.labels), "") == labels[0]
    bench.note("a PNG that is transparent everywhere", seen or "transparent" in answer.err, answer.said)


def chunks(data):
    place = 8
    while place < len(data):
        length = struct.unpack(">I", data[place : place + 4])[0]
        yield data[place : place + 12 + length]
        place += 12 + length


def png(bench):
    answer = bench.run("embed", HERE / "cgbi.png", "--model", "tiny")
    bench.refused("cgbi.png", answer, "iOS")
    stream = io.BytesIO()
    drawing = Image.open(DRAWING).convert("RGB").resize((121, 93))
    drawing.save(stream, "PNG")
    whole = stream.getvalue()
    parts = list(chunks(whole))
    bad = b"tEXt" + b"a\0b"
    for name, data in {
        "without_iend.png": whole[:-12],
        "bad_text_crc.png": whole[:33] + struct.pack(">I", 3) + bad + struct.pack(">I", zlib.crc32(bad) ^ 1) + whole[33:],
        "data_after_iend.png": whole + b"trailing",
        "half_of_iend.png": whole[:-6],
    }.items():
        compare(bench, name, bench.write(name, data), drawing)
    answer = bench.run("embed", bench.folder / "without_iend.png", "--model", "tiny")
    bench.note("without_iend.png warns", answer.status == 0 and answer.err.strip(), answer.said)
    cut = bench.write("cut.png", b"".join([whole[:8], *parts[:1], parts[1][:60]]))
    answer = bench.run("embed", cut, "--model", "tiny", "--strict")
    bench.note("cut.png with --strict", answer.status == 2, answer.said)


def tiff(bench):
    against_pillow(bench, ["palette.tif", "ycbcr.tif", "jpeg.tif"])
    photograph = Image.open(PHOTOGRAPH).convert("RGB").resize((120, 80))
    grey = photograph.convert("L")
    clear = photograph.convert("LA")
    kinds = {
        "lzw": (photograph, "tiff_lzw"),
        "deflate": (photograph, "tiff_adobe_deflate"),
        "zstd": (photograph, "zstd"),
        "packbits": (grey, "packbits"),
        "group3": (photograph.convert("1"), "group3"),
        "group4": (photograph.convert("1"), "group4"),
        "bilevel": (photograph.convert("1"), None),
        "grey-alpha": (clear, None),
        "palette-4": (photograph.quantize(16), None),
        "cmyk": (photograph.convert("CMYK"), None),
        "jpeg": (photograph, "jpeg"),
    }
    for name, (image, compression) in kinds.items():
        path = bench.folder / f"{name}.tif"
        image.save(path, **({"compression": compression} if compression else {}))
        shown = Image.open(path)
        shown = shown.convert("RGBA") if shown.mode == "LA" else shown
        compare(bench, path.name, path, shown, ["TIFF"])
    Image.fromarray(np.asarray(grey, dtype=np.float32)).save(bench.folder / "float.tif")
    compare(bench, "float.tif", bench.folder / "float.tif", Image.open(bench.folder / "float.tif").convert("L"), ["TIFF"])


CASES = {
    "p01-jpeg-chroma-finer": chroma_finer,
    "p02-jpeg-kinds": jpeg_kinds,
    "p03-orientation": orientation,
    "p04-alpha-all-zero": alpha_all_zero,
    "p05-png": png,
    "p06-tiff": tiff,
}
