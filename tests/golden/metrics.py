#!/usr/bin/env python3
"""Results of scikit-learn, torchmetrics, netcal, statsmodels, scipy, CLIP_benchmark and Long-CLIP's
scripts for synthetic scores: writes tests/golden/expected/metrics.json, which tests/metrics.rs
compares with src/task.

    python3 tests/golden/metrics.py

Requires tests/golden/metrics-requirements.txt. If two of the tools compute the same thing, the
script fails if they differ; known differences are noted next to the number that is used:

- Top-5 accuracy with ties: scikit-learn and torch each order ties differently; here the order is that of
  a stable sort. Without ties they agree.
- Calibration error: torchmetrics gives probabilities of exactly 1 a separate bin, and its f32 edges are off by a
  rounding error; netcal's are used, and both if neither occurs.
- Temperature: netcal clips small probabilities before taking their logarithms, so that logits of CLIP's scale give
  a different minimum; scipy's bounded minimisation in f64 is used, and compared with netcal if nothing is clipped.
- McNemar: the exact test up to 1000 differing samples, else chi-square with correction.
- Recall: scores that differ by less than 1e-5 may rank differently with another order of summation; there are none.

CLIP_benchmark's `recall_at_k` and the loops of Long-CLIP's `coco.py`, `flickr30k.py` and
`Urban1k.py` are restated here as one-liners over the whole score matrix.
"""

import json
import warnings
from pathlib import Path

import numpy as np
import scipy.optimize
import scipy.special
import torch
from netcal.metrics import ECE
from netcal.scaling import TemperatureScaling
from sklearn import metrics
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from torchmetrics.functional.classification import (
    binary_calibration_error,
    multiclass_calibration_error,
)

EXPECTED = Path(__file__).resolve().parent / "expected/metrics.json"
BINS = 15


def probabilities(logits):
    """Softmax in f64, rounded to f32, as in the program."""
    return scipy.special.softmax(logits.astype(np.float64), axis=1).astype(np.float32)


def classification_cases(rng):
    """Name, logits, targets. Logits in eighths are exact in JSON and f32, and many are tied."""

    def logits(n, classes, targets=None, right=0.0, spread=2.0):
        values = np.round(rng.normal(0, spread, (n, classes)) * 8) / 8 + 0.0  # no -0
        if targets is not None:
            values[np.arange(n), targets] += np.where(rng.random(n) < right, 3.0, 0.0)
        return values

    targets = rng.integers(0, 10, 120)
    yield "ten classes", logits(120, 10, targets, 0.7), targets
    # Neither samples nor predictions in class 4, samples only in some, predictions in others.
    targets = rng.choice([0, 1, 3, 6, 8], 60, p=[0.5, 0.2, 0.1, 0.1, 0.1])
    values = logits(60, 9, targets, 0.4)
    values[:, 4] = -20
    values[:, 6] = -20
    yield "absent classes", values, targets
    # All scores are integers: ties everywhere, including the top.
    targets = rng.integers(0, 8, 80)
    yield "ties", np.round(logits(80, 8, targets, 0.5, 0.7)) + 0.0, targets  # no -0
    targets = rng.integers(0, 6, 30)
    yield "all right", logits(30, 6) + 40.0 * np.eye(6)[targets], targets
    yield "all wrong", logits(30, 6) + 40.0 * np.eye(6)[(targets + 1) % 6], targets
    yield "one answer for all", np.tile([[0.5, 3.0, 1.0, 0.0, -1.0, 0.25]], (30, 1)), targets
    for classes in (2, 3, 4):
        targets = rng.integers(0, classes, 40)
        yield f"{classes} classes", logits(40, classes, targets, 0.5), targets
    yield "one sample", logits(1, 3), np.array([2])
    targets = rng.integers(0, 7, 50)
    # CLIP's own scale: many probabilities are 1 in f32.
    yield "sure", logits(50, 7, targets, 0.8) * 8, targets


def calibration_error(confidences, right):
    """netcal's error, compared with torchmetrics' where they should agree."""
    ours = float(ECE(BINS).measure(confidences.astype(np.float64), right.astype(int)))
    edges = np.abs(confidences[:, None] - np.linspace(0, 1, BINS + 1)).min(axis=1)
    agree = bool((edges > 1e-6).all())
    if agree:
        theirs = binary_calibration_error(torch.tensor(confidences), torch.tensor(right.astype(int)), BINS, "l1")
        assert abs(theirs.item() - ours) < 1e-6, (theirs, ours)
    return ours, agree


def top_5(order, targets):
    return float(np.mean([target in row[:5] for target, row in zip(targets, order)]))


