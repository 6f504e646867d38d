"""The same input gives the same bytes, and how far kernels of other instructions are from them.

    python3 tests/reliability/determinism.py target/release/longclip [MODEL]

Runs `classify` on the demonstration images: per precision and forced kernel level over 1 to 4
threads, batch sizes and orders of the input, whose records must be equal byte for byte; then
prints the largest difference in probability to the best level of the machine, and whether a cache
is shared between levels, which it must not be. Ends with 1 if a byte differs.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[2]
LEVELS = ["avx512", "avx-vnni", "avx2", "neon-mm", "neon-dot", "neon", "scalar"]
PRECISIONS = ["f32", "bf16", "int8", "int8-fast"]
LABELS = ["a penguin", "an owl", "a duck", "a red bus", "a house", "food on a plate", "a dog"]


def records(program, model, images, level, *more):
    """The lines of standard output, by image; what -v says goes to the second value."""
    command = [program, "classify", "-m", model, "-v", "-f", "jsonl", *images, *more]
    command += ["-l", *LABELS]
    env = dict(os.environ, LONGCLIP_KERNEL=level)
    run = subprocess.run(command, env=env, capture_output=True, text=True)
    if "LONGCLIP_KERNEL" in run.stderr and run.returncode == 2:
        return None, run.stderr
    if run.returncode != 0:
        raise SystemExit(f"{command}: {run.returncode}\n{run.stderr}")
    lines = run.stdout.splitlines()
    return {json.loads(line)["image"]: line for line in lines}, run.stderr


def furthest(one, other):
    """The largest difference in a probability."""
    most = 0.0
    for image, line in one.items():
        pairs = [
            {p["label"]: p["probability"] for p in json.loads(text)["predictions"]}
            for text in (line, other[image])
        ]
        most = max(most, max(abs(pairs[0][label] - pairs[1][label]) for label in LABELS))
    return most


def main():
    program, model = sys.argv[1], (sys.argv[2:] or ["tiny"])[0]
    images = sorted(str(path) for path in (ROOT / "assets/demo").glob("*.*g"))
    images = [image for image in images if not image.endswith(".svg")]
    runs = differing = 0
    for precision in PRECISIONS:
        best, name = None, None
        for level in LEVELS:
            usual, said = records(program, model, images, level, "--precision", precision)
            if usual is None:
                continue
            variants = [["--threads", str(n)] for n in (1, 2, 3, 4)]
            variants += [["--batch-size", str(n)] for n in (1, 2, 7)]
            for variant in variants:
                for order in (images, images[::-1], images[2:] + images[:2]):
                    more = ["--precision", precision, *variant]
                    found, _ = records(program, model, order, level, *more)
                    runs += 1
                    if found != usual:
                        differing += 1
                        print(f"differs: {precision} {level} {variant}")
            if best is None:
                best, name = usual, level
            else:
                print(f"{precision}: {level} is within {furthest(best, usual):.1e} of {name}")
    with tempfile.TemporaryDirectory() as cache:
        for precision in PRECISIONS:
            for level in LEVELS:
                more = ["--precision", precision, "--cache", cache]
                found, said = records(program, model, images, level, *more)
                if found is not None and "cache: 0 embeddings found" not in said:
                    differing += 1
                    print(f"{precision} {level} took what another level had put into the cache")
    print(f"{runs} runs, {differing} that differ")
    return 1 if differing else 0


sys.exit(main())
