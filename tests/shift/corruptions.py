#!/usr/bin/env python3
"""How well `longclip shift` predicts the accuracy of the built-in model on corrupted drawings.

Draws sets of 60 things in artwork that the model was not trained on (EmojiOne 2, CC-BY 4.0), each
at several sizes and places on plain grounds. A is clean; B are other draws of the same things,
clean and under six corruptions at three strengths. Prints the table of README.md: p, CMMD, the
expected accuracies and the true one, which the program knows from B's folders and its
expectations do not.

    npm pack @iconify-json/emojione@1.2.3 && tar xzf iconify-json-emojione-1.2.3.tgz
    tests/shift/corruptions.py package/icons.json --longclip target/release/longclip

Needs numpy, pillow and resvg_py.
"""

import argparse
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import resvg_py
from PIL import Image, ImageEnhance, ImageFilter

SIDE = 224
EACH = 10
THINGS = """penguin owl duck cat-face dog-face panda-face whale dolphin octopus snail turtle elephant tiger-face
rabbit-face frog-face monkey-face horse-face pig-face bear-face lion-face crab honeybee butterfly spider scorpion rose sunflower
mushroom cactus evergreen-tree strawberry banana grapes watermelon pineapple carrot tomato pizza hamburger doughnut
bicycle automobile bus rocket airplane sailboat telescope microscope candle umbrella guitar violin trumpet
key hammer scissors alarm-clock rainbow snowman crown""".split()


def svg(icons, name):
    icon = icons["icons"][name]
    width, height = (icon.get(side, icons.get(side, 16)) for side in ("width", "height"))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="0 0 {width} {height}" width="{width}" height="{height}">{icon["body"]}</svg>'
    )


def picture(drawing, rng):
    """The drawing at 60 to 90% of the side, near the centre of a light ground."""
    ground = Image.new("RGB", (SIDE, SIDE), tuple(int(c) for c in rng.integers(170, 256, 3)))
    size = int(SIDE * rng.uniform(0.6, 0.9))
    small = drawing.resize((size, size), Image.Resampling.LANCZOS)
    place = tuple(int(v) for v in rng.uniform(0, SIDE - size, 2))
    ground.paste(small, place, small)
    return ground


def noise(image, strength, rng):
    pixels = np.asarray(image, np.float32) + rng.normal(0, (20, 50, 90)[strength], (SIDE, SIDE, 3))
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def blur(image, strength, _):
    return image.filter(ImageFilter.GaussianBlur((2, 5, 9)[strength]))


def jpeg(image, strength, _):
    data = io.BytesIO()
    image.save(data, "JPEG", quality=(25, 8, 2)[strength])
    return Image.open(data).convert("RGB")


def dark(image, strength, _):
    return ImageEnhance.Brightness(image).enhance((0.6, 0.3, 0.12)[strength])


def contrast(image, strength, _):
    return ImageEnhance.Contrast(image).enhance((0.5, 0.25, 0.1)[strength])


def pixelate(image, strength, _):
    small = (56, 28, 16)[strength]
    return image.resize((small, small), Image.Resampling.BOX).resize((SIDE, SIDE), Image.Resampling.NEAREST)


CORRUPTIONS = [noise, blur, jpeg, dark, contrast, pixelate]


def write(folder, drawings, seed, spoil):
    rng = np.random.default_rng(seed)
    for name, drawing in drawings.items():
        (folder / name).mkdir(parents=True)
        for number in range(EACH):
            spoil(picture(drawing, rng), rng).save(folder / name / f"{number}.png")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("icons", type=Path)
    parser.add_argument("--longclip", default="target/release/longclip")
    args = parser.parse_args()
    icons = json.loads(args.icons.read_text())
    missing = [name for name in THINGS if name not in icons["icons"]]
    if missing:
        sys.exit(f"the artwork lacks {missing}")
    drawings = {}
    for name in THINGS:
        data = bytes(resvg_py.svg_to_bytes(svg_string=svg(icons, name), width=SIDE, skip_system_fonts=True))
        label = name.replace("-face", "").replace("-", " ")
        drawings[label] = Image.open(io.BytesIO(data)).convert("RGBA")
    sets = [("none", "", lambda image, rng: image)]
    for corruption in CORRUPTIONS:
        for strength in range(3):
            spoil = lambda image, rng, c=corruption, s=strength: c(image, s, rng)
            sets.append((corruption.__name__, strength + 1, spoil))
    print("| corruption | strength | p | CMMD | AUC | expected (ATC) | expected (DoC) | true | ATC off |")
    print("|---|---|---|---|---|---|---|---|---|")
    errors = {"atc": [], "doc": []}
    with tempfile.TemporaryDirectory() as room:
        room = Path(room)
        write(room / "clean", drawings, 1, lambda image, rng: image)
        for at, (name, strength, spoil) in enumerate(sets):
            folder = room / f"{at}"
            write(folder, drawings, 2 + at, spoil)
            command = [args.longclip, "shift", room / "clean", folder, "-q", "-f", "json", "--model", "tiny"]
            command += ["--template", "a picture of a {}", "--labels", *drawings]
            found = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
            accuracy = found["accuracy"]
            for key, off in errors.items():
                off.append(abs(accuracy[key] - accuracy["b"]))
            row = [name, strength, f"{found['mmd']['p']:.3f}", f"{found['cmmd']['value']:.2f}"]
            row += [f"{found['c2st']['auc']:.2f}"]
            row += [f"{accuracy[key]:.3f}" for key in ("atc", "doc", "b")]
            row += [f"{accuracy['atc'] - accuracy['b']:+.3f}"]
            print("| " + " | ".join(map(str, row)) + " |", flush=True)
    print(f"\naccuracy on A {accuracy['a']:.3f}; mean absolute error", end=" ")
    print(", ".join(f"{key} {np.mean(off):.3f}" for key, off in errors.items()))


if __name__ == "__main__":
    main()
