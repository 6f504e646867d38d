"""Times `longclip evaluate` with a cache: the first run, and later ones with the same and with
other labels.

    python tests/bench/cache.py --longclip target/release/longclip --model MODEL [--images 10000]

The images are noise, 64 x 48 pixels, in ten class folders.
"""

import argparse
import json
import pathlib
import subprocess
import tempfile
import time

import numpy as np
from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--longclip", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--images", type=int, default=10_000)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        root = pathlib.Path(name)
        for number in range(arguments.images):
            folder = root / "data" / f"class_{number % 10}"
            folder.mkdir(parents=True, exist_ok=True)
            pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:06}.png")
        # Recently modified files are not identified by modification time.
        time.sleep(3)
        for what, more in [("first run", []), ("same labels", []), ("other labels", ["--templates", "photo"]),
                           ("other labels, known", ["--templates", "photo"])]:
            start = time.perf_counter()
            done = subprocess.run(
                [arguments.longclip, "evaluate", "--model", arguments.model, str(root / "data"), "--format", "json",
                 "--cache", str(root / "cache"), *more], check=True, capture_output=True)
            seconds = time.perf_counter() - start
            n = json.loads(done.stdout)["n"]
            print(f"{what:20} {seconds:8.3f} s for {n} images, {seconds / n * 1e6:.0f} ms per thousand")


if __name__ == "__main__":
    main()
