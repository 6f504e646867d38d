"""Large inputs: time, and memory that does not grow with their number.

    python3 tests/reliability/load.py target/release/longclip [PART…] [--scale 0.01]

Parts: images repeats labels paths page search (all by default). Everything is made in a temporary
folder; `--scale` makes it smaller. Memory is the resident set, sampled; "growth" is its most over
the last nine tenths of the output, less what it was after the first tenth. Ends with 1 if a run
fails, loses a record, or grows by over 50 MB where it must not grow.
"""

import argparse
import array
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

MOST_GROWTH_MB = 50
MODEL = ["-m", "tiny", "-q"]


def png(seed):
    """A PNG of 8 x 8 pixels that no other seed gives."""
    pixels = random.Random(seed).randbytes(8 * 8 * 3)
    rows = b"".join(b"\0" + pixels[at : at + 24] for at in range(0, len(pixels), 24))

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows, 1))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def resident_mb(pid, key="VmRSS"):
    try:
        for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0.0


class Measured:
    """A run: its lines of output are counted, its memory is sampled."""

    def __init__(self, command, expected_lines):
        start = time.time()
        run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.lines, self.errors, self.peak_mb = 0, b"", 0.0
        early = late = 0.0
        over = threading.Event()

        def watch():
            nonlocal early, late
            while not over.wait(0.05):
                now = resident_mb(run.pid)
                self.peak_mb = max(self.peak_mb, resident_mb(run.pid, "VmHWM"))
                if self.lines * 10 < expected_lines:
                    early = max(early, now)
                else:
                    late = max(late, now)

        def drain():
            self.errors = run.stderr.read()

        helpers = [threading.Thread(target=watch), threading.Thread(target=drain)]
        for helper in helpers:
            helper.start()
        while block := run.stdout.read(1 << 16):
            self.lines += block.count(b"\n")
        self.status = run.wait()
        over.set()
        for helper in helpers:
            helper.join()
        self.seconds = time.time() - start
        self.growth_mb = max(0.0, late - early) if early else 0.0


def report(name, run, expected_lines, must_be_flat):
    problems = []
    if run.status != 0:
        problems.append(f"status {run.status}: {run.errors[-300:].decode(errors='replace')}")
    if run.lines != expected_lines:
        problems.append(f"{run.lines} lines instead of {expected_lines}")
    if must_be_flat and run.growth_mb > MOST_GROWTH_MB:
        problems.append("memory grows")
    growth = f", growth {run.growth_mb:.0f} MB" if must_be_flat else ""
    print(f"{name}: {run.seconds:.1f} s, peak {run.peak_mb:.0f} MB{growth}", *problems, sep="; ")
    sys.stdout.flush()
    return not problems


def images(program, room, count):
    """As many different images."""
    folder = room / "different"
    folder.mkdir()
    for number in range(count):
        part = folder / f"{number // 1000:04}"
        part.mkdir(exist_ok=True)
        (part / f"{number:07}.png").write_bytes(png(number))
    command = [program, "classify", folder, *MODEL, "-k", "1", "-f", "jsonl", "-l", "cat", "dog"]
    return report(f"{count} different images", Measured(command, count), count, True)


def repeats(program, room, count):
    """Hard links to a hundred images."""
    folder = room / "links"
    folder.mkdir()
    for number in range(100):
        (folder / f"{number:07}.png").write_bytes(png(-1 - number))
    for number in range(100, count):
        part = folder / f"x{number // 1000:04}"
        part.mkdir(exist_ok=True)
        os.link(folder / f"{number % 100:07}.png", part / f"{number:07}.png")
    command = [program, "classify", folder, *MODEL, "-k", "1", "-f", "jsonl", "-l", "cat", "dog"]
    return report(f"{count} images, 100 different", Measured(command, count), count, True)


def labels(program, room, count):
    """One image and many labels."""
    (room / "a.png").write_bytes(png("a"))
    (room / "labels.txt").write_text("".join(f"thing number {n}\n" for n in range(count)))
    command = [program, "classify", room / "a.png", *MODEL, "-k", "5", "-f", "csv"]
    run = Measured([*command, "--labels-file", room / "labels.txt"], 6)
    return report(f"{count} labels", run, 6, False)


def paths(program, room, count):
    """A long list of paths, of ten images."""
    for number in range(10):
        (room / f"{number}.png").write_bytes(png(f"p{number}"))
    lines = "".join(f"{room}/{number}.png\n" for number in range(10))
    with open(room / "list.txt", "w") as out:
        for _ in range(count // 10):
            out.write(lines)
    command = [program, "classify", "--files-from", room / "list.txt", *MODEL, "-f", "jsonl"]
    run = Measured([*command, "-k", "1", "-l", "cat", "dog"], count)
    return report(f"{count} listed paths", run, count, True)


def page(program, room, count):
    """A page with a thumbnail of every image."""
    folder = room / "page"
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:07}.png").write_bytes(png(f"page {number}"))
    place = room / "page.html"
    command = [program, "classify", folder, *MODEL, "-k", "1", "-f", "jsonl", "-l", "cat", "dog"]
    run = Measured([*command, "--report", place], count)
    size = place.stat().st_size / 1e6 if place.exists() else 0
    name = f"a page of {count} images ({size:.0f} MB)"
    return report(name, run, count, False)


def search(program, room, count):
    """An exact search in a matrix of another program."""
    (room / "one.txt").write_text("a cat\n")
    one = room / "one.npy"
    command = [program, "embed", "--texts", room / "one.txt", "-o", one, *MODEL]
    subprocess.run(command, check=True)
    head = one.read_bytes()[:200].decode("latin-1")
    dim = int(head.split("(1, ")[1].split(")")[0])
    source = random.Random(3)
    block = array.array("f", (source.gauss(0, 1) for _ in range(1000 * dim)))
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count}, {dim}), }}"
    header = header.ljust(117) + "\n"
    with open(room / "rows.npy", "wb") as out:
        out.write(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode())
        for _ in range(count // 1000):
            out.write(block.tobytes())
    command = [program, "search", room / "rows.npy", "a cat", *MODEL, "-k", "5", "-f", "csv"]
    return report(f"a search in {count} rows of {dim}", Measured(command, 6), 6, False)


PARTS = {
    "images": (images, 100_000),
    "repeats": (repeats, 100_000),
    "labels": (labels, 100_000),
    "paths": (paths, 2_000_000),
    "page": (page, 20_000),
    "search": (search, 1_000_000),
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("parts", nargs="*", default=[])
    parser.add_argument("--scale", type=float, default=1.0)
    arguments = parser.parse_args()
    good = True
    for name in arguments.parts or PARTS:
        part, count = PARTS[name]
        with tempfile.TemporaryDirectory() as room:
            good &= part(arguments.program, pathlib.Path(room), int(count * arguments.scale))
    return 0 if good else 1


sys.exit(main())
