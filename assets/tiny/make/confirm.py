"""Compares the built program with Python on held-out artwork: the same images, names and weights.

    confirm.py WORK --longclip ../../../target/release/longclip

Draws every everyday thing of the held-out artwork once on a random background, writes the images to
WORK/confirm as PNG, and classifies them with `longclip evaluate --model tiny`. Its figures must
equal those of model.bin in PyTorch, and its logits must agree to 2e-3 (unit embeddings to 2e-5,
times the scale).
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import batches
import captions
import evaluate

TEMPLATE = "a picture of a {}"


def draw(art, folder):
    """Writes the images with a list and the labels; returns pixels and labels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(evaluate.SEED)
    labels = [art.things[i].label for i in art.everyday]
    assert len(set(labels)) == len(labels), "a name is there twice"
    pixels = []
    with open(folder / "list.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label"])
        for i, label in zip(art.everyday, labels):
            picture = evaluate.thing_picture(art, art.drawing(i, rng), rng, False)
            Image.fromarray(picture).save(folder / f"{i:04}.png")
            rows.writerow([f"{i:04}.png", label])
            pixels.append(evaluate.reduced(picture))
    with open(folder / "labels.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["label", "prompt"])
        rows.writerows([label, captions.filled(TEMPLATE, label)] for label in labels)
    return np.stack(pixels), labels


def python(model, pixels, labels):
    """Logits [images, labels] from PyTorch."""
    towers = evaluate.Model(model)
    texts = towers.texts([captions.filled(TEMPLATE, label) for label in labels])
    return (model.logit_scale.exp() * towers.images(pixels) @ texts.T).detach().numpy()


def program(longclip, model, folder, labels):
    """The program's figures and logits [images, labels]."""
    command = [
        longclip, "evaluate", "list.csv", "--labels-file", "labels.csv", "--model", model, "-k", str(len(labels)),
        "--precision", "f32", "--format", "json", "--out", "out", "--quiet",
    ]  # fmt: skip
    ran = subprocess.run(command, cwd=folder, check=True, stdout=subprocess.PIPE)
    column = {label: at for at, label in enumerate(labels)}
    logits = np.full((len(labels), len(labels)), np.nan, np.float32)
    with open(folder / "out" / "predictions.jsonl") as lines:
        for row, line in enumerate(lines):
            for one in json.loads(line)["predictions"]:
                logits[row, column[one["label"]]] = one["logit"]
    assert np.isfinite(logits).all(), "an answer is missing"
    return json.loads(ran.stdout), logits


def share(logits, k):
    """The percentage of images with their own label among the k best."""
    own = np.diagonal(logits)[:, None]
    return 100 * float(((logits > own).sum(1) < k).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--longclip", type=Path, required=True, help="the built program")
    parser.add_argument("--model", default="tiny", help="tiny, or a file that the same weights were exported to")
    args = parser.parse_args()
    torch.set_num_threads(1)
    folder = args.work / "confirm"
    pixels, labels = draw(batches.Artwork(args.work, "held_out"), folder)
    expected = python(evaluate.opened("model.bin", args.work).eval(), pixels, labels)
    figures, found = program(args.longclip.resolve(), args.model, folder, labels)
    wrong = False
    print(f"{len(labels)} images of held-out artwork, as many names (chance {100 / len(labels):.2f}%)")
    for k in (1, 5):
        ours, theirs = 100 * figures[f"acc{k}"], share(expected, k)
        wrong |= abs(ours - theirs) > 100.5 / len(labels)  # one near tie may go the other way
        print(f"top-{k}: longclip {ours:.2f}%, PyTorch {theirs:.2f}%")
    off = float(np.abs(found - expected).max())
    wrong |= not off < 2e-3
    print(f"largest difference of {found.size} logits: {off:.1e} (they reach {np.abs(expected).max():.1f})")
    sys.exit("the program and PyTorch do not agree" if wrong else 0)


if __name__ == "__main__":
    main()
