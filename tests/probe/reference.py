#!/usr/bin/env python3
"""longclip probe compared with scikit-learn and plain numpy, on the same embeddings.

Writes embeddings of several kinds as longclip embed would, trains a probe on each with the program, and
compares it with scikit-learn's LogisticRegression: the accuracy (at most 0.2 points apart), the
objective, the coefficients, and the penalty that the same search finds. Tip-Adapter is compared with a
few lines of numpy, and the zero-shot start with the same regression in scipy.

    tests/probe/reference.py --longclip target/release/longclip

Needs numpy, scipy, scikit-learn and safetensors.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

MOST_POINTS = 0.2


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def clusters(classes, counts, dim, spread, seed):
    """One part per count, with the same classes."""
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((classes, dim)) / np.sqrt(dim)
    parts = []
    for count in counts:
        y = np.repeat(np.arange(classes), count)
        noise = rng.standard_normal((len(y), dim)) / np.sqrt(dim)
        parts.append((unit(centres[y] + spread * noise), y))
    return parts


def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = unit(x[order] - x.mean(axis=0)), y[order]
    return [(x[a:b], y[a:b]) for a, b in [(0, 900), (900, 1200), (1200, len(y))]]


# Training, validation and test images.
SETS = {
    "well separated": clusters(10, [30, 10, 100], 64, 0.7, 1),
    "overlapping": clusters(10, [100, 40, 200], 64, 3.0, 2),
    "two classes": clusters(2, [100, 40, 500], 32, 2.5, 3),
    "many classes": clusters(200, [8, 4, 10], 128, 3.0, 4),
    "few shots": clusters(20, [2, 2, 50], 128, 3.0, 5),
    "digits": digits(),
}


def write(path, x, y):
    with open(path, "w") as file:
        for at, (row, label) in enumerate(zip(x, y)):
            line = {
                "image": f"{path.stem}/c{label:04d}/{at}.png", "width": 1, "height": 1,
                "embedding": [float(value) for value in row], "model": f"made-up@{'ab' * 32}",
                "precision": "f32", "settings": "", "version": "1",
            }
            file.write(json.dumps(line) + "\n")


class Program:
    def __init__(self, binary, folder, parts):
        self.binary, self.folder = binary, folder
        for name, (x, y) in zip(["train", "val", "test"], parts):
            write(folder / f"{name}.jsonl", x, y)

    def train(self, *arguments):
        """The program's output and the tensors of the probe."""
        out = self.folder / "p.safetensors"
        command = [self.binary, "probe", self.folder / "train.jsonl", "--val", self.folder / "val.jsonl",
                   "--test", self.folder / "test.jsonl", "--out", out, "--force", "--format", "json", "--quiet",
                   *arguments]
        ran = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if ran.returncode != 0:
            sys.exit(f"{command}\n{ran.stderr}")
        return json.loads(ran.stdout), load_file(out)


def objective(weights, bias, x, y, l2):
    """The sum of losses and penalty; for two classes scikit-learn has a single vector, the difference."""
    scores = x.astype(np.float64) @ weights.T + bias
    losses = logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]
    squares = ((weights[1] - weights[0]) ** 2).sum() if len(weights) == 2 else (weights ** 2).sum()
    return losses.sum() + 0.5 * l2 * squares


def regression(x, y, l2):
    """scikit-learn's fit, run to convergence: its default tolerance stops far too early on
    normalised embeddings."""
    model = LogisticRegression(C=1 / l2, tol=1e-9, max_iter=20000).fit(x.astype(np.float64), y)
    weights, bias = model.coef_, model.intercept_
    if len(weights) == 1:
        weights, bias = np.concatenate([-weights, weights]) / 2, np.concatenate([-bias, bias]) / 2
    return weights, bias


def accuracy(weights, bias, x, y):
    return float(((x @ weights.T + bias).argmax(axis=1) == y).mean())


def quality(weights, bias, x, y):
    scores = x @ weights.T + bias
    loss = (logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]).mean()
    return (int((scores.argmax(axis=1) == y).sum()), -loss)