def classification(name, logits, targets):
    classes = logits.shape[1]
    labels = list(range(classes))
    chances = probabilities(logits)
    order = np.argsort(-logits, axis=1, kind="stable")
    predicted = order[:, 0]
    if all(len(set(row)) == classes for row in logits) and classes > 5 and len(set(targets)) > 2:
        theirs = metrics.top_k_accuracy_score(targets, logits, k=5, labels=labels)
        assert abs(theirs - top_5(order, targets)) < 1e-12, name
    confidences, right = chances.max(axis=1), predicted == targets
    ece, agree = calibration_error(confidences, right)
    if agree and classes > 2:
        theirs = multiclass_calibration_error(torch.tensor(chances), torch.tensor(targets), classes, BINS, "l1")
        # Its argmax also takes the first on ties.
        assert abs(theirs.item() - ece) < 1e-6, (name, theirs, ece)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # classes that were only predicted
        balanced = metrics.balanced_accuracy_score(targets, predicted)

    def scores(**how):
        found = metrics.precision_recall_fscore_support(targets, predicted, zero_division=0, **how)
        return [np.asarray(x).tolist() for x in found[:3]]

    # As scikit-learn does for f32, with the sum in f64.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # clipped rows do not sum to 1
        clipped = np.maximum(chances.astype(np.float64), np.finfo(np.float32).eps)
        likelihood = metrics.log_loss(targets, clipped, labels=labels)
    assert abs(likelihood - metrics.log_loss(targets, chances, labels=labels)) < 1e-5, name
    matrix = metrics.confusion_matrix(targets, predicted, labels=labels)
    return {
        "name": name,
        "logits": logits.tolist(),
        "targets": targets.tolist(),
        "acc1": metrics.accuracy_score(targets, predicted),
        "acc5": top_5(order, targets),
        "mean_per_class_recall": balanced,
        "per_class": scores(labels=labels),
        "support": np.bincount(targets, minlength=classes).tolist(),
        # Without labels: classes that occur in neither do not count.
        "macro": scores(average="macro"),
        "weighted": scores(average="weighted"),
        "confusion": [[int(i), int(j), int(matrix[i, j])] for i, j in np.argwhere(matrix)],
        "ece": ece,
        "nll": likelihood,
        "brier": metrics.brier_score_loss(targets, chances, labels=labels, scale_by_half=False)
        if classes > 2
        else 2 * metrics.brier_score_loss(targets, chances[:, 1], labels=labels, pos_label=1),
    }


def calibration_errors(rng):
    """Best probabilities, including edges and their neighbours, for several numbers of bins."""
    edges = np.array([k / BINS for k in range(BINS + 1)], np.float32)
    near = np.concatenate([np.nextafter(edges, np.float32(0)), edges, np.nextafter(edges[:-1], np.float32(1))])
    for name, confidences in [
        ("random", rng.random(200).astype(np.float32)),
        ("edges", near),
        ("ones", np.array([1, 1, 1, 0.95, 0.99], np.float32)),
    ]:
        right = rng.random(len(confidences)) < 0.6
        ece, agree = calibration_error(confidences, right)
        yield {
            "name": name,
            # Each f32 is exact as a double.
            "confidences": confidences.astype(np.float64).tolist(),
            "right": right.tolist(),
            "ece": ece,
            "torchmetrics_agrees": agree,
        }


def temperature(name, logits, targets):
    def nll(log_t):
        z = logits / np.exp(log_t)
        return float(np.mean(scipy.special.logsumexp(z, axis=1) - z[np.arange(len(targets)), targets]))

    found = scipy.optimize.minimize_scalar(nll, bounds=(-7, 7), method="bounded", options={"xatol": 1e-12})
    t = float(np.exp(found.x))
    given = scipy.special.softmax(logits, axis=1)
    # It treats two classes as one, and clips small probabilities.
    if logits.shape[1] > 2 and given.min() > 1e-7:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scaling = TemperatureScaling()
            scaling.fit(given, targets)
        # It multiplies where we divide.
        theirs = 1 / float(np.ravel(scaling.temperature)[0])
        assert abs(theirs / t - 1) < 1e-3, (name, theirs, t)
    chances = probabilities(logits)
    calibrated = scipy.special.softmax(logits / t, axis=1)
    predicted = np.argmax(logits, axis=1)
    right = predicted == targets
    return {
        "name": name,
        "logits": logits.tolist(),
        "targets": targets.tolist(),
        "temperature": t,
        "nll_before": nll(0.0),
        "nll_after": nll(found.x),
        "ece_before": calibration_error(chances.max(axis=1), right)[0],
        "ece_after": calibration_error(calibrated.max(axis=1).astype(np.float32), right)[0],
        "threshold": threshold(calibrated.max(axis=1).astype(np.float32), right),
    }


def threshold(confidences, right):
    """scikit-learn's ROC curve; on ties of the Youden index (in integers) the lowest threshold."""
    false, true, thresholds = metrics.roc_curve(right, confidences, drop_intermediate=False)
    positives, negatives = int(right.sum()), int((~right).sum())
    gains = [round(t * positives) * negatives - round(f * negatives) * positives for f, t in zip(false, true)]
    best = max(range(len(gains)), key=lambda i: (gains[i], i))
    return {"threshold": float(thresholds[best]), "youden": float(true[best] - false[best])}


