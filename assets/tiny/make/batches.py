"""Batches of images and captions. Batch n of a phase depends only on (seed, phase, n)."""

import multiprocessing as mp
import os
import queue
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

import captions
import draw
import network
import things
import tokenizer

SINGLE_TOKENS, SCENE_TOKENS = 16, 40
EVERYDAY_SHARE = 0.8


class Artwork:
    """The drawings of one part ("training" or "held_out") and the things they show."""

    def __init__(self, work, part):
        self.things = things.load(work)
        with np.load(Path(work) / "art.npz") as arrays:
            names = [name for name in arrays.files if name.startswith(part + "_")]
            loaded = {name.removeprefix(part + "_"): arrays[name] for name in names}
        self.thing, self.set, self.colour = (loaded.pop(k) for k in ("thing", "set", "colour"))
        self.sizes = {int(size): pixels for size, pixels in loaded.items()}
        self.of_thing = {}
        for drawing, thing in enumerate(self.thing):
            self.of_thing.setdefault(int(thing), []).append(drawing)
        known = sorted(self.of_thing)
        self.everyday = np.array([i for i in known if self.things[i].everyday])
        self.others = np.array([i for i in known if not self.things[i].everyday])

    def drawing(self, thing, rng):
        """A drawing of a thing, by a random artist."""
        choices = self.of_thing[int(thing)]
        return choices[rng.integers(len(choices))]

    def pick(self, count, rng):
        """Distinct things, mostly everyday ones."""
        many = round(count * EVERYDAY_SHARE)
        some = rng.choice(self.everyday, many, replace=False)
        return np.concatenate([some, rng.choice(self.others, count - many, replace=False)])

    def mirrored(self, group):
        """The things that must not be mirrored."""
        return [self.things[i].directed for i in group]


def singles(art, count, extra, rng):
    """`count` images of different things with their captions, and `extra` captions of others."""
    picked = art.pick(count + extra, rng)
    rng.shuffle(picked)
    pixels = np.empty((count, network.IMAGE, network.IMAGE, 3), np.uint8)
    for row, thing in enumerate(picked[:count]):
        drawing = art.drawing(thing, rng)
        pixels[row] = draw.single(art.sizes, drawing, rng, art.things[thing].directed)
    return pixels, fitted([single_caption(art.things[i], rng) for i in picked], SINGLE_TOKENS)


def single_caption(thing, rng):
    """A caption that fits in SINGLE_TOKENS."""
    while True:
        text = captions.single(thing, rng)
        if len(tokenizer.encode(text)) + 2 <= SINGLE_TOKENS:
            return text
        if len(tokenizer.encode(thing.label)) + 2 > SINGLE_TOKENS - 5:
            return " ".join(thing.label.split()[:4])


class Group(NamedTuple):
    """Four scenes with the same layout and wording, which differ in one or a few things."""

    variants: list  # the things of each scene, cell by cell
    texts: list  # the wording of each scene
    wrong: list  # captions with one named thing replaced
    rows: int
    columns: int


def short_group(art, most, rng, pairs=3.0, wrong=0):
    """A group with short captions, and `wrong` wrong ones for each of its scenes.

    The base, the same with two things swapped if the caption tells the order, one with a thing
    replaced, and one with another replaced. Scenes of two things are `pairs` times as frequent as others.
    """
    layouts = [n for n in captions.LAYOUTS if n <= most]
    weights = np.array([pairs if n == 2 else 1.0 for n in layouts])
    count = int(rng.choice(layouts, p=weights / weights.sum()))
    rows, columns = captions.LAYOUTS[count][rng.integers(len(captions.LAYOUTS[count]))]
    cells, speak, ordered = captions.short_plan(rows, columns, rng)
    base, spare = np.split(rng.choice(art.everyday, count + 3, replace=False), [count])
    variants = [base.copy() for _ in range(4)]
    if ordered:
        a = cells[rng.integers(len(cells))]
        others = [c for c in range(count) if c != a]
        b = cells[1 - cells.index(a)] if len(cells) == 2 else others[rng.integers(len(others))]
        variants[1][[a, b]] = base[[b, a]]
    else:
        variants[1][cells[rng.integers(len(cells))]] = spare[0]
    variants[2][cells[rng.integers(len(cells))]] = spare[1]
    variants[3] = variants[1].copy() if ordered else base.copy()
    variants[3][cells[rng.integers(len(cells))]] = spare[2]
    # A plan uses the same name for a thing in all four, so that only the things differ.
    names = {i: spoken(art.things[i], rng) for v in variants for i in v}
    said = [[names[v[c]] for c in cells] for v in variants]
    other = [spoken(art.things[i], rng) for i in absent(art, names, 4 * wrong, rng)]
    return Group(variants, [speak(s) for s in said], exchanged(speak, said, other, rng), rows, columns)


