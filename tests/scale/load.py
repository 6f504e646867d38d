"""What one worker, and several on one machine, take: memory, rate and exact counts.

    python tests/scale/load.py target/release/longclip worker [--images 1000000]
    python tests/scale/load.py target/release/longclip caches
    python tests/scale/load.py target/release/longclip threads --model DIR [--precision bf16]

`worker` streams a tar of different small images through one process and holds its memory between
the 10,000th image and the last. `caches` runs four processes on one `--cache` at once. `threads`
compares one process of N threads with N processes of one. Ends with 1 if a record is lost, memory
grows by over 50 MB, or answers differ.
"""

import argparse
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from scene import LABELS, png

MOST_GROWTH_MB = 50


def memory_mb(pid, key="VmRSS", file="status"):
    """A figure of the kernel's about a process; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/{file}").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith(key + ":")) / 1024
    except (OSError, ValueError):
        return 0.0


def member(name, content):
    """A file in a tar, which is quicker to write than through `tarfile`."""
    header = bytearray(512)
    header[:100] = name.encode().ljust(100, b"\0")
    header[100:124] = b"0000644\0" + b"0000000\0" * 2
    header[124:136] = b"%011o\0" % len(content)
    header[136:148] = b"0" * 11 + b"\0"
    header[148:157] = b" " * 8 + b"0"
    header[257:265] = b"ustar\00000"
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header) + content + bytes(-len(content) % 512)


def worker(arguments, work):
    count = arguments.images
    labels = work / "labels.safetensors"
    make = ["labels", "--labels", *LABELS, "-m", "tiny", "-o", str(labels)]
    subprocess.run([arguments.longclip, *make], check=True)
    command = ["classify", "--tar", "-", "-m", "tiny", "--probe", str(labels), "-f", "jsonl", "-q"]
    process = subprocess.Popen(
        [arguments.longclip, *command, "-k", "1"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )

    def write():
        for number in range(count):
            process.stdin.write(member(f"{number // 1000:04}/{number:07}.png", png(number, 8)))
        process.stdin.write(bytes(1024))
        process.stdin.close()

    writer = threading.Thread(target=write)
    writer.start()
    began, records, early, late, marks = time.monotonic(), 0, 0.0, 0.0, []
    for line in process.stdout:
        if f"/{records:07}.png" not in line.decode():
            raise SystemExit(f"record {records} is {line[:100]}")
        records += 1
        if records == 10_000:
            early = memory_mb(process.pid)
        if records % 10_000 == 0:
            late = max(late, memory_mb(process.pid))
        if records % max(1, count // 10) == 0:
            marks.append(time.monotonic() - began)
    writer.join()
    status = process.wait()
    steps = [after - before for before, after in zip([0.0, *marks], marks)]
    rates = ", ".join(f"{count / 10 / step:.0f}" for step in steps)
    growth = late - early
    print(f"{records} of {count} images, status {status}, {marks[-1]:.0f} s")
    print(f"memory {early:.0f} MB after 10,000, at most {late:.0f} MB later: growth {growth:.0f} MB")
    print(f"images a second, tenth by tenth: {rates}")
    assert status == 0 and records == count and growth < MOST_GROWTH_MB


def caches(arguments, work):
    folder = work / "images"
    folder.mkdir()
    for number in range(4000):
        (folder / f"{number:05}.png").write_bytes(png(number, 8))
    command = [arguments.longclip, "classify", str(folder), "-m", "tiny", "-l", "cat", "dog"]
    command += ["-f", "jsonl", "-q"]
    plain = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    shared = [*command, "--cache", str(work / "cache")]
    running = [subprocess.Popen(shared, stdout=subprocess.PIPE) for _ in range(4)]
    answers = []

    def collect(process):
        answers.append(process.stdout.read())

    readers = [threading.Thread(target=collect, args=(process,)) for process in running]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert [process.wait() for process in running] == [0] * 4
    assert answers == [plain] * 4, "an answer differs"
    again = subprocess.run(shared, stdout=subprocess.PIPE, check=True).stdout
    assert again == plain, "an answer from the cache differs"
    print("4 processes on one cache, 4,000 images: the bytes of a run without it, and once more from it")


def threads(arguments, work):
    cores = os.cpu_count()
    folder = work / "images"
    folder.mkdir()
    count = 40 * cores
    for number in range(count):
        (folder / f"{number:05}.png").write_bytes(png(number, 224))
    paths = sorted(map(str, folder.iterdir()))
    labels = work / "labels.safetensors"
    model = ["-m", arguments.model, "--precision", arguments.precision, "-q"]
    make = ["labels", "--labels", *LABELS, *model, "-o", str(labels)]
    subprocess.run([arguments.longclip, *make], check=True)
    common = [*model, "--probe", str(labels), "-f", "jsonl"]
    print(f"{arguments.model} {arguments.precision}, {count} images, {cores} cores")
    for processes, each in [(1, cores), (cores, 1)]:
        times, peaks = [], []
        for _ in range(3):
            began = time.monotonic()
            running = [
                subprocess.Popen(
                    [arguments.longclip, "classify", *paths[place::processes], *common]
                    + ["--threads", str(each)],
                    stdout=subprocess.DEVNULL,
                )
                for place in range(processes)
            ]
            peak = 0.0
            while any(process.poll() is None for process in running):
                # Shared pages are divided among those who share them.
                peak = max(peak, sum(memory_mb(p.pid, "Pss", "smaps_rollup") for p in running))
                time.sleep(0.05)
            times.append(time.monotonic() - began)
            peaks.append(peak)
        best = min(times)
        print(f"{processes} processes of {each} threads: {count / best:.1f} images/s, {max(peaks):.0f} MB")


PARTS = {"worker": worker, "caches": caches, "threads": threads}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("longclip")
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--precision", default="f32")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        PARTS[arguments.part](arguments, Path(work).resolve())


if __name__ == "__main__":
    main()