def temperature_cases(rng):
    for name, classes, n, scale, noise in [
        ("too sure", 5, 90, 1.2, 1.5),
        ("too careful", 4, 60, 0.5, 0.9),
        ("clip's scale", 6, 80, 12.0, 1.5),
        ("two classes", 2, 80, 3.0, 1.0),
    ]:
        targets = rng.integers(0, classes, n)
        logits = rng.normal(0, noise, (n, classes)) + 1.5 * np.eye(classes)[targets]
        yield temperature(name, np.round(logits * scale * 64) / 64, targets)


def paired():
    for only_first, only_second in [(0, 0), (1, 0), (3, 3), (2, 9), (40, 21), (0, 30), (380, 420), (400, 600),
                                    (600, 401), (2000, 2200), (700, 900), (0, 1200)]:
        exact = only_first + only_second <= 1000
        table = [[50, only_first], [only_second, 20]]
        found = mcnemar(table, exact=exact, correction=True)
        yield {
            "only_first": only_first,
            "only_second": only_second,
            "exact": exact,
            "statistic": float(found.statistic),
            "p_value": float(found.pvalue),
        }


def holm(rng):
    for count in (1, 3, 8):
        p_values = np.round(rng.random(count) ** 3, 6)
        yield {"p_values": p_values.tolist(), "corrected": multipletests(p_values, method="holm")[1].tolist()}


def unit(rows):
    rows = torch.tensor(rows, dtype=torch.float32)
    return rows / rows.norm(dim=-1, keepdim=True)


def clip_benchmark(scores, positive, k):
    """Its recall_at_k: the queries with at least one right answer among their k best."""
    best = torch.topk(scores, min(k, scores.shape[1]), dim=1).indices
    return positive.gather(1, best).any(dim=1).float().mean().item()


def longclip(images, texts, k):
    """coco.py and flickr30k.py, for five texts per image in order; k = 1 and one text per image is Urban1k.py."""
    each = len(texts) // len(images)
    similarity = images @ texts.T
    from_image = [any(each * i + j in row.argsort()[-k:] for j in range(each)) for i, row in enumerate(similarity)]
    from_text = [t // each in row.argsort()[-k:] for t, row in enumerate(similarity.T)]
    return sum(from_text) / len(texts), sum(from_image) / len(images)


def retrieval(rng, name, images, texts, image_of_text, even):
    scores = (unit(texts) @ unit(images).T).double()
    gaps = min(np.diff(np.sort(s.ravel())).min() for matrix in (scores, scores.T) for s in matrix.numpy())
    positive = torch.zeros_like(scores, dtype=torch.bool)
    positive[torch.arange(len(texts)), torch.tensor(image_of_text)] = True
    recalls = {}
    for k in (1, 5, 10):
        recalls[k] = [clip_benchmark(scores, positive, k), clip_benchmark(scores.T, positive.T, k)]
        if even:
            assert np.allclose(longclip(unit(images).numpy(), unit(texts).numpy(), k), recalls[k]), (name, k)
    own = scores[torch.arange(len(texts)), torch.tensor(image_of_text)]
    ranks = 1 + (scores > own[:, None]).sum(dim=1)
    return gaps, {
        "name": name,
        "images": images.tolist(),
        "texts": texts.tolist(),
        "image_of_text": image_of_text,
        "recall": {str(k): value for k, value in recalls.items()},
        "median_rank": float(np.median(ranks.numpy())),
        "mean_reciprocal_rank": float((1 / ranks.double()).mean()),
    }


def retrieval_cases(rng):
    for name, counts, dim in [
        ("five captions an image", [5] * 24, 8),
        ("one caption an image", [1] * 60, 6),
        ("one to four captions", [1 + i % 4 for i in range(40)], 7),
    ]:
        image_of_text = [image for image, count in enumerate(counts) for _ in range(count)]
        even = len(set(counts)) == 1
        if not even:
            image_of_text = rng.permutation(image_of_text).tolist()
        gaps = 0
        while gaps < 1e-5:
            images = np.round(rng.normal(0, 1, (len(counts), dim)), 3)
            texts = np.round(images[image_of_text] * 0.5 + rng.normal(0, 1, (len(image_of_text), dim)), 3)
            gaps, case = retrieval(rng, name, images, texts, image_of_text, even)
        yield case


def main():
    rng = np.random.default_rng(5)
    expected = {
        "classification": [classification(*case) for case in classification_cases(rng)],
        "calibration_error": list(calibration_errors(rng)),
        "temperature": list(temperature_cases(rng)),
        "mcnemar": list(paired()),
        "holm": list(holm(rng)),
        "retrieval": list(retrieval_cases(rng)),
    }
    text = json.dumps(expected, separators=(",", ":"), allow_nan=False)
    EXPECTED.write_text(text + "\n")
    print(f"{EXPECTED.name}: {len(text)} bytes")


if __name__ == "__main__":
    main()