def absent(art, present, count, rng):
    """`count` different everyday things that are not among `present`."""
    picked = rng.choice(art.everyday, count + len(present), replace=False) if count else ()
    return [i for i in picked if i not in present][:count]


def exchanged(speak, said, others, rng, late=False):
    """Captions of the scenes in turn, each with one named thing replaced by one of `others`.

    With `late`, mostly one of those named last.
    """
    texts = []
    for at, other in enumerate(others):
        words = list(said[at % len(said)])
        words[max(rng.integers(len(words), size=1 + late))] = other
        texts.append(speak(words))
    return texts


def spoken(thing, rng):
    """A name with its article, usually the label."""
    name = thing.names[0] if rng.random() < 0.75 else thing.names[rng.integers(len(thing.names))]
    return captions.article(name)


def long_group(art, rng):
    """Four scenes with the same layout which differ in one to three things, or in the places of two."""
    count = int(rng.choice([6, 6, 8, 9, 9, 12]))
    rows, columns = captions.LAYOUTS[count][rng.integers(len(captions.LAYOUTS[count]))]
    base, spare = np.split(rng.choice(art.everyday, count + 9, replace=False), [count])
    variants = [base.copy() for _ in range(4)]
    for at, variant in enumerate(variants[1:]):
        cells = rng.permutation(count)[: rng.integers(1, 4)]
        variant[cells] = spare[3 * at : 3 * at + len(cells)]
    if rng.random() < 0.6:
        pair = rng.permutation(count)[:2]
        variants[3] = base.copy()
        variants[3][pair] = base[pair[::-1]]
    return variants, rows, columns


def scene_pixels(art, group, ground, rng, strength, drawings=None):
    """The images of a group on one background, with the given `drawings` per thing or random ones."""
    pictures = []
    for v in group.variants:
        shown = [drawings[i] if drawings else art.drawing(i, rng) for i in v]
        size = group.rows, group.columns
        pictures.append(draw.scene(art.sizes, shown, *size, ground, rng, art.mirrored(v), strength))
    return pictures


def short_scenes(art, groups, most, rng, pairs=3.0, wrong=0, strength=0.4):
    """Short scenes, four per group: (images, token ids, cells).

    The captions of the images come first, then `wrong` wrong ones for each.
    """
    pixels, texts, others, cells = [], [], [], Cells()
    while len(texts) < 4 * groups:
        group = short_group(art, most, rng, pairs, wrong)
        if max(len(tokenizer.encode(text)) for text in group.texts + group.wrong) + 2 > SCENE_TOKENS:
            continue
        pixels += scene_pixels(art, group, draw.background(rng), rng, strength)
        texts += group.texts
        others += group.wrong
        cells.add(group)
    return np.stack(pixels), fitted(texts + others, SCENE_TOKENS), cells.arrays(art)


def long_scenes(art, groups, rng, wrong=0, strength=0.4):
    """Long scenes: (images, long token ids, those of a short caption for each, cells).

    The captions of the images come first, then `wrong` wrong ones for each.
    """
    pixels, texts, others, shorts, cells = [], [], [], [], Cells()
    while len(texts) < 4 * groups:
        variants, rows, columns = long_group(art, rng)
        ground, word = draw.named_background(rng)
        names = {i: spoken_bare(art.things[i], rng) for v in variants for i in v}
        drawings = {i: art.drawing(i, rng) for i in names}
        speak = captions.long_plan(rows, columns, word, rng)
        said = [[clause(art, i, names[i], drawings[i]) for i in v] for v in variants]
        other = [
            clause(art, i, spoken_bare(art.things[i], rng), art.drawing(i, rng))
            for i in absent(art, names, 4 * wrong, rng)
        ]
        group = Group(variants, [speak(s) for s in said], exchanged(speak, said, other, rng, late=True), rows, columns)
        lengths = [len(tokenizer.encode(text)) + 2 for text in group.texts + group.wrong]
        brief = short_captions(variants, names, rows, columns, rng)
        if max(lengths) > 246 or min(lengths) < 80 or brief is None:
            continue
        pixels += scene_pixels(art, group, ground, rng, strength, drawings)
        texts += group.texts
        others += group.wrong
        shorts += brief
        cells.add(group)
    ids = fitted(texts + others, network.LONG_CONTEXT)
    return np.stack(pixels), ids, fitted(shorts, SCENE_TOKENS), cells.arrays(art)


