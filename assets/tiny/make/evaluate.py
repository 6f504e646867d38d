"""Scores models on the held-out artwork: produces the figures of the README.

    evaluate.py WORK NAME=CHECKPOINT... [--out FILE.json]

Images are composed at the size a user would bring (SIDE) and go through CLIP's own preprocessing.
Chance level is given next to every figure. Ties share the point, and embeddings must be finite and not
zero before anything is scored: a row of NaN would otherwise win every comparison.
"""

import argparse
import functools
import json
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

import batches
import captions
import check
import draw
import network
import pack
import tokenizer
import train

SIDE = 384
NAMES, DRAWS, SCENES, COUNTED, GROUNDS = 200, 20, 400, 150, 3
SEED = 20


def reduced(picture):
    """CLIP's preprocessing of an image of bytes."""
    return check.pixels_of(Image.fromarray(picture))


def ground(rng, white):
    """A background of SIDE pixels: white, or enlarged from those used in training."""
    if white:
        return np.full((SIDE, SIDE, 3), 255, np.uint8)
    return cv2.resize(draw.background(rng), (SIDE, SIDE), interpolation=cv2.INTER_LINEAR)


def thing_picture(art, drawing, rng, white):
    """One thing, 60 to 95% of the image's side, near the centre."""
    picture = ground(rng, white)
    size = SIDE * rng.uniform(0.6, 0.95)
    centre = SIDE / 2 + rng.uniform(-1, 1, 2) * (SIDE - size) / 2
    tile = draw.placed(art.sizes, drawing, size, (SIDE, SIDE), centre, rng, 0, False)
    draw.blend(picture, tile)
    return picture


def scene_picture(art, variant, rows, columns, rng):
    """A scene of held-out drawings and the drawings of its things."""
    drawings = [art.drawing(i, rng) for i in variant]
    whole = ground(rng, False)
    return draw.scene(art.sizes, drawings, rows, columns, whole, rng, [True] * len(variant), 0), drawings


