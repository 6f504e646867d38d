#!/usr/bin/env python3
"""`longclip shift` against numpy, scipy, scikit-learn and the definitions, written out.

Two parts: sets of random embeddings (MMD by the formula that alibi-detect documents, its median
rule, CMMD, Fréchet by scipy's sqrtm, C2ST by scikit-learn, p of 1,000 null draws by Kolmogorov
and Smirnov), and images with labels through the built-in model, with the probabilities that
`classify` prints (total variation, chi-square, Fisher, Newcombe, Holm, BBSE, EM, ATC, DoC).

    tests/shift/compare.py --longclip target/release/longclip [--atc DIR]

With --atc, a checkout of saurabhgarg1996/ATC_code, its own find_ATC_threshold and get_ATC_acc run
too. Needs numpy, pillow, scipy, scikit-learn and statsmodels.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import linalg, stats
from scipy.spatial.distance import cdist
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep

worst = {}


def near(what, found, expected, most=1e-6):
    off = float(np.max(np.abs(np.asarray(found, float) - np.asarray(expected, float))))
    worst[what] = max(worst.get(what, (0, 0))[0], off), most


def run(longclip, *arguments):
    command = [longclip, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}\n{done.stderr}")
    return done.stdout


def unit(rows):
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(np.float32)


def discrepancy(a, b, gamma, biased):
    """Squared MMD with exp(-gamma d^2)."""
    within = []
    for rows in (a, b):
        kernel = np.exp(-gamma * cdist(rows, rows, "sqeuclidean"))
        n = len(rows)
        within.append(kernel.mean() if biased else (kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
    return sum(within) - 2 * np.exp(-gamma * cdist(a, b, "sqeuclidean")).mean()


def embedded(longclip, room):
    for m, n, dim, shift in ((60, 60, 16, 0.0), (300, 200, 64, 0.3), (1500, 900, 32, 0.1), (80, 90, 128, 0.5)):
        rng = np.random.default_rng(m)
        sets = [unit(rng.normal(size=(k, dim)) + np.eye(dim)[0] * (1 + s)) for k, s in ((m, 0), (n, shift))]
        for name, rows in zip("ab", sets):
            np.save(room / f"{name}.npy", rows)
        found = json.loads(run(longclip, "shift", room / "a.npy", room / "b.npy", "-q", "-f", "json"))
        a, b = (unit(rows.astype(np.float64)).astype(np.float64) for rows in sets)
        every = np.sort(cdist(np.vstack([a, b]), np.vstack([a, b]), "sqeuclidean"), axis=None)
        # alibi-detect's rule: the diagonal's zeros come first, then the lower median of the rest.
        total = m + n
        middle = total + (total * total - total) // 2 - 1
        sigma = np.sqrt(every[middle] / 2)
        if total <= 2048:
            near("sigma", found["mmd"]["sigma"], sigma)
        gamma = 1 / (2 * found["mmd"]["sigma"] ** 2)
        near("MMD", found["mmd"]["squared"], discrepancy(a, b, gamma, False))
        near("CMMD", found["cmmd"]["value"], 1000 * discrepancy(a, b, 1 / 200, True))
        ca, cb = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
        means = np.sum((a.mean(0) - b.mean(0)) ** 2)
        roots = np.sum(np.sqrt(np.clip(linalg.eigvals(ca @ cb).real, 0, None)))
        near("Fréchet", found["frechet"]["value"], means + np.trace(ca + cb) - 2 * roots)
        if min(m, n) > 4 * dim:
            root = linalg.sqrtm(ca @ cb)
            near("Fréchet by sqrtm", found["frechet"]["value"], means + np.trace(ca + cb - 2 * root.real))
        if m == n:
            scores = np.zeros((2, m))
            for fold in range(5):
                out = np.arange(m) % 5 == fold
                x = np.vstack([a[~out], b[~out]])
                y = np.repeat([0, 1], (~out).sum())
                model = LogisticRegression(C=1, tol=1e-10, max_iter=5000).fit(x, y)
                scores[0, out], scores[1, out] = model.decision_function(a[out]), model.decision_function(b[out])
            y = np.repeat([0, 1], m)
            right = int(((scores.ravel() > 0) == y).sum())
            near("C2ST accuracy", found["c2st"]["accuracy"], right / (2 * m))
            near("C2ST AUC", found["c2st"]["auc"], roc_auc_score(y, scores.ravel()))
            near("C2ST p", found["c2st"]["p"], stats.binomtest(right, 2 * m, 0.5, "greater").pvalue)
    found = []
    for draw in range(1000):
        rows = unit(np.random.default_rng(10_000 + draw).normal(size=(70, 8)))
        np.save(room / "a.npy", rows[:30])
        np.save(room / "b.npy", rows[30:])
        arguments = ("-q", "-f", "json", "--permutations", 199, "--seed", draw)
        found.append(json.loads(run(longclip, "shift", room / "a.npy", room / "b.npy", *arguments))["mmd"]["p"])
    # A p of 200 steps is uniform on them; half a step in between makes it so on the line.
    steps = np.array(found) - np.random.default_rng(0).uniform(0, 1 / 200, len(found))
    p = stats.kstest(steps, "uniform").pvalue
    print(f"1,000 null draws: p below 0.05 in {np.mean(np.array(found) <= 0.05):.3f}, uniform with p = {p:.3f}")
    if p < 0.01:
        sys.exit("p is not uniform")


SHAPES = ["a red circle", "a green square", "a blue triangle", "a yellow star", "a black cross"]


def draw(kind, rng):
    image = Image.new("RGB", (96, 96), tuple(int(c) for c in rng.integers(150, 256, 3)))
    pen = ImageDraw.Draw(image)
    x, y, r = rng.integers(30, 66), rng.integers(30, 66), rng.integers(10, 28)
    box = [int(v) for v in (x - r, y - r, x + r, y + r)]
    x, y, r = int(x), int(y), int(r)
    if kind == 0:
        pen.ellipse(box, fill="red")
    elif kind == 1:
        pen.rectangle(box, fill="green")
    elif kind == 2:
        pen.polygon([(x - r, y + r), (x + r, y + r), (x, y - r)], fill="blue")
    elif kind == 3:
        corners = np.arange(10) * np.pi / 5
        far = np.where(np.arange(10) % 2, r / 2, r)
        pen.polygon([(float(x + f * np.sin(t)), float(y - f * np.cos(t))) for t, f in zip(corners, far)], fill="yellow")
    else:
        pen.line([x - r, y, x + r, y], fill="black", width=6)
        pen.line([x, y - r, x, y + r], fill="black", width=6)
    return image


def answered(longclip, room, name):
    """Probabilities [n, labels] and true labels, as `classify` prints them."""
    text = run(longclip, "classify", room / name, "-q", "-f", "jsonl", "-m", "tiny", "--labels", *SHAPES)
    rows, truths = [], []
    for line in text.splitlines():
        record = json.loads(line)
        of = {one["label"]: one["probability"] for one in record["predictions"]}
        rows.append([of[label] for label in SHAPES])
        truths.append(SHAPES.index(Path(record["image"]).parent.name))
    return np.array(rows), np.array(truths)


def labelled(longclip, room, atc=None):
    rng = np.random.default_rng(5)
    for name, counts in (("x", (60, 40, 50, 30, 40)), ("y", (20, 30, 70, 60, 50))):
        for kind, count in enumerate(counts):
            (room / name / SHAPES[kind]).mkdir(parents=True)
            for number in range(count):
                draw(kind, rng).save(room / name / SHAPES[kind] / f"{number:03}.png")
    arguments = ("-q", "-f", "json", "-m", "tiny", "--labels", *SHAPES)
    found = json.loads(run(longclip, "shift", room / "x", room / "y", *arguments))
    (pa, ta), (pb, tb) = answered(longclip, room, "x"), answered(longclip, room, "y")
    k = len(SHAPES)
    aa, ab = pa.argmax(1), pb.argmax(1)
    ca, cb = np.bincount(aa, minlength=k), np.bincount(ab, minlength=k)
    answers = found["answers"]
    near("total variation", answers["total_variation"], np.abs(ca / ca.sum() - cb / cb.sum()).sum() / 2)
    table = np.array([ca, cb])
    there = table.sum(0) > 0
    chi = stats.chi2_contingency(table[:, there], correction=False)
    near("chi-square", answers["chi_square"], chi.statistic)
    near("chi-square p", answers["p"], chi.pvalue)
    rows = answers["per_label"]
    p = [stats.fisher_exact([[x, ca.sum() - x], [y, cb.sum() - y]])[1] for x, y in zip(ca, cb)]
    near("Fisher", [row["p"] for row in rows], p)
    near("Holm", [row["p_holm"] for row in rows], multipletests(p, method="holm")[1])
    for row, x, y in zip(rows, ca, cb):
        ends = confint_proportions_2indep(y, cb.sum(), x, ca.sum(), method="newcomb", compare="diff")
        near("Newcombe", row["interval"], ends)
    joint = np.zeros((k, k))
    np.add.at(joint, (aa, ta), 1 / len(ta))
    prior = np.bincount(ta, minlength=k) / len(ta)
    shares = found["label_shares"]["per_label"]
    weights = np.clip(np.linalg.solve(joint, cb / cb.sum()), 0, None) * prior
    near("BBSE", [row["bbse"] for row in shares], weights / weights.sum())
    em = prior.copy()
    for _ in range(10_000):
        scaled = pb * (em / prior)
        new = (scaled / scaled.sum(1, keepdims=True)).mean(0)
        change, em = np.abs(new - em).max(), new / new.sum()
        if change < 1e-8:
            break
    # Probabilities are printed with seven digits, and the steps stop at a change of 1e-8.
    near("EM", [row["em"] for row in shares], em, 1e-5)
    right = aa == ta
    accuracy = found["accuracy"]
    near("accuracy", [accuracy["a"], accuracy["b"]], [right.mean(), (ab == tb).mean()])
    def logs(p):
        return np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1)), 0), 1)

    for key, score in (("atc", lambda p: p.max(1)), ("atc_entropy", logs)):
        known = np.sort(score(pa))
        errors = int((~right).sum())
        threshold = known[errors] if errors < len(known) else np.inf
        assert (known < threshold).sum() <= errors
        near(key, accuracy[key], (score(pb) >= threshold).mean(), 1 / len(pb) if key == "atc_entropy" else 1e-6)
        # The authors' search ends one image of A lower, if there are errors.
        theirs = known[errors - 1] if errors else known[0]
        if atc:
            sys.path.insert(0, atc)
            import ATC_helper

            own = ATC_helper.find_ATC_threshold(score(pa), right.astype(int))[1]
            near(f"{key}, threshold of the authors' code", theirs, own)
            own = ATC_helper.get_ATC_acc(own, score(pb)) / 100
            near(f"{key} by the authors' code", accuracy[key], own, 3 / len(pb))
        near(f"{key} of the authors", accuracy[key], (score(pb) >= theirs).mean(), 3 / len(pb))
    doc = right.mean() - (pa.max(1).mean() - pb.max(1).mean())
    near("DoC", accuracy["doc"], doc)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--longclip", default="target/release/longclip")
    parser.add_argument("--atc", help="a checkout of the code of ATC's authors")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as room:
        labelled(args.longclip, Path(room), args.atc)
        embedded(args.longclip, Path(room))
    print("| number | largest difference | allowed |\n|---|---|---|")
    for what, (off, most) in worst.items():
        print(f"| {what} | {off:.1e} | {most:.1e} |")
    if any(off > most for off, most in worst.values()):
        sys.exit("a number is off")


if __name__ == "__main__":
    main()
