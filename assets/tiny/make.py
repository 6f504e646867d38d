#!/usr/bin/env python3
"""Trains the built-in model from scratch: one command, two cores, at most six hours.

    pip install -r make/requirements.txt
    python3 make.py WORK

WORK is a folder outside of the repository (2 GB): downloads, drawings and training states go there, and
an interrupted run resumes from there. model.bin and model-check.json are written next to this file.
With --share 0.01 every training runs a hundredth of its steps, to test the program on a copy of this
folder in a few minutes.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

MAKE = Path(__file__).resolve().parent / "make"


def run(script, *arguments):
    """Runs one step in its own process, on one thread; the drawing process uses the other core."""
    command = [sys.executable, str(MAKE / script), *map(str, arguments)]
    print("+", *command[1:], flush=True)
    subprocess.run(command, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--share", type=float, default=1.0, help="of the steps")
    parser.add_argument("--without-table", action="store_true", help="leave the 12 runs of pcm.py out")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    run("fetch.py", args.work)
    run("render.py", args.work)
    if not (args.work / "base.pt").exists():
        run("train.py", "base", args.work, "--share", args.share)
    if not (args.work / "tune.pt").exists():
        run("train.py", "tune", args.work, "--share", args.share)
    run("pack.py", args.work)
    run("check.py", args.work)
    models = ("base=base.pt", "stretched=stretch:base.pt", "tuned=tune.pt", "packed=model.bin")
    run("evaluate.py", args.work, *models, "--out", args.work / "evaluation.json")
    if not args.without_table:
        run("pcm.py", args.work, "--share", args.share)


if __name__ == "__main__":
    main()
