"""Scores the training snapshots on the held-out artwork and plots the curve.

    curve.py WORK [--every N]

Appends missing scores to WORK/curve.jsonl and plots curve.png next to model.bin. The curve is
never used for selection: the shipped model is the last step.
"""

import argparse
import json
import re
from pathlib import Path

import torch

import batches
import evaluate
import pack
import train

SHOWN = {"white top-5": "top-5 of 200 names", "white top-1": "top-1 of 200 names",
         "1 of 10 short": "right one of 10 short captions",
         "1 of 9, one thing changed": "one thing changed, 1 of 9"}  # fmt: skip


def snapshots(work, every):
    """(phase, path) of every n-th snapshot, in order."""
    for phase in ("base", "tune"):
        found = sorted(p for p in work.glob(f"{phase}.*.pt") if re.fullmatch(r"\d+", p.stem.split(".")[1]))
        yield from ((phase, path) for path in found[every - 1 :: every])


def score(work, log, every):
    """Scores the snapshots not scored yet."""
    rows = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    known = {row["file"] for row in rows}
    todo = [(phase, path) for phase, path in snapshots(work, every) if path.name not in known]
    art = batches.Artwork(work, "held_out") if todo else None
    for phase, path in todo:
        model, state = train.load(path)
        model = evaluate.Model(model)
        figures = evaluate.single_scores(model, art, white_only=True) | evaluate.short_scores(model, art)
        row = {"phase": phase, "file": path.name, "step": state["step"], "samples": state["samples"]}
        row |= {key: round(figures[key]["mean"], 2) for key in SHOWN}
        with log.open("a") as out:
            print(json.dumps(row), file=out)
        print(row, flush=True)


def picture(work, log):
    """The curve over samples; the tuning continues from the base's last sample."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = [json.loads(line) for line in log.read_text().splitlines()]
    rows.sort(key=lambda row: (row["phase"], row["step"]))
    base = max(row["samples"] for row in rows if row["phase"] == "base")
    x = [(row["samples"] + (base if row["phase"] == "tune" else 0)) / 1e6 for row in rows]
    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=100)
    for key, name in SHOWN.items():
        axes.plot(x, [row[key] for row in rows], marker=".", label=name)
    axes.axvline(base / 1e6, color="grey", linewidth=0.8, linestyle="--")
    axes.text(base / 1e6, 2, "tuned on long captions ", fontsize=8, color="grey", ha="right")
    axes.set(xlabel="million samples", ylabel="% right on EmojiOne 2, never trained on", ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8, loc="upper left")
    figure.tight_layout()
    figure.savefig(pack.HERE / "curve.png")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--every", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(1)
    log = args.work / "curve.jsonl"
    score(args.work, log, args.every)
    picture(args.work, log)


if __name__ == "__main__":
    main()
