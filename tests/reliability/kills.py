"""Kills longclip at random moments, over commands that write.

    python tests/reliability/kills.py target/release/longclip [--kills 200] [--signal TERM]

Only a kill that ended a running process counts. After each: every output is the old one or the
whole new one, no image is lost, and the same command (with --resume where there is one) ends as
if nothing had been, leaves nothing over, and takes up what was finished: rows of `embed`, steps
of `finetune`, bytes of `models pull`. After SIGTERM nothing is left over at once. Exit status 1
if anything was wrong.
"""

import argparse
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from stage import SORTED, Hub, Stage, cases, check_sorted, files, leftovers

KILLED = [
    "classify -o", "classify --move", "classify --copy", "classify --cache", "embed .npy", "embed .parquet", "convert",
    "convert FOLDER", "finetune", "models pull",
]


def rows(journal):
    """The whole rows in a journal of embed."""
    data = journal.read_bytes() if journal.exists() else b""
    at, count = 8, 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        if length == 0 or at + 8 + length > len(data):
            break
        count += data[at + 8 : at + 9] == b"R"
        at += 8 + length
    return count


def finished(case, stage):
    """How much of the work was finished, and how the next run says how much it found."""
    if case.name.startswith("embed"):
        journal = stage.folder / f"{case.outputs[0]}.partial"
        is_done = (stage.folder / case.outputs[0]).exists() and not journal.exists()
        return (0 if is_done else rows(journal)), r"found (\d+) rows of earlier runs"
    if case.name == "finetune":
        log = stage.folder / "run/log.jsonl"
        # The last step may not be saved yet.
        steps = log.read_bytes().count(b'"loss"') - 1 if log.exists() else 0
        return max(0, steps), r"resuming after step (\d+)"
    return 0, None


class Kills:
    def __init__(self, longclip, work, number):
        self.work, self.number = Path(work), number
        self.base = Stage(longclip, self.work / "base", images=60)
        code, _, err = self.base.run(["convert", "tiny", "../model", "--layout", "hf", "-q"])
        assert code == 0, err
        self.hub = Hub(self.work / "model", seconds=0.5)
        self.images = files(self.base.folder / "in")

    def spoken(self, arguments):
        """The arguments with details on stderr instead of none."""
        return [word for word in arguments if word != "-q"] + ["-v"]

    def reference(self, case):
        prepared = self.base.copy(self.work / "prepared")
        case.prepare(prepared)
        stage = prepared.copy(self.work / "reference")
        start = time.monotonic()
        code, _, err = stage.run(case.arguments, self.hub.environment())
        assert code == 0, (case.name, err)
        return prepared, case.result(stage), time.monotonic() - start

    def kill(self, case, prepared, expected, delay):
        """Runs and kills the case; returns whether the kill hit, and what is wrong."""
        stage = prepared.copy(self.work / "run")
        old = case.result(stage)
        process = stage.start(case.arguments, self.hub.environment())
        try:
            process.wait(delay)
            process.communicate()
            return False, []
        except subprocess.TimeoutExpired:
            process.send_signal(self.number)
        process.communicate(timeout=60)
        # A run that listens ends itself, with the status that a shell shows for the signal.
        if process.returncode not in (-self.number, 128 + self.number):
            return False, []
        wrong = []
        for name, content in case.result(stage).items():
            if content != expected.get(name) and content != old.get(name):
                wrong.append(f"{name} is damaged")
        if case.sorts:
            wrong += check_sorted(stage, self.images, False)
        if self.number == signal.SIGTERM:
            wrong += [f"{name} is left" for name in leftovers(stage.folder)]
        done, said = finished(case, stage)
        partial = [path.stat().st_size for path in stage.folder.rglob("*.incomplete")]
        asked = len(self.hub.ranges)
        code, _, err = stage.run(self.spoken([*case.arguments, *case.resume]), self.hub.environment())
        # A folder that is whole is not replaced without --force.
        is_whole = "already exists" in err and case.result(stage) == expected
        if code != 0 and not is_whole:
            wrong.append(f"then status {code}: {err.strip()}")
        elif case.result(stage) != expected:
            wrong.append("then other outputs")
        found = re.search(said, err) if said else None
        if done and (found is None or int(found[1]) < done):
            wrong.append(f"{done} were finished, but the next run said {found and found[0]!r}")
        whole = {len(content) for content in self.hub.files.values()}
        missing = set(partial) - {0} - whole - set(self.hub.ranges[asked:])
        if missing:
            wrong.append(f"{missing} bytes were there, but {self.hub.ranges[asked:]} were continued")
        if case.sorts:
            wrong += check_sorted(stage, self.images, True)
            wrong += self.undo(case, stage)
        wrong += [f"then {name} is left" for name in leftovers(stage.folder)]
        return True, wrong

    def undo(self, case, stage):
        """What is wrong when all runs are undone, the last one first."""
        lists = sorted((stage.folder / SORTED).glob("*.jsonl"), key=lambda path: path.stat().st_mtime_ns)
        for path in reversed(lists):
            code, _, err = stage.run(["undo", str(path.relative_to(stage.folder))])
            if code != 0:
                return [f"undo: status {code}: {err.strip()}"]
        return [] if files(stage.folder / "in") == self.images else ["undo did not bring back all images"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("longclip", type=Path)
    parser.add_argument("--kills", type=int, default=200, help="that hit, in all")
    parser.add_argument("--only", help="cases with this in their name")
    parser.add_argument("--signal", default="KILL", choices=["KILL", "TERM", "INT", "HUP"])
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    work = tempfile.mkdtemp(prefix="longclip-kills-")
    kills = Kills(args.longclip, work, signal.Signals[f"SIG{args.signal}"])
    chosen = [case for case in cases(kills.hub) if case.name in KILLED and (not args.only or args.only in case.name)]
    rng = random.Random(args.seed)
    bad = total = 0
    for index, case in enumerate(chosen):
        wanted = args.kills * (index + 1) // len(chosen) - args.kills * index // len(chosen)
        prepared, expected, seconds = kills.reference(case)
        hits = tries = wrong = 0
        while hits < wanted:
            tries += 1
            delay = rng.uniform(0, seconds)
            hit, findings = kills.kill(case, prepared, expected, delay)
            hits, wrong = hits + hit, wrong + bool(findings)
            if findings:
                print(f"  {case.name}, after {delay:.3f} of {seconds:.3f} s: {'; '.join(findings)}")
            if tries > 20 * wanted:
                print(f"  {case.name}: only {hits} of {tries} kills hit")
                wrong += 1
                break
        print(f"{case.name}: {hits} of {tries} kills hit, {wrong} wrong", flush=True)
        bad, total = bad + wrong, total + hits
    shutil.rmtree(work)
    print(f"SIG{args.signal}: {total} hits over {len(chosen)} commands, {bad} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
