#!/usr/bin/env python3
"""Images per second of a folder for several numbers of threads and of processes.

  scaling.py FOLDER --ours target/release/longclip

FOLDER is compare.py's. Everything runs in turn, on the processors of --cpus, from start to answer.
Prints images/s, the ratio to the best, CPU time per image and how often threads slept (voluntary
context switches per image): locks cost sleeps and time in the kernel, spinning costs CPU time. More
threads than processors should stay within 10% of the best.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import material

HERE = Path(__file__).resolve().parent
#: Processes, threads of each.
WAYS = [(1, 1), (1, 2), (2, 1), (1, 4), (1, 8)]


def run(options, folders, threads):
    """One process per folder at the same time: seconds, CPU seconds, voluntary switches."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    processes = [
        subprocess.Popen(
            [options.ours, "classify", folder, "--model", options.folder / options.model, "--precision",
             options.precision, "--threads", str(threads), "--labels", "a cat", "a dog", "--format", "jsonl", "--quiet"],
            stdout=subprocess.DEVNULL, preexec_fn=lambda: os.sched_setaffinity(0, options.cpus),
        )
        for folder in folders
    ]
    if any([process.wait() for process in processes]):
        sys.exit("the program failed")
    seconds, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, used, after.ru_nvcsw - before.ru_nvcsw


def halves(whole):
    """Two folders that share the images of `whole`."""
    images = sorted(whole.iterdir())
    folders = [whole.with_name(f"{whole.name}-half-{half}") for half in (0, 1)]
    for half, folder in enumerate(folders):
        folder.mkdir(exist_ok=True)
        for image in images[half::2]:
            if not (folder / image.name).exists():
                os.link(image, folder / image.name)
    return folders


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--model", choices=material.MODELS, default="b32")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cpus", type=lambda text: [int(number) for number in text.split(",")], default=[0, 1])
    options = parser.parse_args()
    subprocess.run([sys.executable, HERE / "material.py", options.folder, options.model], check=True)
    whole = material.many_pictures(options.folder, options.images, "one")
    folders = {1: [whole], 2: halves(whole)}
    rounds = {way: [] for way in WAYS}
    for _ in range(options.rounds):
        for processes, threads in WAYS:
            rounds[processes, threads].append(run(options, folders[processes], threads))
    rows = {way: [statistics.median(column) for column in zip(*runs)] for way, runs in rounds.items()}
    best = min(seconds for seconds, _, _ in rows.values())
    print(f"{options.model}, {options.precision}, {options.images} images of 1280 x 960, "
          f"{len(options.cpus)} processors, median of {options.rounds}\n")
    print("| processes x threads | images/s | of the best | CPU ms per image | sleeps per image |\n|---|---|---|---|---|")
    for (processes, threads), (seconds, used, sleeps) in rows.items():
        print(f"| {processes} x {threads} | {options.images / seconds:.1f} | {best / seconds:.2f} | "
              f"{used / options.images * 1e3:.1f} | {sleeps / options.images:.1f} |")
    slow = [way for way, (seconds, _, _) in rows.items() if way[1] > len(options.cpus) and seconds > best / 0.9]
    if slow:
        print(f"\nMISS: more than 10% slower than the best: {', '.join(f'{p} x {t}' for p, t in slow)}")


if __name__ == "__main__":
    main()
