"""Writes tests/golden/expected/pixels.safetensors: the pixels that Pillow and torchvision produce
for the images in tests/fixtures/image and assets/demo, in this project's order: orientation, alpha
on white, RGB, resize of the short side (bicubic), centre crop; and resize.json, the SHA-256 of what
Pillow makes of patterns of random sizes by both filters.

    python tests/golden/pixels.py          (Pillow 13.0.0, torchvision 0.29.2, numpy, safetensors)
    python tests/golden/pixels.py --sizes  # resize.json alone

Names are "<file>@<size>" or "<file>@<size>,<alpha>"; each is a u8 tensor [size, size, 3].
"""

import hashlib
import json
import random
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from safetensors.numpy import save_file
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "tests/fixtures/image"
SKIPPED = ("cut-", "broken-", "huge", "make", "tiled-", "rgb16", "rgba16")


def rgb(image, alpha="white"):
    """Upright RGB. Pillow rotates a TIFF on load and then removes the orientation."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    has_alpha = "A" in image.getbands() or image.info.get("transparency") is not None
    if not has_alpha:
        return image.convert("RGB")
    image = image.convert("RGBA")
    if alpha == "drop":
        return Image.fromarray(np.asarray(image)[..., :3].copy())
    background = Image.new("RGBA", image.size, alpha)
    return Image.alpha_composite(background, image).convert("RGB")


def pixels(path, size, alpha="white"):
    preprocess = Compose([Resize(size, InterpolationMode.BICUBIC), CenterCrop(size)])
    with Image.open(path) as image:
        return np.asarray(preprocess(rgb(image, alpha))).copy()


def resized():
    """[width, height, new width, new height, filter, digest of the centre] of 600 patterns."""
    draw, rows = random.Random(5), []
    for case in range(600):
        most = [12, 90, 700][case % 3]
        width, height = draw.randint(1, most), draw.randint(1, most)
        to = (draw.randint(1, 100), draw.randint(1, 100))
        at = np.arange(width * height * 3, dtype=np.uint64)
        pattern = ((at * at * 31 + at * 17 + at // 5) % 256).astype(np.uint8).reshape(height, width, 3)
        name = ["bicubic", "bilinear"][case % 2]
        image = Image.fromarray(pattern).resize(to, Image.Resampling[name.upper()])
        square = CenterCrop(min(to))(image)
        rows.append([width, height, *to, name, hashlib.sha256(square.tobytes()).hexdigest()])
    return rows


def main():
    out = ROOT / "tests/golden/expected/pixels.safetensors"
    out.parent.mkdir(exist_ok=True)
    rows = ",\n".join(json.dumps(row) for row in resized())
    out.with_name("resize.json").write_text(f"[\n{rows}\n]\n")
    if "--sizes" in sys.argv:
        return
    expected = {}
    for path in sorted(PICTURES.iterdir()):
        if path.name.startswith(SKIPPED) or path.suffix == ".py":
            continue
        size = 32 if path.name.startswith("size-") else 20
        expected[f"{path.name}@{size}"] = pixels(path, size)
    for name in ("rgba.png", "grey-alpha.png", "palette-transparent.png", "alpha.webp"):
        for alpha in ("black", "drop"):
            expected[f"{name}@20,{alpha}"] = pixels(PICTURES / name, 20, alpha)
    for name in ("chelsea.png", "coffee.jpg", "rocket.jpg"):
        expected[f"{name}@64"] = pixels(ROOT / "assets/demo" / name, 64)
    save_file(expected, out)
    print(f"{len(expected)} images, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
