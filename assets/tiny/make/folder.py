"""Writes a labelled folder of held-out images, for `longclip evaluate` to score with the binary.

    folder.py WORK

WORK/folder/LABEL/N.png: 200 everyday names (drawn once, by seed), with three random backgrounds
each and one white, 384 px. Nothing of it is kept in the repository.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import batches
import captions
import evaluate


def main(work):
    art = batches.Artwork(work, "held_out")
    rng = np.random.default_rng(evaluate.SEED + 9)
    ids = np.sort(rng.choice(art.everyday, evaluate.NAMES, replace=False))
    target = Path(work) / "folder"
    pixels = []
    for thing in ids:
        folder = target / art.things[thing].label
        folder.mkdir(parents=True, exist_ok=True)
        for at in range(4):
            picture = evaluate.thing_picture(art, art.drawing(thing, rng), rng, at == 0)
            Image.fromarray(picture).save(folder / f"{at}.png")
            pixels.append(evaluate.reduced(picture))
    labels = [art.things[i].label for i in ids]
    (Path(work) / "folder-labels.txt").write_text("\n".join(labels) + "\n")
    model = evaluate.Model(evaluate.opened("model.bin", work))
    texts = model.texts([captions.filled("a picture of a {}", label) for label in labels])
    best = (model.images(np.stack(pixels)) @ texts.T).topk(5).indices
    truth = torch.arange(len(ids)).repeat_interleave(4)[:, None]
    hits = best == truth
    print(f"{len(pixels)} pictures, {len(ids)} labels, template 'a picture of a {{}}': "
          f"top-1 {100 * hits[:, :1].any(1).float().mean():.2f}, top-5 {100 * hits.any(1).float().mean():.2f}")  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
