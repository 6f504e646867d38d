"""What the batches of each phase are made of, and the losses that only some phases have."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

import batches

BASE_STEPS, TUNE_STEPS, TABLE_STEPS = 4800, 680, 60
BASE_RATE, TUNE_RATE = 3e-3, 1.5e-3


@dataclass
class Base:
    """208 single things, 256 further captions, and 12 groups of four short scenes.

    Most of the patches are dropped until the last part of the training: a step costs half, and all
    patches at the end make up for never having seen bare ground.
    """

    steps: int
    smoothing = 0.0

    def __call__(self, art, step, rng):
        whole = step >= 0.85 * self.steps
        most = 9 if step < 0.5 * self.steps else 12
        pixels, ids = batches.singles(art, 208, 256, rng)
        scenes, said = batches.short_scenes(art, 12, most, rng)
        parts = [
            (*batches.chosen(pixels, 64 if whole else 24, rng), ids),
            (*batches.chosen(scenes, 64 if whole else 40, rng), said),
        ]
        return {"parts": parts}


@dataclass
class Mixed:
    """What is shipped: 96 single things, 64 short scenes and 64 long scenes in every batch."""

    steps: int
    smoothing = 0.0

    def __call__(self, art, step, rng):
        pixels, ids = batches.singles(art, 96, 128, rng)
        scenes, said = batches.short_scenes(art, 16, 12, rng, pairs=6.0)
        longs, long_said, _ = batches.long_scenes(art, 16, rng)
        return {"parts": [whole(pixels, ids), whole(scenes, said), whole(longs, long_said)]}


@dataclass
class LongOnly:
    """64 long scenes and nothing else."""

    steps: int
    smoothing = 0.1

    def __call__(self, art, step, rng):
        pixels, ids, _ = batches.long_scenes(art, 16, rng)
        return {"parts": [whole(pixels, ids)]}


@dataclass
class LongShort:
    """The same scenes with a short caption each as a second target (the control for PCM)."""

    steps: int
    rank = 0
    smoothing = 0.1

    def __call__(self, art, step, rng):
        pixels, ids, short = batches.long_scenes(art, 16, rng)
        return {"parts": [whole(pixels, ids)], "short": short, "rank": self.rank}


class LongPcm(LongShort):
    """Long-CLIP's Primary Component Matching: the short caption is matched to 32 components."""

    rank = 32


@dataclass
class LongSingles:
    """64 long scenes, and 64 single things in the same batch."""

    steps: int
    smoothing = 0.1

    def __call__(self, art, step, rng):
        longs, long_said, _ = batches.long_scenes(art, 16, rng)
        pixels, ids = batches.singles(art, 64, 0, rng)
        return {"parts": [whole(longs, long_said), whole(pixels, ids)]}


# In the order of the table in the README.
TABLE = {"long": LongOnly, "long-pcm": LongPcm, "long-short": LongShort, "long-singles": LongSingles}
TUNE = {"mixed": Mixed} | TABLE


def whole(pixels, ids):
    """A part with all patches."""
    return (*batches.chosen(pixels, 64, None), ids)


def contrast(images, texts, scale, smoothing, extra=None):
    """CLIP's loss; `extra` captions are further wrong answers for every picture."""
    logits, truth = scale * images @ texts.T, torch.arange(len(images))
    wider = logits if extra is None else torch.cat([logits, scale * images @ extra.T], 1)
    forth = F.cross_entropy(wider, truth, label_smoothing=smoothing)
    return (forth + F.cross_entropy(logits.T, truth, label_smoothing=smoothing)) / 2


def components(images, rank):
    """The embeddings put together again from their `rank` largest components, as Long-CLIP does.

    The mean is taken off and added back; the result is not normalised again.
    """
    mean = images.mean(0)
    centred = images - mean
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:rank]
    return centred @ directions.T @ directions + mean


def short_loss(texts, images, rank, scale, smoothing):
    """The second term: short captions against the pictures, or their main components."""
    return contrast(components(images, rank) if rank else images, texts, scale, smoothing)


def trimmed(ids):
    """Token ids [texts, longest], padding that no text needs cut away."""
    return torch.from_numpy(ids[:, : int(np.max(ids.argmax(1))) + 1]).long()
