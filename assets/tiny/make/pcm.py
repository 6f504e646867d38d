"""Compares Primary Component Matching with its controls: four recipes, three seeds each, equal steps.

    pcm.py WORK [--core N] [--share X]

Every run tunes the same stretched base; only the batch (recipes.TABLE) and the seed. The
models are then scored on the held-out artwork and averaged over seeds into WORK/pcm.json.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import batches
import evaluate
import recipes

SEEDS = (1, 2, 3)


def run(work, recipe, seed, share, core):
    """Tunes one model, unless already done."""
    name = f"pcm-{recipe}-{seed}"
    if (work / f"{name}.pt").exists():
        return
    command = [sys.executable, str(Path(__file__).with_name("train.py")), "tune", str(work)]
    command += ["--recipe", recipe, "--seed", str(seed), "--name", name]
    command += ["--steps", str(recipes.TABLE_STEPS), "--share", str(share)]
    command += [] if core is None else ["--core", str(core)]
    subprocess.run(command, check=True)


def over_seeds(results):
    """Mean and sample standard deviation of every figure over the seeds."""
    table = {}
    for key in results[0]:
        values = [result[key]["mean"] for result in results]
        table[key] = {"mean": float(np.mean(values)), "deviation": float(np.std(values, ddof=1))}
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--core", type=int)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for seed in SEEDS:
        for recipe in recipes.TABLE:
            run(args.work, recipe, seed, args.share, args.core)
    art = batches.Artwork(args.work, "held_out")
    scored = {}
    for recipe in recipes.TABLE:
        models = [evaluate.opened(f"pcm-{recipe}-{seed}.pt", args.work) for seed in SEEDS]
        scored[recipe] = [evaluate.scores(model, art) for model in models]
    table = {recipe: over_seeds(results) for recipe, results in scored.items()}
    start = evaluate.scores(evaluate.opened("stretch:base.pt", args.work), art)
    print(evaluate.table({"stretched": start} | table))
    (args.work / "pcm.json").write_text(json.dumps({"runs": scored, "table": table}, indent=1) + "\n")


if __name__ == "__main__":
    main()
