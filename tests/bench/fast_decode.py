"""What --fast-decode costs in cosine, and what it saves in CPU time.

    python tests/bench/fast_decode.py WORK target/release/longclip MODEL… --photos FOLDER_OR_FILE…

Needs numpy and Pillow. From the photographs it makes COUNT different JPEGs in WORK: each photograph
as it is, if it is a JPEG, then windows of it at true resolution, some made smaller, of several
qualities, samplings and codings. Every model embeds them exactly and with --fast-decode. Then ten
of 12 megapixels, enlarged where the photograph is smaller, are embedded with the built-in model on
one thread: its tower takes a few milliseconds, so the CPU time is that of decoding and resizing.
"""

import argparse
import os
import random
import statistics
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

# A model of 96 pixels reduces all of these, one of 224 those of 1344 on the shorter side.
LEAST = 900


def sources(paths):
    """The images that are large enough."""
    files = []
    for path in paths:
        files += sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    found = []
    for file in files:
        try:
            with Image.open(file) as image:
                if min(image.size) >= LEAST:
                    found.append(file)
        except OSError:
            continue
    return found


def variant(image, draw):
    """A window of the image, perhaps smaller, and how to save it."""
    sides = [draw.randint(max(LEAST, side // 2), side) for side in image.size]
    corner = [draw.randint(0, side - part) for side, part in zip(image.size, sides)]
    window = image.crop((*corner, corner[0] + sides[0], corner[1] + sides[1]))
    scale = draw.choice([1, 1, draw.uniform(LEAST / min(sides), 1)])
    if scale < 1:
        smaller = [max(LEAST, round(side * scale)) for side in sides]
        window = window.resize(smaller, Image.LANCZOS)
    how = dict(
        quality=draw.choice([50, 75, 85, 90, 95]),
        subsampling=draw.choice(["4:2:0", "4:2:0", "4:2:2", "4:4:4"]),
        progressive=draw.choice([False, False, True]),
    )
    return window, how


def make(files, folder, count):
    """`count` JPEGs in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        file, turn = files[number % len(files)], number // len(files)
        path = folder / f"{number:03}-{file.stem.replace(' ', '-')}.jpg"
        if path.exists():
            continue
        with Image.open(file) as image:
            if turn == 0 and image.format == "JPEG":
                path.write_bytes(file.read_bytes())
            else:
                window, how = variant(image.convert("RGB"), random.Random(number))
                window.save(path, **how)


def make_large(files, folder, count=10):
    """Baseline JPEGs of 12 megapixels, quality 90."""
    folder.mkdir(parents=True, exist_ok=True)
    largest = sorted(files, key=lambda file: -min(Image.open(file).size))[:count]
    for file in largest:
        path = folder / f"{file.stem.replace(' ', '-')}.jpg"
        if not path.exists():
            with Image.open(file) as image:
                image.convert("RGB").resize((4000, 3000), Image.LANCZOS).save(path, quality=90)


def embed(program, model, folder, out, *flags):
    """Embeddings of a folder [n, dim] and the CPU time of the run in seconds."""
    command = [program, "embed", folder, "--model", model, "-o", out, "--precision", "f32", "-q", *flags]
    process = subprocess.Popen([str(word) for word in command])
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"status {process.returncode} of {command}")
    return np.load(out).astype(np.float64), usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("longclip", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--photos", nargs="+", type=Path, required=True)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    files = sources(options.photos)
    make(files, options.work / "photos", options.count)
    make_large(files, options.work / "large")
    print(f"{options.count} JPEGs of {len(files)} photographs")
    names = sorted(path.name for path in (options.work / "photos").iterdir())
    for model in options.models:
        photos = options.work / "photos"
        exact, _ = embed(options.longclip, model, photos, options.work / "exact.npy")
        fast, _ = embed(options.longclip, model, photos, options.work / "fast.npy", "--fast-decode")
        differing = np.flatnonzero((exact != fast).any(axis=1))  # the reduced ones
        cosines = (exact * fast).sum(axis=1)[differing]
        order = np.argsort(cosines)
        print(
            f"{model}: {len(differing)} reduced, cosine min {cosines.min():.6f}, 1% {np.quantile(cosines, 0.01):.6f}, "
            f"mean {cosines.mean():.6f}; worst: {', '.join(names[differing[place]] for place in order[:3])}"
        )
    times = {"exact": [], "fast": []}
    images = len(list((options.work / "large").iterdir()))
    for _ in range(options.rounds):
        for name, flags in [("exact", []), ("fast", ["--fast-decode"])]:
            _, seconds = embed(
                options.longclip, "tiny", options.work / "large", options.work / "time.npy",
                "--threads", "1", *flags,
            )
            times[name].append(1000 * seconds / images)
    for name, values in times.items():
        print(
            f"12 megapixels, {name}: {statistics.median(values):.1f} ms of CPU per image "
            f"({min(values):.1f} to {max(values):.1f}), tower of tiny and start included"
        )


if __name__ == "__main__":
    main()
