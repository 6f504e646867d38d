#!/usr/bin/env python3
"""A small scikit-learn fit, with which the unit tests of logistic regression compare.

Writes fit.json next to itself: samples of three classes, many of one and few of another, and the
coefficients and biases of LogisticRegression, which regularises the coefficients but not the biases. A
fit with regularised biases is checked to differ.

    tests/probe/golden.py

Needs numpy, scipy and scikit-learn.
"""

import json
from pathlib import Path

import numpy as np
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression

COUNTS = [40, 9, 3]
DIM = 4
L2 = 2.0


def samples():
    rng = np.random.default_rng(7)
    y = rng.permutation(np.repeat(np.arange(len(COUNTS)), COUNTS))
    rows = rng.standard_normal((len(COUNTS), DIM))[y] + 1.2 * rng.standard_normal((len(y), DIM))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), y


def held_back(x, y):
    """The same with regularised biases."""
    k = len(COUNTS)

    def objective(point):
        w, b = point[: k * DIM].reshape(k, DIM), point[k * DIM:]
        scores = x @ w.T + b
        return (logsumexp(scores, axis=1) - scores[np.arange(len(y)), y]).sum() + L2 / 2 * (point**2).sum()

    found = minimize(objective, np.zeros(k * DIM + k), options={"gtol": 1e-8})
    return found.x[: k * DIM].reshape(k, DIM), found.x[k * DIM:]


def main():
    x, y = samples()
    wide = x.astype(np.float64)
    model = LogisticRegression(C=1 / L2, solver="lbfgs", tol=1e-12, max_iter=10000).fit(wide, y)
    bias = model.intercept_ - model.intercept_.mean()
    weights, other = held_back(wide, y)
    assert np.abs(bias - (other - other.mean())).max() > 0.3
    assert np.abs(model.coef_ - weights).max() > 0.1
    fit = {
        "samples": [[float(v) for v in row] for row in x],
        "classes": y.tolist(),
        "l2": L2,
        "weights": np.round(model.coef_.ravel(), 9).tolist(),
        "bias": np.round(bias, 9).tolist(),
    }
    lines = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in fit.items()]
    (Path(__file__).parent / "fit.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