def search(train, val):
    """The CLIP paper's search with scikit-learn's fits; ties are decided by the loss."""
    known = {}

    def judge(place):
        if 0 <= place <= 96 and place not in known:
            known[place] = quality(*regression(*train, 10 ** (place / 8 - 6)), *val)

    def peak():
        return max(known, key=lambda place: (*known[place], place))

    for place in range(0, 97, 16):
        judge(place)
    for stride in [8, 4, 2, 1]:
        best = peak()
        judge(best - stride)
        judge(best + stride)
    return 10 ** (peak() / 8 - 6)


def check_regression(binary):
    print(f"{'set':16} {'l2':>9} {'sklearn':>8} {'longclip':>8} {'points':>7} {'objective':>13} "
          f"{'relative':>9} {'coefficients':>12}")
    worst, failed = 0.0, False
    for name, parts in SETS.items():
        with tempfile.TemporaryDirectory() as folder:
            program = Program(binary, Path(folder), parts)
            train, val, test = parts
            both = tuple(np.concatenate(pair) for pair in zip(train, val))
            for l2 in [10.0, 1.0, 0.1, 1e-3, None]:
                found, tensors = program.train("--l2", "auto" if l2 is None else l2)
                strength = found["l2"]
                weights, bias = regression(*both, strength)
                reference = accuracy(weights, bias, *test)
                points = 100 * abs(found["acc1"] - reference)
                mine = tensors["weight"].astype(np.float64)
                expected = objective(weights, bias, *both, strength)
                relative = found["fit"]["objective"] / expected - 1
                apart, largest = np.abs(mine - weights).max(), np.abs(weights).max()
                note = ""
                if l2 is None:
                    # If many penalties get the same number of validation images right, the choice
                    # among them depends on the last digits, but the number right hardly does: the
                    # program's fits stop earlier during the search.
                    best = search(train, val)
                    right = [quality(*regression(*train, one), *val)[0] for one in [strength, best]]
                    note = f"  auto: {right[0]} of {len(val[1])} right; scikit-learn {best:.2e}: {right[1]}"
                    failed |= right[0] < right[1] - 1
                print(f"{name:16} {strength:9.2e} {100 * reference:8.2f} {100 * found['acc1']:8.2f} "
                      f"{points:7.2f} {expected:13.6f} {relative:9.1e} {apart:.1e} of {largest:.1f}{note}")
                worst = max(worst, points)
                # With the weakest penalties on perfectly separable data, almost nothing is
                # left of the objective: 1e-7 per image counts as equal.
                apart = abs(found["fit"]["objective"] - expected)
                failed |= points > MOST_POINTS or not apart < 1e-6 * expected + 1e-7 * len(both[1])
    print(f"largest difference in accuracy: {worst:.2f} points (at most {MOST_POINTS})\n")
    return failed