def clause(art, thing, name, drawing):
    """A thing as described by a clause of a long caption: (name, colour, kind)."""
    return name, art.colour[drawing], art.things[thing].kind


class Cells:
    """The thing in each cell of a batch's scenes, and the cell of each patch."""

    def __init__(self):
        self.things, self.of_patch = [], []

    def add(self, group):
        """The four scenes of a group."""
        at = (2 * np.arange(network.SIDE) + 1) / (2 * network.SIDE)
        row, column = (at * group.rows).astype(int), (at * group.columns).astype(int)
        patches = (row[:, None] * group.columns + column).reshape(-1)
        for variant in group.variants:
            self.things.append(np.pad(variant, (0, captions.MOST - len(variant)), constant_values=-1))
            self.of_patch.append(patches)

    def arrays(self, art):
        """(token ids of the names [names, length], each cell's name or -1 [images, MOST], each patch's cell)."""
        things = np.stack(self.things)
        known, which = np.unique(things, return_inverse=True)
        which = which.reshape(things.shape) - int(known[0] < 0)
        names = [captions.article(art.things[i].label) for i in known if i >= 0]
        return fitted(names, SINGLE_TOKENS), which, np.stack(self.of_patch)


def short_captions(variants, names, rows, columns, rng):
    """A short caption of each scene of a group, all with the same plan, distinguishing them where possible."""
    best = None
    for _ in range(6):
        cells, speak, _ = captions.short_plan(rows, columns, rng)
        said = [speak([captions.article(names[v[c]]) for c in cells]) for v in variants]
        fits = max(len(tokenizer.encode(text)) for text in said) + 2 <= SCENE_TOKENS
        if fits and (best is None or len(set(said)) > len(set(best))):
            best = said
    return best


def spoken_bare(thing, rng):
    """A name without article that is short enough for a clause."""
    names = [n for n in thing.names if len(n.split()) <= 3] or list(thing.names[:1])
    return names[0] if rng is None or rng.random() < 0.75 else names[rng.integers(len(names))]


def fitted(texts, length):
    """Token ids of texts known to fit, small enough to pass between processes."""
    return tokenizer.tokens(texts, length).astype(np.int32)


def chosen(pixels, kept, rng):
    """`kept` patches of each image and their places, those with content first.

    FLIP drops patches at random. Much of an image is empty background, so the busier patches
    are more likely to be kept here; every patch can be kept.
    """
    grid = network.patches(pixels)
    if kept >= grid.shape[1]:
        return grid, np.broadcast_to(np.arange(grid.shape[1]), grid.shape[:2]).copy()
    spread = grid[:, :, ::3].astype(np.float32).std(-1)
    score = np.log(spread + 6) + 0.6 * rng.gumbel(size=spread.shape)
    places = np.sort(np.argpartition(-score, kept, 1)[:, :kept], 1)
    return np.take_along_axis(grid, places[..., None], 1), places


def produce(pipe, work, recipe, seed, first, last, core):
    """Puts batches first..last of a recipe on the queue; runs in its own process."""
    os.nice(5)
    if core is not None:
        os.sched_setaffinity(0, {core})
    cv2.setNumThreads(1)
    art, parent = Artwork(work, "training"), os.getppid()
    for step in range(first, last):
        batch = recipe(art, step, np.random.default_rng([seed, step]))
        while True:
            try:
                pipe.put(batch, timeout=5)
                break
            except queue.Full:
                if os.getppid() != parent:
                    os._exit(1)


def stream(work, recipe, seed, first, last, core=None):
    """The batches of a recipe, prepared ahead of time by another process (on its own core)."""
    context = mp.get_context("fork")
    pipe = context.Queue(6)
    arguments = (pipe, work, recipe, seed, first, last, core)
    process = context.Process(target=produce, args=arguments, daemon=True)
    process.start()
    for _ in range(first, last):
        yield pipe.get()
    process.join()
