"""Draws every artwork of every thing once, at the few sizes needed for composition.

The result is one .npz: training artwork at `SIZES`, and the held-out artwork at `LARGE`, from which
the evaluation composes images of realistic size. All arrays are RGBA with the colour
premultiplied by alpha, so that they can be resized and blended without dark rims.
"""

import io
import json
import re
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import resvg_py
from PIL import Image

import things

SIZES = (96, 48, 28)
LARGE = 256

# set: folder below work/npm. Drawings by the same artist are grouped.
TRAINING = {
    "noto": "iconify-json-noto",
    "noto-v1": "iconify-json-noto-v1",
    "twemoji": "iconify-json-twemoji",
    "fluent": "iconify-json-fluent-emoji",
    "fluent-flat": "iconify-json-fluent-emoji-flat",
    "fluent-3d": "lobehub-fluent-emoji-3d",
    "fxemoji": "iconify-json-fxemoji",
    "streamline": "iconify-json-streamline-emojis",
}
# EmojiOne 2: drawn by none of the artists above, and the largest such set.
HELD_OUT = {"emojione": "iconify-json-emojione"}

# Eleven colour words with RGB values. A pixel gets the nearest one.
COLOURS = {
    "black": (25, 25, 25), "grey": (140, 140, 140), "white": (245, 245, 245),
    "red": (215, 45, 50), "orange": (245, 145, 35), "yellow": (250, 210, 60),
    "green": (90, 165, 70), "blue": (65, 145, 220), "purple": (140, 80, 180),
    "pink": (240, 140, 170), "brown": (125, 80, 50),
}  # fmt: skip


def drawings(work, folder, kept):
    """(index of the thing, SVG text or image bytes) of one set.

    Sets without code points are matched on the name; "strawberry-2" is a second drawing.
    """
    source = Path(work) / "npm" / folder
    if (source / "assets").is_dir():
        files = {path.stem.upper(): path for path in (source / "assets").glob("*.webp")}
        plain = {code.replace("-FE0F", ""): path for code, path in files.items()}
        for index, thing in enumerate(kept):
            path = files.get(thing.code) or plain.get(thing.code.replace("-FE0F", ""))
            if path:
                yield index, path.read_bytes()
        return
    icons = json.loads((source / "icons.json").read_text())
    wanted = {}
    for index, thing in reversed(list(enumerate(kept))):
        for name in reversed(thing.names):
            wanted[things.key(name)] = index
    for index, thing in enumerate(kept):
        wanted[things.key(thing.label)] = index
    aliases = {a["parent"]: name for name, a in icons.get("aliases", {}).items() if len(a) == 1}
    for name, icon in icons["icons"].items():
        candidates = [name, aliases.get(name, name), re.sub(r"-\d$", "", name)]
        index = next((wanted[k] for k in map(things.key, candidates) if k in wanted), None)
        if index is not None:
            width = icon.get("width", icons.get("width", 16))
            height = icon.get("height", icons.get("height", 16))
            yield index, svg(icon["body"], width, height)


def svg(body, width, height):
    """A complete SVG document for an icon's body."""
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">{body}</svg>'
    )


def draw(source):
    """One drawing as premultiplied RGBA [LARGE, LARGE, 4], cropped to the non-transparent part."""
    if isinstance(source, str):
        source = bytes(resvg_py.svg_to_bytes(svg_string=source, width=LARGE, skip_system_fonts=True))
    image = Image.open(io.BytesIO(source)).convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 * (a > 8)).getbbox()
    if box is None:
        return None
    pixels = np.asarray(image.crop(box), np.float32)
    pixels[..., :3] *= pixels[..., 3:] / 255
    height, width = pixels.shape[:2]
    side = max(height, width)
    square = np.zeros((side, side, 4), np.float32)
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = pixels
    return resized(square, LARGE)


def resized(pixels, size):
    """The image at another size: averaged when smaller, cubic when larger."""
    way = cv2.INTER_AREA if size < pixels.shape[0] else cv2.INTER_CUBIC
    return np.clip(cv2.resize(pixels, (size, size), interpolation=way) + 0.5, 0, 255).astype(np.uint8)


def colour(pixels):
    """The dominant colour word of a drawing, or "" if none covers 45%."""
    small = pixels.reshape(-1, 4)
    solid = small[small[:, 3] > 200].astype(np.float32)[:, :3]
    if len(solid) < 20:
        return ""
    distances = np.square(solid[:, None] - np.array(list(COLOURS.values()))).sum(-1)
    counts = np.bincount(distances.argmin(1), minlength=len(COLOURS))
    best = counts.argmax()
    return list(COLOURS)[best] if counts[best] >= 0.45 * len(solid) else ""


def render_one(job):
    """(thing, large image) of one drawing; None if it is empty."""
    index, source = job
    return index, draw(source)


def render(work):
    """Writes work/art.npz, unless it exists."""
    target = Path(work) / "art.npz"
    if target.exists():
        return
    kept = things.load(work)
    arrays = {}
    with ProcessPoolExecutor(2) as pool:
        for part, sets in (("training", TRAINING), ("held_out", HELD_OUT)):
            whose, names, larges = [], [], []
            for name, folder in sets.items():
                jobs = list(drawings(work, folder, kept))
                done = [d for d in pool.map(render_one, jobs, chunksize=32) if d[1] is not None]
                whose += [index for index, _ in done]
                names += [name] * len(done)
                larges += [large for _, large in done]
                print(f"{name}: {len(done)} drawings of {len({i for i, _ in done})} things", flush=True)
            arrays[f"{part}_thing"] = np.array(whose, np.int32)
            arrays[f"{part}_set"] = np.array(names)
            for size in SIZES:
                arrays[f"{part}_{size}"] = np.stack([resized(x, size) for x in larges])
            arrays[f"{part}_colour"] = np.array([colour(x) for x in arrays[f"{part}_48"]])
            if part == "held_out":
                arrays[f"held_out_{LARGE}"] = np.stack(larges)
    partial = target.with_suffix(".partial.npz")
    np.savez(partial, **arrays)
    partial.rename(target)


if __name__ == "__main__":
    import sys

    render(sys.argv[1])
