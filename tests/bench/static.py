"""The static program (musl) against the usual one, in turns: whole runs and their medians.

    python tests/bench/static.py USUAL STATIC --model DIR --photos DIR

USUAL is target/release/longclip, STATIC that of `CC_x86_64_unknown_linux_musl=musl-gcc cargo build
--release --locked --target x86_64-unknown-linux-musl`. Ends with 1 if their answers differ.
"""

import argparse
import hashlib
import statistics
import subprocess
import time
from pathlib import Path


def timed(program, arguments):
    began = time.perf_counter()
    done = subprocess.run([program, *arguments], stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - began, hashlib.sha256(done.stdout).hexdigest()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("usual")
    parser.add_argument("static")
    parser.add_argument("--model", required=True)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=8)
    arguments = parser.parse_args()
    photos = sorted(map(str, arguments.photos.iterdir()))
    common = ["--labels", "a cat", "a dog", "-q", "-f", "jsonl"]
    cases = {}
    for precision, count in [("f32", 16), ("bf16", 16), ("bf16", 1)]:
        model = ["--model", arguments.model, "--precision", precision]
        name = f"{arguments.model}, {precision}, {count}"
        cases[name] = ["classify", *photos[:count], *model, *common]
    cases[f"tiny, {len(photos)}"] = ["classify", *photos, "--model", "tiny", *common]
    programs = [arguments.usual, arguments.static]
    print("| model, precision, images | usual | static | ratio |")
    print("|---|---|---|---|")
    for name, command in cases.items():
        times = {program: [] for program in programs}
        answers = set()
        for turn in range(arguments.rounds + 1):
            for program in programs if turn % 2 else programs[::-1]:
                seconds, answer = timed(program, command)
                answers.add(answer)
                # The first turn fills caches.
                if turn:
                    times[program].append(seconds)
        assert len(answers) == 1, f"{name}: the answers differ"
        usual, static = (statistics.median(times[program]) for program in programs)
        print(f"| {name} | {usual:.3f} s | {static:.3f} s | {static / usual:.3f} |", flush=True)


if __name__ == "__main__":
    main()
