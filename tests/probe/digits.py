#!/usr/bin/env python3
"""Writes scikit-learn's 1,797 handwritten digits as images in class folders, for the README's probe:

    tests/probe/digits.py digits            # digits/train/0/… and digits/test/0/…

Needs numpy, Pillow and scikit-learn.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
TRAIN = 1000


def main(folder):
    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    for place, at in enumerate(order):
        part = "train" if place < TRAIN else "test"
        path = folder / part / NAMES[data.target[at]] / f"{at:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        gray = (data.images[at] * 255 / 16).round().astype(np.uint8)
        Image.fromarray(gray).resize((96, 96), Image.BICUBIC).save(path)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
