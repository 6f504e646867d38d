"""Real-world files from public reports: creates each case, runs longclip on it and checks the result.

    python tests/cases/run.py --longclip target/release/longclip [NAME…]

Each case covers a kind of file: the reported one first, then its variants. The cases c… compare with
transformers and open_clip on random weights and require tests/golden/requirements.txt; the others require
only Pillow and numpy. Nothing is downloaded. Exit status 1 if a case is wrong.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import checkpoints
import datasets
import images
import others
import texts
from bench import Bench


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--longclip", required=True, type=Path)
    parser.add_argument("--keep", type=Path, help="create the files there and keep them")
    parser.add_argument("names", nargs="*", help="prefixes of the cases to run; default: all")
    args = parser.parse_args()
    folder = args.keep or Path(tempfile.mkdtemp(prefix="longclip-cases-"))
    right = wrong = 0
    for module in (checkpoints, datasets, texts, images, others):
        for name, case in module.CASES.items():
            if args.names and not any(name.startswith(begin) for begin in args.names):
                continue
            bench = Bench(args.longclip.resolve(), folder / name)
            try:
                case(bench)
            except Exception as error:  # A case that cannot be created counts as wrong.
                bench.note("made", False, f"{type(error).__name__}: {error}")
            ok = bench.findings and all(finding.ok for finding in bench.findings)
            right, wrong = right + bool(ok), wrong + (not ok)
            print(f"{'right' if ok else 'WRONG'}  {name}")
            for finding in bench.findings:
                print(f"       {'+' if finding.ok else '-'} {finding.what}: {finding.seen}")
            sys.stdout.flush()
    if not args.keep:
        shutil.rmtree(folder)
    print(f"{right} of {right + wrong} cases are right")
    return 1 if wrong else 0


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.exit(main())
