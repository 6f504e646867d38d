"""Fails one write, fsync, rename, mkdir, link, truncate or creation of a file, over all that write.

    python tests/reliability/faults.py target/release/longclip [--runs 660] [--only NAME]

Needs a C compiler and a dynamically linked longclip: faults.c is preloaded. Each run has one
fault, at any of the calls that the command makes, with ENOSPC, EDQUOT, EIO (status 75) or EROFS
(status 2), once or for all calls from there on. Then: each output is the old one or the whole new
one, nothing is left over, no image is lost, and the same command without a fault (with --resume
where there is one) ends as if nothing had been. Status 0 is right where the fault cost nothing:
the sync of a folder, a cache. Exit status 1 if anything was wrong.
"""

import argparse
import collections
import errno
import itertools
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from stage import Hub, Stage, cases, check_sorted, files, leftovers

CALLS = "write,fsync,rename,mkdir,link,truncate,create"
PASSING = [errno.ENOSPC, errno.EDQUOT, errno.EIO]


class Faults:
    def __init__(self, longclip, work):
        self.work = Path(work)
        self.library = self.work / "faults.so"
        source = Path(__file__).with_name("faults.c")
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", self.library, source, "-ldl"], check=True)
        self.base = Stage(longclip, self.work / "base")
        code, _, err = self.base.run(["convert", "tiny", "../model", "--layout", "hf", "-q"])
        assert code == 0, err
        self.hub = Hub(self.work / "model")
        self.images = files(self.base.folder / "in")

    def environment(self, at, number=0, rest=False):
        log = self.work / "calls"
        log.unlink(missing_ok=True)
        more = {
            "LD_PRELOAD": str(self.library),
            "FAULT_CALLS": CALLS,
            "FAULT_AT": str(at),
            "FAULT_ERRNO": str(number),
            "FAULT_LOG": str(log),
        }
        return self.hub.environment() | more | ({"FAULT_REST": "1"} if rest else {})

    def seen(self):
        return [int(word) for word in (self.work / "calls").read_text().split()]

    def reference(self, case):
        """A stage for the case, what it writes undisturbed, and in how many calls."""
        prepared = self.base.copy(self.work / "prepared")
        case.prepare(prepared)
        stage = prepared.copy(self.work / "reference")
        code, _, err = stage.run(case.arguments, self.environment(0))
        assert code == 0, (case.name, err)
        return prepared, case.result(stage), self.seen()[0]

    def run(self, case, prepared, expected, at, number, rest):
        """One fault; returns the status and what is wrong."""
        stage = prepared.copy(self.work / "run")
        old = case.result(stage)
        code, _, err = stage.run(case.arguments, self.environment(at, number, rest))
        wrong = []
        if self.seen()[1] == 0:
            # The number of calls depends on time where a server answers: nothing was tried.
            return code, [] if code == 0 else [f"status {code} without a fault"]
        wanted = {75 if number in PASSING else 2}
        # SQLite does not say why a write failed, nor why it could not open a file: if that works
        # again, nothing is known.
        if "disk I/O error" in err:
            wanted.add(75)
        if not rest and ("Error code 8:" in err or "Error code 14:" in err):
            wanted.add(2)
        if code not in wanted | {0}:
            wrong.append(f"status {code} instead of {wanted}")
        has_error = any(line.startswith("error: ") for line in err.splitlines())
        if code and (not has_error or len(err.splitlines()) > 12):
            wrong.append(f"{len(err.splitlines())} lines on stderr")
        found = case.result(stage)
        for name in found:
            if found[name] != expected.get(name) and found[name] != old.get(name):
                wrong.append(f"{name} is damaged")
        if code == 0 and found != expected:
            wrong.append("status 0 without the outputs")
        wrong += [f"{name} is left" for name in leftovers(stage.folder)]
        if case.sorts:
            wrong += check_sorted(stage, self.images, code == 0)
        if code:
            again = [*case.arguments, *case.resume]
            second, _, more = stage.run(again, self.hub.environment())
            if second != 0:
                wrong.append(f"then status {second}: {more.strip()}")
            elif case.result(stage) != expected:
                wrong.append("then other outputs")
            if case.sorts:
                wrong += check_sorted(stage, self.images, True)
            wrong += [f"then {name} is left" for name in leftovers(stage.folder)]
        if wrong:
            wrong.append(err.strip())
        return code, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("longclip", type=Path)
    parser.add_argument("--runs", type=int, default=660, help="in all")
    parser.add_argument("--only", help="cases with this in their name")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    work = tempfile.mkdtemp(prefix="longclip-faults-")
    faults = Faults(args.longclip, work)
    chosen = [case for case in cases(faults.hub) if not args.only or args.only in case.name]
    rng = random.Random(args.seed)
    bad = total = 0
    for index, case in enumerate(chosen):
        prepared, expected, calls = faults.reference(case)
        # What a command with few calls leaves goes to the next ones.
        runs = (args.runs - total) // (len(chosen) - index)
        every = list(itertools.product(range(1, calls + 1), (False, True), [*PASSING, errno.EROFS]))
        places = sorted(rng.sample(every, runs)) if runs < len(every) else every
        codes = collections.Counter()
        wrong = 0
        for at, rest, number in places:
            code, findings = faults.run(case, prepared, expected, at, number, rest)
            codes[code] += 1
            wrong += bool(findings)
            if findings:
                kind = "and all after it" if rest else "once"
                print(f"  {case.name}, call {at} {kind}, {errno.errorcode[number]}: {'; '.join(findings)}")
        statuses = ", ".join(f"{count} x {code}" for code, count in sorted(codes.items()))
        print(f"{case.name}: {calls} calls, {len(places)} faults, status {statuses}, {wrong} wrong", flush=True)
        bad, total = bad + wrong, total + len(places)
    shutil.rmtree(work)
    print(f"{total} faults over {len(chosen)} commands, {bad} wrong")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
