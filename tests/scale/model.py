"""A hundred million images on paper: what unit size, start-up, stragglers and deaths cost.

    python tests/scale/model.py [--rate 10.4 --start 0.5 …]      # the tables of README.md
    python tests/scale/model.py --check target/release/longclip   # against runs on this machine

A run is simulated event by event: workers take units from a queue (Spark), or each works off its
own share (`--shard i/n`: Slurm, Kubernetes). `--rate` is images a second of one worker, `--start`
the seconds from its start to its first record.
"""

import argparse
import heapq
import json
import random
import subprocess
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path


@dataclass
class Run:
    images: int
    unit: int
    workers: int
    # Images a second of a worker of usual speed.
    rate: float
    # Seconds from a process's start to its first record.
    start: float
    # Deviation of the logarithm of a worker's speed, and of a unit's on top.
    spread: float = 0.1
    # Deaths of a worker in an hour; the unit in progress is lost.
    deaths: float = 0.0
    # Seconds until a dead worker's place is taken again.
    replaced: float = 60.0
    # Seconds an engine needs to hand out a unit.
    dispatch: float = 0.05
    # Whether workers own shares, and start once for all their units.
    shares: bool = False
    # Whether the last units are started a second time on free workers.
    speculation: bool = False


@dataclass
class Outcome:
    hours: float
    # Worker hours, idle ones at the end included, over those that encoding alone takes.
    overhead: float
    starts: float
    lost: float
    tail: float


def simulate(run, seed=0):
    chance = random.Random(seed)
    units = -(-run.images // run.unit)
    sizes = [run.unit] * (units - 1) + [run.images - run.unit * (units - 1)]
    speeds = [chance.lognormvariate(0, run.spread) for _ in range(run.workers)]
    queues = [list(range(w, units, run.workers))[::-1] for w in range(run.workers)]
    common = list(range(units))[::-1]
    free = [(0.0, worker) for worker in range(run.workers)]
    heapq.heapify(free)
    ended, starting, lost = [], 0.0, 0.0
    done_at = [None] * units
    running, twice = {}, set()
    is_warm = [False] * run.workers
    while free:
        now, worker = heapq.heappop(free)
        queue = queues[worker] if run.shares else common
        if queue:
            unit = queue.pop()
        elif run.speculation and not run.shares:
            # The unit that would end last.
            late = [one for one in running.values() if one[0] > now and one[1] not in twice]
            if not late:
                ended.append(now)
                continue
            unit = max(late)[1]
            twice.add(unit)
        else:
            ended.append(now)
            continue
        seconds = sizes[unit] / (run.rate * speeds[worker] * chance.lognormvariate(0, run.spread))
        first = 0.0 if run.shares and is_warm[worker] else run.start
        is_warm[worker] = True
        seconds += first + run.dispatch
        starting += first
        death = chance.expovariate(run.deaths / 3600) if run.deaths else float("inf")
        if death < seconds:
            lost += death
            is_warm[worker] = False
            queue.append(unit)
            heapq.heappush(free, (now + death + run.replaced, worker))
            continue
        end = now + seconds
        done_at[unit] = min(end, done_at[unit] or end)
        running[worker] = (end, unit)
        heapq.heappush(free, (end, worker))
    makespan = max(done_at)
    useful = run.images / run.rate
    return Outcome(
        hours=makespan / 3600,
        overhead=makespan * run.workers / useful - 1,
        starts=starting / useful,
        lost=lost / useful,
        tail=(makespan - min(min(ended), makespan)) / 3600,
    )


def table(base, price):
    print("| units of | engine | hours | over encoding alone | start-ups | lost to deaths | last units |")
    print("|---|---|---|---|---|---|---|")
    for unit in (1_000, 10_000, 100_000, 1_000_000):
        for name, change in [
            ("queue", {}),
            ("queue, last units twice", {"speculation": True}),
            ("shares", {"shares": True}),
        ]:
            found = simulate(replace(base, unit=unit, **change))
            print(
                f"| {unit:,} | {name} | {found.hours:.1f} | {found.overhead:.1%} | {found.starts:.2%} | "
                f"{found.lost:.2%} | {found.tail:.2f} h |"
            )
    hours = 1e6 / base.rate / 3600
    print(f"\nA million images: {hours:.1f} worker hours, {hours * price:.2f} at {price} an hour.")


def check(longclip, work):
    """Measured runs against the same runs simulated, with rate and start measured apart."""
    from scene import Scene

    scene = Scene(longclip, work, images=20_000, bad=0)

    def timed(lines, processes=1):
        began = time.monotonic()
        running = [
            subprocess.Popen(scene.worker, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
            for _ in range(processes)
        ]
        for place, process in enumerate(running):
            process.stdin.write("\n".join(lines[place::processes]).encode() + b"\n")
            process.stdin.close()
        assert all(process.wait() == 0 for process in running)
        return time.monotonic() - began

    timed(scene.lines)
    start = min(timed(scene.lines[:1]) for _ in range(5))
    rate = len(scene.lines) / (timed(scene.lines) - start)
    print(f"one worker: {start:.3f} s to the first record, {rate:.0f} images a second")
    base = Run(len(scene.lines), 2_500, 2, rate, start, spread=0.0)

    # Eight units from a queue, a process for each, two at a time.
    parallel = ["parallel", "--pipe", "-N", "2500", "-j", "2", "--keep-order"]
    text = "\n".join(scene.lines).encode() + b"\n"
    began = time.monotonic()
    done = subprocess.run([*parallel, *scene.worker], input=text, capture_output=True)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == len(scene.lines)
    report("queue of 8 units, GNU parallel", time.monotonic() - began, simulate(base))

    # Two shares of eight units each, a process for each share.
    listed = work / "list.jsonl"
    listed.write_text("\n".join(scene.lines) + "\n")
    out = work / "records"
    command = [*scene.command, "--files-from", str(listed), "--part-size", "1250", "-o", f"{out}/"]
    began = time.monotonic()
    running = [subprocess.Popen([*command, "--shard", f"{share}/2"]) for share in range(2)]
    assert all(process.wait() == 0 for process in running)
    shares = replace(base, unit=1_250, shares=True)
    report("2 shares of 8 units", time.monotonic() - began, simulate(shares))


def report(what, measured, simulated):
    expected = simulated.hours * 3600
    print(f"{what}: {measured:.2f} s, simulated {expected:.2f} s ({measured / expected - 1:+.0%})")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", metavar="LONGCLIP")
    parser.add_argument("--images", type=int, default=100_000_000)
    parser.add_argument("--workers", type=int, default=256)
    parser.add_argument("--rate", type=float, default=10.4)
    parser.add_argument("--start", type=float, default=0.5)
    parser.add_argument("--deaths", type=float, default=0.02)
    parser.add_argument("--price", type=float, default=0.04)
    arguments = parser.parse_args()
    if arguments.check:
        with tempfile.TemporaryDirectory() as work:
            check(arguments.check, Path(work) / "scene")
        return
    base = Run(
        arguments.images, 1, arguments.workers, arguments.rate, arguments.start, deaths=arguments.deaths
    )
    print(json.dumps({key: value for key, value in vars(base).items() if key != "unit"}))
    table(base, arguments.price)


if __name__ == "__main__":
    main()
