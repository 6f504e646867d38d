"""Computes the corruptions of `longclip evaluate --corrupt` from their definition, and compares.

    python tests/evaluate/corrupt.py --longclip target/release/longclip

The definition stands in src/input/corrupt.rs; here it is written a second time, with NumPy, hashlib
and, for JPEG, libjpeg in Pillow. Random drawings as large as the model reads them are corrupted
here and evaluated as files; `evaluate --corrupt` on the plain drawings must give the same figures:
the mean negative log likelihood within 1e-5 relative. For JPEG it is within 5%: where a coefficient
lies halfway between two steps, the encoders differ, and at low quality a step is large. Requires
numpy and pillow.
"""

import argparse
import hashlib
import io
import json
import math
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

VALUES = {
    "noise": [0.08, 0.12, 0.18, 0.26, 0.38],
    "blur": [1, 2, 3, 4, 6],
    "jpeg": [25, 18, 15, 10, 7],
    "brightness": [0.1, 0.2, 0.3, 0.4, 0.5],
    "contrast": [0.4, 0.3, 0.2, 0.1, 0.05],
}
CLASSES = ["square", "disc", "line"]
MASK = (1 << 64) - 1


def mixed(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def normal(image, seed):
    digest = hashlib.sha256(seed.to_bytes(8, "little") + image.tobytes()).digest()
    key, numbers = int.from_bytes(digest[:8], "little"), []
    for pair in range(math.ceil(image.size / 2)):
        a, b = (mixed((key + (2 * pair + place) * 0x9E3779B97F4A7C15) & MASK) >> 11 for place in (1, 2))
        radius, angle = math.sqrt(-2 * math.log((a + 1) / 2**53)), 2 * math.pi * b / 2**53
        numbers += [radius * math.cos(angle), radius * math.sin(angle)]
    return np.array(numbers[: image.size]).reshape(image.shape)


def blurred(x, deviation):
    reach = math.ceil(3 * deviation)
    weights = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    weights /= weights.sum()
    for axis in (1, 0):
        wide = np.pad(x, [(reach, reach) if a == axis else (0, 0) for a in range(3)], mode="edge")
        parts = [np.take(wide, np.arange(x.shape[axis]) + tap, axis) for tap in range(2 * reach + 1)]
        x = sum(weight * part for weight, part in zip(weights, parts))
    return x


def corrupted(image, kind, value, seed):
    x = image.astype(np.float64)
    if kind == "jpeg":
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=value, subsampling=0)
        return np.asarray(Image.open(file).convert("RGB"))
    if kind == "noise":
        x = x + 255 * value * normal(image, seed)
    elif kind == "blur":
        x = blurred(x, value * image.shape[1] / 224)
    elif kind == "brightness":
        x = x + 255 * value
    else:
        mean = x.mean((0, 1))
        x = mean + value * (x - mean)
    return np.floor(np.clip(x, 0, 255) + 0.5).astype(np.uint8)


def drawing(kind, side, random):
    image = Image.fromarray(random.integers(90, 200, (side, side, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    x, y, size = (int(random.integers(side // 8, side // 3)) for _ in range(3))
    place, colour = [x, y, x + size, y + size], tuple(int(c) for c in random.integers(0, 256, 3))
    {"square": draw.rectangle, "disc": draw.ellipse, "line": draw.line}[kind](place, fill=colour)
    return np.asarray(image)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--longclip", required=True)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--images", type=int, default=8, help="per class")
    parser.add_argument("--seed", type=int, default=3)
    given = parser.parse_args()
    program = str(Path(given.longclip).resolve())

    def longclip(*arguments):
        ran = subprocess.run([program, *map(str, arguments), "-q"], check=True, stdout=subprocess.PIPE)
        return json.loads(ran.stdout)

    def evaluated(folder, *more):
        fixed = ["--model", given.model, "--precision", "f32", "--device", "cpu", "-f", "json"]
        return longclip("evaluate", folder, *fixed, "--labels", *CLASSES, *more)

    side = longclip("inspect", given.model, "--format", "json")["image_size"]
    random = np.random.default_rng(given.seed)
    worst = dict.fromkeys(VALUES, 0.0)
    with tempfile.TemporaryDirectory() as room:
        images = {(c, n): drawing(c, side, random) for c in CLASSES for n in range(given.images)}

        def save(folder, change):
            for (name, number), image in images.items():
                path = Path(room, folder, name, f"{number}.png")
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(change(image)).save(path)
            return Path(room, folder)

        found = evaluated(save("plain", lambda image: image), "--corrupt", "--seed", given.seed)
        plain = evaluated(Path(room, "plain"))
        assert plain["nll"] == found["nll"], "--corrupt changes the main figures"
        rows = {(row["corruption"], row["strength"]): row for row in found["corruptions"]}
        assert len(rows) == len(found["corruptions"]) == 25
        for kind, values in VALUES.items():
            for strength, value in enumerate(values, 1):
                row = rows[kind, strength]
                assert row["value"] == value, row
                change = lambda image: corrupted(image, kind, value, given.seed)  # noqa: B023
                expected = evaluated(save(f"{kind}{strength}", change))
                off = abs(row["nll"] - expected["nll"]) / expected["nll"]
                worst[kind] = max(worst[kind], off)
                assert off <= (0.05 if kind == "jpeg" else 1e-5), (kind, strength, row["nll"], expected["nll"])
                # Another corruption must not go unnoticed.
                assert abs(row["nll"] - plain["nll"]) / plain["nll"] > 1e-3, (kind, strength)
    print(f"{len(images)} images of {side} pixels, 25 corruptions; log likelihoods off by at most")
    print(", ".join(f"{kind} {off:.1e}" for kind, off in worst.items()))


main()