class Model:
    """Embeds images and texts, and rejects invalid embeddings."""

    def __init__(self, model):
        self.model, self.context = model, len(model.positional_embedding)

    @torch.no_grad()
    def images(self, pictures):
        """Unit embeddings of pixels [count, 96, 96, 3]."""
        parts = [self.model.image(*check.inputs(part)) for part in np.array_split(pictures, len(pictures) // 100 + 1)]
        return checked(torch.cat(parts))

    @torch.no_grad()
    def texts(self, texts):
        """Unit embeddings of texts."""
        rows = torch.from_numpy(tokenizer.tokens(texts, self.context))
        found = []
        for part in rows.split(200):
            found.append(self.model.text(part[:, : part.argmax(1).max() + 1]))
        return checked(torch.cat(found))


def checked(embeddings):
    """The embeddings, checked to be finite and of length 1."""
    lengths = embeddings.norm(dim=-1)
    assert torch.isfinite(embeddings).all() and (lengths - 1).abs().max() < 1e-3, "bad embeddings"
    return embeddings


def won(similarities):
    """The share of rows [rows, candidates] with column 0 as the largest; ties are shared."""
    best = similarities.max(1, keepdim=True).values
    tied = similarities == best
    return (tied[:, 0].float() / tied.sum(1)).numpy()


def shares(points):
    """The percentage and the standard error of its mean."""
    return {"mean": 100 * float(np.mean(points)), "error": 100 * float(np.std(points) / len(points) ** 0.5)}


def over_draws(values):
    """The percentage and the standard deviation between draws."""
    return {"mean": 100 * float(np.mean(values)), "deviation": 100 * float(np.std(values))}


# The tests are generated once for all models of a run.
@functools.cache
def single_pictures(art, white, grounds):
    """Pixels of every everyday thing, `grounds` times over."""
    rng = np.random.default_rng([SEED, white])
    return np.stack([
        reduced(thing_picture(art, art.drawing(i, rng), rng, white))
        for _ in range(grounds) for i in art.everyday
    ])  # fmt: skip


def single_scores(model, art, template="a picture of a {}", white_only=False):
    """Top-1 and top-5 of NAMES everyday names, on white and on random backgrounds, DRAWS draws."""
    ids = art.everyday
    texts = model.texts([captions.filled(template, art.things[i].label) for i in ids])
    result = {}
    for name, grounds in (("white", 1), ("backgrounds", GROUNDS))[: 1 if white_only else 2]:
        pictures = single_pictures(art, name == "white", grounds)
        similar = (model.images(pictures) @ texts.T).view(grounds, len(ids), len(ids))
        top = {1: [], 5: []}
        draws = np.random.default_rng(SEED + 1)
        for _ in range(DRAWS):
            some = torch.from_numpy(np.sort(draws.choice(len(ids), NAMES, replace=False)))
            part = similar[:, some][:, :, some]
            own = part.diagonal(dim1=1, dim2=2)[..., None]
            above = (part > own).sum(-1) + ((part == own).sum(-1) - 1) / 2
            for k in top:
                top[k].append((above < k).float().mean().item())
        result |= {f"{name} top-{k}": over_draws(v) for k, v in top.items()}
        own = similar.diagonal(dim1=1, dim2=2)[..., None]
        result[f"{name} top-1 of all {len(ids)}"] = shares(((similar > own).sum(-1) < 1).float().flatten().numpy())
    return result


def short_scene(art, rng, count=None):
    """A scene (of `count` things), its caption, and the caption with one named thing replaced,
    eight times."""
    layouts = list(captions.LAYOUTS)
    if count is None:
        count = int(rng.choice(layouts, p=np.where(np.array(layouts) == 2, 3, 1) / (len(layouts) + 2)))
    rows, columns = captions.LAYOUTS[count][rng.integers(len(captions.LAYOUTS[count]))]
    cells, speak, _ = captions.short_plan(rows, columns, rng)
    shown, spare = np.split(rng.choice(art.everyday, count + 8, replace=False), [count])
    names = [captions.article(art.things[shown[c]].label) for c in cells]
    at, wrong = rng.integers(len(cells)), []
    for other in spare:
        names_then = list(names)
        names_then[at] = captions.article(art.things[other].label)
        wrong.append(speak(names_then))
    return scene_picture(art, shown, rows, columns, rng)[0], speak(names), wrong


@functools.cache
def short_tests(art):
    """SCENES of `short_scene` with reduced images."""
    rng = np.random.default_rng(SEED + 2)
    made = [short_scene(art, rng) for _ in range(SCENES)]
    return [(reduced(picture), text, wrong) for picture, text, wrong in made]


def short_scores(model, art):
    """Short captions: the right one among those of 10 scenes, and among 9 that differ in one thing."""
    made, rng = short_tests(art), np.random.default_rng(SEED + 5)
    images = model.images(np.stack([picture for picture, _, _ in made]))
    texts = model.texts([text for _, text, _ in made])
    others = [rng.choice(np.delete(np.arange(SCENES), i), 9, replace=False) for i in range(SCENES)]
    columns = torch.from_numpy(np.insert(np.stack(others), 0, np.arange(SCENES), axis=1))
    ten = (images @ texts.T).gather(1, columns)
    wrong = model.texts([text for _, _, row in made for text in row]).view(SCENES, 8, -1)
    own = (images * texts).sum(-1, keepdim=True)
    nine = torch.cat([own, torch.einsum("nd,nkd->nk", images, wrong)], 1)
    return {"1 of 10 short": shares(won(ten)), "1 of 9, one thing changed": shares(won(nine))}


def count_scores(model, art):
    """One thing changed, 1 of 9, by the number of things in the scene."""
    result, rng = {}, np.random.default_rng(SEED + 6)
    for count in captions.LAYOUTS:
        made = [short_scene(art, rng, count) for _ in range(COUNTED)]
        images = model.images(np.stack([reduced(picture) for picture, _, _ in made]))
        texts = model.texts([text for _, right, wrong in made for text in (right, *wrong)])
        nine = torch.einsum("nd,nkd->nk", images, texts.view(COUNTED, 9, -1))
        result[f"1 of 9, {count} things"] = shares(won(nine))
    return result


@functools.cache
def order_tests(art, rows, columns):
    """Pixels of SCENES of two things, and each one's caption followed by the swapped one."""
    rng = np.random.default_rng(SEED + 3)
    pictures, texts = [], []
    for _ in range(SCENES):
        shown = rng.choice(art.everyday, 2, replace=False)
        _, speak, _ = captions.short_plan(rows, columns, rng)
        names = [captions.article(art.things[i].label) for i in shown]
        pictures.append(reduced(scene_picture(art, shown, rows, columns, rng)[0]))
        texts += [speak(names), speak(names[::-1])]
    return np.stack(pictures), texts


def order_scores(model, art):
    """Two things side by side, and one above the other: the caption against the swapped one."""
    result = {}
    for name, (rows, columns) in (("left-right", (1, 2)), ("above-below", (2, 1))):
        pictures, texts = order_tests(art, rows, columns)
        found = model.texts(texts).view(SCENES, 2, -1)
        pairs = torch.einsum("nd,nkd->nk", model.images(pictures), found)
        result[f"{name} swapped, 2-way"] = shares(won(pairs))
    return result


def long_scene(art, rng):
    """A scene of 6 to 12 things and its long caption; the same with a thing replaced, with words that
    differ first after token 77, and before token 60 (None if there is none)."""
    while True:
        variants, rows, columns = batches.long_group(art, rng)
        shown = variants[0]
        picture, drawings = scene_picture(art, shown, rows, columns, rng)
        speak = captions.long_plan(rows, columns, "", rng)
        said = [describe(art, i, d) for i, d in zip(shown, drawings)]
        text, late, early = speak(said), [], []
        ids = tokenizer.encode(text)
        if not 100 <= len(ids) + 2 <= 240:
            continue
        for at, other in enumerate(rng.choice(np.setdiff1d(art.everyday, shown), len(shown))):
            changed = list(said)
            changed[at] = describe(art, other, art.drawing(other, rng))
            then = speak(changed)
            other_ids = tokenizer.encode(then)
            first = next((k for k, (a, b) in enumerate(zip(ids, other_ids)) if a != b), None)
            if first is not None and len(other_ids) + 2 <= 240:
                (late if first + 1 >= 77 else early if first + 1 < 60 else []).append(then)
        if late and early:
            return picture, text, late[rng.integers(len(late))], early[rng.integers(len(early))]


def describe(art, thing, drawing):
    """The data of a thing that a clause needs."""
    return batches.clause(art, thing, batches.spoken_bare(art.things[thing], None), drawing)


@functools.cache
def long_tests(art):
    """SCENES of `long_scene` with reduced images."""
    rng = np.random.default_rng(SEED + 4)
    made = [long_scene(art, rng) for _ in range(SCENES)]
    return [(reduced(picture), *texts) for picture, *texts in made]


def long_scores(model, art):
    """Long captions: a change after token 77, a change before token 60, the right one of all."""
    made = long_tests(art)
    images = model.images(np.stack([row[0] for row in made]))
    texts, late, early = (model.texts([row[k] for row in made]) for k in (1, 2, 3))
    own = (images * texts).sum(-1)
    result = {
        f"long: {name}, 2-way": shares(won(torch.stack([own, (images * other).sum(-1)], 1)))
        for name, other in (("change behind token 77", late), ("change before token 60", early))
    }
    above = (images @ texts.T > own[:, None]).sum(1)
    lengths = [len(tokenizer.encode(row[1])) + 2 for row in made]
    return result | {
        f"long: right one of {SCENES}": shares((above == 0).float().numpy()),
        "long: tokens": {"mean": float(np.mean(lengths)), "least": min(lengths), "most": max(lengths)},
    }


def scores(model, art, parts=("single", "short", "order", "long")):
    """Every figure of a model; long captions only if they fit."""
    model = Model(model.eval())
    functions = {"single": single_scores, "short": short_scores, "order": order_scores,
                 "long": long_scores, "counts": count_scores}  # fmt: skip
    result = {}
    for part in parts:
        if part != "long" or model.context == network.LONG_CONTEXT:
            result |= functions[part](model, art)
    return result


CHANCE = {
    "white top-1": 0.5, "white top-5": 2.5, "backgrounds top-1": 0.5, "backgrounds top-5": 2.5,
    "1 of 10 short": 10, "1 of 9, one thing changed": 100 / 9, "left-right swapped, 2-way": 50,
    "above-below swapped, 2-way": 50, "long: change behind token 77, 2-way": 50,
    "long: change before token 60, 2-way": 50, f"long: right one of {SCENES}": 100 / SCENES,
}  # fmt: skip


def table(results):
    """The figures of several models as Markdown."""
    lines = ["| figure | chance | " + " | ".join(results) + " |", "|---|---|" + "---|" * len(results)]
    for key in dict.fromkeys(key for result in results.values() for key in result):
        if "tokens" in key:
            continue
        cells = [cell(result.get(key)) for result in results.values()]
        chance = CHANCE.get(key)
        lines.append(f"| {key} | {'' if chance is None else f'{chance:.1f}'} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(value):
    """A figure with its spread: the standard deviation of draws, or the standard error over scenes."""
    if value is None:
        return "-"
    return f"{value['mean']:.1f} ± {value.get('deviation', value.get('error')):.1f}"


def opened(source, work):
    """A model of "NAME.pt", "stretch:NAME.pt" or "model.bin"."""
    path = Path(work) / source.removeprefix("stretch:")
    if source.endswith(".bin"):
        _, arrays = pack.unpacked((pack.HERE / source).read_bytes())
        return pack.restored({k: torch.from_numpy(np.array(v)) for k, v in arrays.items()})
    model, state = train.load(path)
    return network.stretched(model, state["vocabulary"]) if source.startswith("stretch:") else model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("models", nargs="+", help="NAME=base.pt, NAME=stretch:base.pt, NAME=model.bin")
    parser.add_argument("--parts", nargs="+", default=("single", "short", "order", "long"))
    parser.add_argument("--art", default="held_out", choices=("held_out", "training"))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    art = batches.Artwork(args.work, args.art)
    results = {}
    for name, source in (entry.split("=") for entry in args.models):
        results[name] = scores(opened(source, args.work), art, args.parts)
    print(table(results))
    if args.out:
        args.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
