"""Whether the maps of `longclip explain` find things with known places.

    pip install numpy pillow
    python tests/explain/quality.py target/release/longclip [SCENES]

The six drawings of assets/demo/drawn-scene.png are cut out, and four of them are pasted into each
scene, one per quarter. The built-in model explains "a penguin" and so on. For each method:

- pointing: how often the strongest cell of the map is in the quarter of the thing, 25% by chance;
- inside: the share of what raises the score that is in that quarter;
- deletion: the mean cosine with the label while cells are covered, strongest first (less is
  better);
- insertion: the same while cells are uncovered (higher is better).

Prints a table, whatever it says.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
THINGS = [["penguin", "telescope", "rainbow"], ["candle", "bicycle", "carrot"]]
LABEL = "a {}"
SIDE = 448
STEPS = 8
# The mean colour of CLIP's preprocessing, rounded.
MEAN = (123, 117, 104)
METHODS = {
    "occlusion, 4 x 4": ["--regions", "occlusion", "--grid", "4"],
    "occlusion, 7 x 7": ["--regions", "occlusion", "--grid", "7"],
    "occlusion, 14 x 14": ["--regions", "occlusion", "--grid", "14"],
    "direct contributions": ["--pairs"],
    "LeGrad": ["--regions", "legrad"],
    "Grad-ECLIP": ["--regions", "grad-eclip"],
    "random": None,
}


def run(*arguments):
    command = [*map(str, arguments), "--model", "tiny", "--precision", "f32", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def cut_out():
    """The drawings of the demo image, as large squares."""
    whole = Image.open(ROOT / "assets/demo/drawn-scene.png").convert("RGB")
    width, height = whole.width / 3, whole.height / 2
    found = {}
    for row, names in enumerate(THINGS):
        for column, name in enumerate(names):
            tile = whole.crop((int(column * width), int(row * height), int((column + 1) * width), int((row + 1) * height)))
            pixels = np.asarray(tile).astype(int)
            is_thing = np.abs(pixels - pixels[0, 0]).sum(2) > 30
            rows, columns = np.flatnonzero(is_thing.any(1)), np.flatnonzero(is_thing.any(0))
            found[name] = tile.crop((columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    return found, tuple(whole.getpixel((0, 0)))


def scene(drawings, ground, names, random):
    picture = Image.new("RGB", (SIDE, SIDE), ground)
    half = SIDE // 2
    for place, name in enumerate(names):
        drawing = drawings[name]
        side = random.uniform(0.6, 0.9) * half
        scale = side / max(drawing.size)
        drawing = drawing.resize([round(length * scale) for length in drawing.size])
        left, top = (random.integers(0, half - length + 1) for length in drawing.size)
        picture.paste(drawing, (place % 2 * half + left, place // 2 * half + top))
    return picture


def the_map(longclip, method, image, label, random):
    """What each cell adds to the score."""
    if METHODS[method] is None:
        return random.normal(size=(7, 7))
    [found] = run(longclip, "explain", image, "--label", label, "--words", "none", *METHODS[method])
    if "regions" in found:
        return np.array(found["regions"]["map"])
    return sum(np.array(word["map"]) for word in found["pairs"]["words"])


def steps(picture, found):
    """The picture with more and more cells covered, strongest first; and uncovered."""
    pixels, covered = np.asarray(picture), np.full((SIDE, SIDE, 3), MEAN, np.uint8)
    side = len(found)
    edges = np.arange(side + 1) * SIDE // side
    order = np.argsort(-found, axis=None, kind="stable")
    deleted, inserted = [], []
    for step in range(STEPS + 1):
        gone = np.zeros((SIDE, SIDE, 1), bool)
        for cell in order[: round(step * len(order) / STEPS)]:
            row, column = divmod(cell, side)
            gone[edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = True
        deleted.append(np.where(gone, covered, pixels))
        inserted.append(np.where(gone, pixels, covered))
    return deleted + inserted


def main():
    longclip = Path(sys.argv[1]).resolve()
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 50
    random = np.random.default_rng(0)
    drawings, ground = cut_out()
    names = sorted(drawings)
    tallies = {method: [] for method in METHODS}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "texts.txt").write_text("".join(LABEL.format(name) + "\n" for name in names))
        texts = run(longclip, "embed", "--texts", folder / "texts.txt")
        texts = np.array([row["embedding"] for row in texts])
        for number in range(count):
            chosen = [names[at] for at in random.permutation(len(names))[:4]]
            picture = scene(drawings, ground, chosen, random)
            image = folder / "scene.png"
            picture.save(image)
            place = int(random.integers(4))
            thing = chosen[place]
            pictures = {}
            for method in METHODS:
                found = the_map(longclip, method, image, LABEL.format(thing), random)
                side = len(found)
                best = divmod(int(found.argmax()), side)
                centre = [(at + 0.5) / side for at in best]
                points = int(centre[0] > 0.5) * 2 + int(centre[1] > 0.5) == place
                # Cells in the middle of an odd grid belong to both quarters.
                fine = np.kron(found.clip(0), np.ones((2, 2)))
                rows, columns = (slice(at * side, (at + 1) * side) for at in divmod(place, 2))
                inside = fine[rows, columns].sum() / max(fine.sum(), 1e-9)
                tallies[method].append([points, inside])
                pictures[method] = steps(picture, found)
            inputs = folder / str(number)
            inputs.mkdir()
            for at, several in enumerate(pictures.values()):
                for step, one in enumerate(several):
                    Image.fromarray(one).save(inputs / f"{at:02}-{step:02}.png", compress_level=1)
            rows = run(longclip, "embed", inputs)
            scores = np.array([row["embedding"] for row in rows]) @ texts[names.index(thing)]
            for method, curve in zip(METHODS, scores.reshape(len(METHODS), 2, STEPS + 1)):
                tallies[method][-1] += list(np.trapezoid(curve, axis=1) / STEPS)
            for one in inputs.iterdir():
                one.unlink()
    print(f"{count} scenes of four drawings{'':7}pointing  inside  deletion  insertion")
    for method, tally in tallies.items():
        points, inside, deletion, insertion = np.array(tally, float).mean(0)
        print(f"{method:34} {points:7.0%} {inside:7.0%} {deletion:9.3f} {insertion:10.3f}")


if __name__ == "__main__":
    main()