def towards_start(binary, model):
    """Zero-shot start, blend and Tip-Adapter, with the built-in model's texts."""
    words = ["cat", "dog", "house", "tree", "apple", "car"]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        texts = folder / "texts.safetensors"
        run = [binary, "embed", "--model", model, "--text", *words, "-o", texts, "--quiet"]
        subprocess.run(list(map(str, run)), check=True)
        text = load_file(texts)["embeddings"]
        # Images around the directions of the texts, from the model that embedded the texts.
        with open(texts, "rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))["__metadata__"]
        rng = np.random.default_rng(7)
        parts = []
        for count in [4, 10, 100]:
            y = np.repeat(np.arange(len(words)), count)
            shift = np.random.default_rng(8).standard_normal(text.shape) / np.sqrt(text.shape[1])
            noise = rng.standard_normal((len(y), text.shape[1])) / np.sqrt(text.shape[1])
            parts.append((unit(0.3 * text[y] + shift[y] + 1.5 * noise), y))
        program = Program(binary, folder, parts)
        for name in ["train", "val", "test"]:
            path = folder / f"{name}.jsonl"
            lines = path.read_text().replace(f"made-up@{'ab' * 32}", header["model"])
            for at, word in enumerate(words):
                lines = lines.replace(f"/c{at:04d}/", f"/{word}/")
            activation = next(s for s in header["settings"].split() if s.startswith("activation="))
            path.write_text(lines.replace('"settings": ""', f'"settings": "{activation}"'))
        # Folders are in name order.
        order = np.argsort(words)
        rank = np.empty(len(words), int)
        rank[order] = np.arange(len(words))
        (train, val, test) = [(x, rank[y]) for x, y in parts]
        texts = text[order]
        return held_to_the_texts(program, model, (train, val, test), texts)


def held_to_the_texts(program, model, parts, texts):
    train, val, test = parts
    use = ["--model", model, "--template", "{}"]
    found, tensors = program.train(*use, "--blend", "0")
    scale = float(np.linalg.norm(tensors["weight"][0]) / np.linalg.norm(texts[0]))
    start = scale * texts.astype(np.float64)
    failed = report("zero-shot", found["zero_shot"]["acc1"], accuracy(start, 0.0, *test))

    x, y = (np.concatenate(pair) for pair in zip(train, val))
    x, classes, l2 = x.astype(np.float64), len(texts), 0.05

    def loss(point):
        weights, bias = point[:-classes].reshape(classes, -1), point[-classes:]
        scores = x @ weights.T + bias
        chances = np.exp(scores - logsumexp(scores, axis=1, keepdims=True))
        away = np.concatenate([(weights - start).ravel(), bias])
        value = -np.log(chances[np.arange(len(y)), y]).sum() + 0.5 * l2 * (away ** 2).sum()
        chances[np.arange(len(y)), y] -= 1
        return value, np.concatenate([(chances.T @ x).ravel(), chances.sum(axis=0)]) + l2 * away

    point = np.concatenate([start.ravel(), np.zeros(classes)])
    best = minimize(loss, point, jac=True, method="L-BFGS-B",
                    options={"maxiter": 20000, "maxfun": 40000, "ftol": 1e-15, "gtol": 1e-9})
    weights, bias = best.x[:-classes].reshape(classes, -1), best.x[-classes:]
    found, tensors = program.train(*use, "--init", "zero-shot", "--l2", l2)
    failed |= report("from the texts", found["acc1"], accuracy(weights, bias, *test))
    print(f"  objective {found['fit']['objective']:.6f}, scipy's {best.fun:.6f}; largest difference of "
          f"coefficients {np.abs(tensors['weight'] - weights).max():.1e} of {np.abs(weights).max():.1f}")
    failed |= abs(found["fit"]["objective"] / best.fun - 1) > 1e-6
    mixed = 0.3 * weights + 0.7 * start
    found, _ = program.train(*use, "--init", "zero-shot", "--l2", l2, "--blend", "0.3")
    failed |= report("blend 0.3", found["acc1"], accuracy(mixed, 0.3 * bias, *test))

    found, tensors = program.train(*use, "--method", "tip-adapter")
    alpha, beta = found["alpha"], found["beta"]
    keys = train[0].astype(np.float64)

    def tip(images, alpha, beta):
        near = np.exp(-beta * (1 - images.astype(np.float64) @ keys.T)) @ np.eye(classes)[train[1]]
        return images @ start.T + alpha * near

    answer = (tip(test[0], alpha, beta).argmax(axis=1) == test[1]).mean()
    failed |= report(f"tip-adapter, alpha {alpha}, beta {beta}", found["acc1"], answer)
    # No point of a fine grid is better on validation by more than an image or two.
    def right(alpha, beta):
        return int((tip(val[0], alpha, beta).argmax(axis=1) == val[1]).sum())
    fine = max(right(a, b) for a in np.linspace(0, 50, 101) for b in np.linspace(0.5, 32, 64))
    print(f"  right on {len(val[1])} validation images: {right(alpha, beta)}; best of 6464 mixes {fine}")
    return failed | (fine - right(alpha, beta) > 2)


def report(name, found, expected):
    points = 100 * abs(found - expected)
    print(f"{name:36} reference {100 * expected:6.2f}%  longclip {100 * found:6.2f}%  {points:.2f} points")
    return points > MOST_POINTS


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--longclip", required=True, type=Path)
    parser.add_argument("--model", default="tiny")
    args = parser.parse_args()
    failed = check_regression(args.longclip.resolve())
    failed |= towards_start(args.longclip.resolve(), args.model)
    sys.exit("a difference is too large" if failed else None)


if __name__ == "__main__":
    main()
