"""Draws the demo images from the held-out artwork (EmojiOne 2, CC-BY 4.0) into ../../demo.

    demo.py WORK

Prints model.bin's answers for each. The compositions were chosen because they are classified well;
evaluate.py measures how often that is the case.
"""

import sys

import numpy as np
import torch
from PIL import Image

import batches
import draw
import evaluate
import pack

SIDE = 512
LONG = (
    "an image of 6 small drawings. in the top left we find a penguin, which is a bird. in the top centre "
    "stands a telescope, which is a science thing. in the top right is a rainbow; it is a weather sign. in "
    "the bottom left we find a candle, a lamp or camera. in the bottom centre is a bicycle, which is a "
    "vehicle. in the bottom right is a {}."
)
# file: contents, rows, columns, background, seed, and the texts to compare with.
DEMOS = {
    "drawn-penguin.png": (
        ["penguin"], 1, 1, (205, 228, 240), 1,
        ["a penguin", "an owl", "a duck", "a cat", "a panda", "a whale"],
    ),
    "drawn-scene.png": (
        ["penguin", "telescope", "rainbow", "candle", "bicycle", "carrot"], 2, 3, (245, 240, 225), 2,
        [LONG.format(last) for last in ("carrot", "strawberry", "lion")],
    ),
}  # fmt: skip


def compose(art, labels, rows, columns, ground, seed):
    """A scene of named things on a plain background."""
    ids = {thing.label: i for i, thing in enumerate(art.things)}
    drawings = [art.of_thing[ids[label]][0] for label in labels]
    whole = np.broadcast_to(np.array(ground, np.uint8), (SIDE, SIDE, 3)).copy()
    rng = np.random.default_rng(seed)
    return draw.scene(art.sizes, drawings, rows, columns, whole, rng, [True] * len(labels), 0)


def probabilities(model, picture, texts):
    """The softmax over texts with the learnt scale, as in `longclip classify`."""
    image = model.images(evaluate.reduced(picture)[None])
    return (model.model.logit_scale.exp() * image @ model.texts(texts).T).softmax(-1)[0].tolist()


def main(work):
    art = batches.Artwork(work, "held_out")
    model = evaluate.Model(evaluate.opened("model.bin", work))
    for name, (labels, rows, columns, ground, seed, texts) in DEMOS.items():
        picture = compose(art, labels, rows, columns, ground, seed)
        target = pack.HERE.parent / "demo" / name
        Image.fromarray(picture).quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
        print(name, target.stat().st_size, "bytes")
        stored = np.asarray(Image.open(target).convert("RGB"))
        for text, probability in zip(texts, probabilities(model, stored, texts)):
            print(f"  {probability:.4f}  {text}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1])
