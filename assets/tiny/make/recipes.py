"""The composition of batches in each phase, and the losses specific to some phases."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

import batches

# Steps of the base's two cycles, of the tuning and of each run in the table.
BASE_STEPS, TUNE_STEPS, TABLE_STEPS = (4800, 4400), 900, 60
BASE_RATE, TUNE_RATE = 3e-3, 1.5e-3
CELL_WEIGHT = 0.5


class Schedule:
    """The learning rate factor in cycles: warm-up, constant, linear decay over the last 40%."""

    def __init__(self, *steps):
        self.ends = np.cumsum(steps).tolist()

    def cycle(self, step):
        """(the cycle of a step, its position in it from 0 to 1, the steps of that cycle)."""
        which = next(i for i, end in enumerate(self.ends) if step < end or end == self.ends[-1])
        first = self.ends[which - 1] if which else 0
        steps = self.ends[which] - first
        return which, (step - first) / steps, steps

    def factor(self, step):
        """The factor of the peak learning rate."""
        _, part, steps = self.cycle(step)
        warm = (part * steps + 1) / min(100, 0.1 * steps)
        return min(1.0, warm) * min(1.0, max(0.0, (1 - part) / 0.4))


@dataclass
class Base:
    """First 208 single things, 256 further names, and 12 groups of four short scenes; in the second
    cycle 128, 192 and 32, two wrong captions for each scene, its cells named one by one, and things
    varied as much as single ones.

    Most patches are dropped until the last part of a cycle, which halves the cost of a step; all
    patches at the end make up for not having seen empty background.
    """

    schedule: Schedule
    smoothing = 0.0

    def __call__(self, art, step, rng):
        cycle, part, _ = self.schedule.cycle(step)
        full = part >= 0.85
        if cycle == 0:
            most = 9 if part < 0.5 else 12
            pixels, ids = batches.singles(art, 208, 256, rng)
            scenes, said, _ = batches.short_scenes(art, 12, most, rng)
            parts = [
                Part(*batches.chosen(pixels, 64 if full else 24, rng), ids),
                Part(*batches.chosen(scenes, 64 if full else 40, rng), said),
            ]
        else:
            pixels, ids = batches.singles(art, 128, 192, rng)
            scenes, said, cells = batches.short_scenes(art, 32, 12, rng, wrong=2, strength=1.0)
            parts = [
                Part(*batches.chosen(pixels, 64 if full else 24, rng), ids),
                Part(*batches.chosen(scenes, 64 if full else 44, rng), said, cells),
            ]
        return Batch(parts)


@dataclass
class Mixed:
    """The shipped model: 64 single things, 48 short scenes and 80 long scenes in every batch, with
    two wrong captions for each scene, and its cells named one by one."""

    schedule: Schedule
    smoothing = 0.0

    def __call__(self, art, step, rng):
        pixels, ids = batches.singles(art, 64, 128, rng)
        scenes, said, cells = batches.short_scenes(art, 12, 12, rng, pairs=4.0, wrong=2, strength=1.0)
        longs, long_said, _, long_cells = batches.long_scenes(art, 20, rng, wrong=2, strength=0.7)
        return Batch([
            whole(pixels, ids), whole(scenes, said, cells), whole(longs, long_said, long_cells),
        ])  # fmt: skip


@dataclass
class LongOnly:
    """64 long scenes only."""

    schedule: Schedule
    smoothing = 0.1

    def __call__(self, art, step, rng):
        pixels, ids, *_ = batches.long_scenes(art, 16, rng)
        return Batch([whole(pixels, ids)])


@dataclass
class LongShort:
    """The same scenes with a short caption each as a second target (the control for PCM)."""

    schedule: Schedule
    rank = 0
    smoothing = 0.1

    def __call__(self, art, step, rng):
        pixels, ids, short, _ = batches.long_scenes(art, 16, rng)
        return Batch([whole(pixels, ids)], short, self.rank)


class LongPcm(LongShort):
    """Long-CLIP's Primary Component Matching: the short caption is matched with 32 components."""

    rank = 32


@dataclass
class LongSingles:
    """64 long scenes, and 64 single things in the same batch."""

    schedule: Schedule
    smoothing = 0.1

    def __call__(self, art, step, rng):
        longs, long_said, *_ = batches.long_scenes(art, 16, rng)
        pixels, ids = batches.singles(art, 64, 0, rng)
        return Batch([whole(longs, long_said), whole(pixels, ids)])


# In the order of the table in the README.
TABLE = {"long": LongOnly, "long-pcm": LongPcm, "long-short": LongShort, "long-singles": LongSingles}
TUNE = {"mixed": Mixed} | TABLE


class Part(NamedTuple):
    """Images of one kind with their captions, which may be followed by wrong ones."""

    patches: np.ndarray  # [images, kept, 3 * PATCH²]
    places: np.ndarray  # [images, kept]
    ids: np.ndarray  # [captions, length]
    cells: tuple | None = None  # batches.Cells.arrays


class Batch(NamedTuple):
    """Parts that form one batch for the loss."""

    parts: list
    short: np.ndarray | None = None  # short captions as a second target
    rank: int = 0


def whole(pixels, ids, cells=None):
    """A part with all patches."""
    return Part(*batches.chosen(pixels, 64, None), ids, cells)


def contrast(images, texts, scale, smoothing, extra=None):
    """CLIP's loss; `extra` captions are additional negatives for every image."""
    logits, truth = scale * images @ texts.T, torch.arange(len(images))
    wider = logits if extra is None else torch.cat([logits, scale * images @ extra.T], 1)
    forth = F.cross_entropy(wider, truth, label_smoothing=smoothing)
    return (forth + F.cross_entropy(logits.T, truth, label_smoothing=smoothing)) / 2


def components(images, rank):
    """The embeddings reconstructed from their `rank` largest components, as in Long-CLIP.

    The mean is subtracted and added back; the result is not normalised again.
    """
    mean = images.mean(0)
    centred = images - mean
    directions = torch.linalg.svd(centred, full_matrices=False).Vh[:rank]
    return centred @ directions.T @ directions + mean


def short_loss(texts, images, rank, scale, smoothing):
    """The second term: short captions against the images, or their principal components."""
    return contrast(components(images, rank) if rank else images, texts, scale, smoothing)


def trimmed(ids):
    """Token ids [texts, longest], with common padding removed."""
    return torch.from_numpy(ids[:, : int(np.max(ids.argmax(1))) + 1]).long()


def cell_loss(patches, places, names, which, of_patch, scale):
    """Classifies the content of each cell of a scene from the mean of its patches' features.

    patches [images, kept, width] at places [images, kept]; names [names, width] are unit vectors;
    `which` [images, cells] is each cell's name or -1; `of_patch` [images, all patches] is each
    patch's cell. A cell without kept patches is skipped.
    """
    pictures, cells = which.shape
    owner = of_patch.gather(1, places) + cells * torch.arange(pictures)[:, None]
    sums = patches.new_zeros(pictures * cells, patches.shape[-1])
    sums = sums.index_add(0, owner.reshape(-1), patches.flatten(0, 1))
    seen = torch.bincount(owner.reshape(-1), minlength=len(sums)) > 0
    rows = (seen & (which.reshape(-1) >= 0)).nonzero()[:, 0]
    logits = scale * F.normalize(sums[rows], dim=-1) @ names.T
    return F.cross_entropy(logits, which.reshape(-1)[rows])
