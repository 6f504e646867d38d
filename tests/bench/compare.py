#!/usr/bin/env python3
"""Runs this program and its peers alternately, each in a fresh process, and prints ratios of medians.

  compare.py FOLDER --ours target/release/longclip

FOLDER keeps the generated checkpoints, graphs and images. See README.md next to this file.
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib import metadata
from pathlib import Path

import isa
import material
from comparisons import comparisons, ratio_rows

HERE = Path(__file__).resolve().parent
PRECISIONS = ["f32", "bf16", "int8", "int8-fast"]
PEERS = [
    "transformers-f32", "transformers-bf16", "onnxruntime-f32", "onnxruntime-int8",
    "openvino-f32", "openvino-bf16", "openvino-int8", "open_clip-f32", "longclip_code-f32", "candle-f32",
]
PACKAGES = ["torch", "transformers", "open_clip_torch", "onnx", "onnxruntime", "openvino", "nncf",
            "numpy", "pillow", "tokenizers"]
LABELS = ["a cat jumping", "a cat sleeping"]


class Machine:
    """Starts processes on given processors and measures their cost."""

    def __init__(self, options):
        self.cpus = [int(number) for number in options.cpus.split(",")]
        self.threads = len(self.cpus)
        self.timeout = options.timeout
        count = str(self.threads)
        self.environment = dict(
            os.environ, OMP_NUM_THREADS=count, RAYON_NUM_THREADS=count, HF_HUB_OFFLINE="1",
            TOKENIZERS_PARALLELISM="false", PYTHONWARNINGS="ignore",
        )
        if options.longclip_code:
            self.environment["LONGCLIP_CODE"] = options.longclip_code
        self.isa = None
        if options.isa:
            programs = [options.ours, *filter(None, [options.candle])]
            self.isa = isa.Isa(options.isa, options.folder.resolve() / "isa", programs)
            self.environment.update(self.isa.variables())

    def run(self, command):
        """-> its JSON output, wall time and peak resident memory."""
        load = os.getloadavg()[0]
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as errors:
            start = time.perf_counter()
            process = subprocess.Popen(
                list(map(str, command)), stdout=out, stderr=errors, env=self.environment,
                preexec_fn=lambda: os.sched_setaffinity(0, self.cpus),
            )
            status, usage = self.wait(process)
            wall = time.perf_counter() - start
            out.seek(0)
            errors.seek(0)
            text, trouble = out.read().decode(), errors.read().decode(errors="replace")
        if status != 0:
            return {"error": f"status {status}: {trouble.strip()[-400:]}"}
        report = json.loads(text)
        # A single object: commands that print a list of records are only timed.
        report = report if isinstance(report, dict) else {"records": len(report)}
        report.update(process_ms=wall * 1e3, process_peak_mib=usage.ru_maxrss / 1024, load_before=load)
        return report

    def wait(self, process):
        """Sleeps until the end: looking now and then would take a processor from the program."""
        limit = threading.Timer(self.timeout, process.kill)
        limit.start()
        _, status, usage = os.wait4(process.pid, 0)
        limit.cancel()
        process.returncode = os.waitstatus_to_exitcode(status)
        return process.returncode, usage


class Programs:
    """The commands of each program for each part; None if it has no such part."""

    def __init__(self, options, machine, folder):
        self.options, self.machine, self.folder = options, machine, folder

    def names(self):
        names = [f"ours-{precision}" for precision in PRECISIONS] + PEERS
        if not self.options.longclip_code:
            names.remove("longclip_code-f32")
        if not self.options.candle:
            names.remove("candle-f32")
        wanted = self.options.programs
        return [name for name in names if not wanted or name in wanted]

    def commands(self, name, part, model):
        """A list of (kind, command); the kind is "captions" if labels are used as captions."""
        library, _, precision = name.partition("-")
        checkpoint, shape = self.folder / model, material.MODELS[model]
        if library == "longclip_code" and shape.text[3] != 248:
            return []
        graphs = shape.int8 if precision == "int8" else shape.graphs
        if library in ("onnxruntime", "openvino") and not graphs:
            return []
        if library == "ours":
            return self.ours(precision, part, checkpoint)
        if library == "candle":
            if part != "steady":
                return []
            tokens = self.folder / f"tokens-{model}.json"
            budget = self.options.budget
            return [("", [self.options.candle, checkpoint, tokens, budget])]
        source = {
            "steady": self.folder / "tokens.json",
            "whole": self.folder / "pictures" / "one.jpg",
            "folder": self.folder / f"pictures-large-{self.options.folder_count}",
        }[part]
        # Only two processes of the fastest peer: the others take many minutes.
        if part == "folder" and name != "openvino-bf16":
            return []
        if part == "whole" and library in ("open_clip", "longclip_code"):
            return []
        command = [sys.executable, HERE / "peers.py", part, name, checkpoint, source]
        command += ["--threads", self.machine.threads, "--budget", self.options.budget]
        command += ["--towers", ",".join(self.options.towers)]
        return [("", command)]

    def ours(self, precision, part, checkpoint):
        common = ["--model", checkpoint, "--precision", precision, "--threads", self.machine.threads]
        common += ["--quiet"]
        program = self.options.ours
        if part == "steady":
            bench = [program, "bench", *common, "--format", "json", "--labels-file"]
            # Without the folder and the comparison with f32, which the peers do not do here.
            runs = [("", [*bench, self.folder / "labels.txt", "--only", ",".join(self.options.towers)])]
            if "texts" in self.options.towers and material.MODELS[checkpoint.name].text[3] == 248:
                captions = [*bench, self.folder / "captions.txt", "--only", "texts"]
                runs.append(("captions", captions))
            return runs
        name = "pictures/one.jpg" if part == "whole" else f"pictures-large-{self.options.folder_count}"
        if part == "folder" and precision != "bf16":
            return []
        classify = [program, "classify", self.folder / name, *common, "--format", "json"]
        return [("", [*classify, "--labels", *LABELS])]


def merged(reports):
    """Merges the reports of one program's runs in one round."""
    whole = {}
    for kind, report in reports:
        if kind == "captions":
            if "error" in report:
                whole.setdefault("error", report["error"])
            else:
                whole["captions10_ms"] = report["labels10_ms"]
        else:
            whole.update(report)
    return whole


def medians(rounds):
    """Reports of several rounds -> the median of every number."""
    good = [report for report in rounds if "error" not in report]
    if not good:
        return dict(rounds[0]) if rounds else {}
    numbers = {}
    for key in good[0]:
        values = [report[key] for report in good if isinstance(report.get(key), (int, float))]
        if values:
            numbers[key] = statistics.median(values)
    return numbers


def measure(options, machine, folder):
    """-> raw[model][part][program]: one report per round."""
    programs = Programs(options, machine, folder)
    raw = {model: {part: {} for part in options.parts} for model in options.models}
    for model in options.models:
        for part in options.parts:
            if part == "folder" and model not in options.folder_models:
                continue
            for number in range(options.rounds if part != "folder" else options.folder_rounds):
                for name in programs.names():
                    commands = programs.commands(name, part, model)
                    if not commands:
                        continue
                    report = merged([(kind, machine.run(command)) for kind, command in commands])
                    raw[model][part].setdefault(name, []).append(report)
                    shown = report.get("error", f"{report.get('process_ms', 0) / 1e3:.1f} s")
                    print(f"{model} {part} round {number + 1} {name}: {shown}", file=sys.stderr)
    return raw


def our_kernels(raw):
    """The instruction sets that our program said it used."""
    for parts in raw.values():
        for name, rounds in parts.get("steady", {}).items():
            for report in rounds:
                if name.startswith("ours-") and "cpu_features" in report:
                    return report["cpu_features"]
    return None


def prepare(options, folder):
    """Creates missing material in a separate process: this one stays small, because a child's peak
    memory starts from its parent's."""
    command = [sys.executable, HERE / "material.py", folder, *options.models]
    subprocess.run(command, check=True, stdout=sys.stderr)
    if "folder" in options.parts:
        material.many_pictures(folder, options.folder_count)
    tokens = json.loads((folder / "tokens.json").read_text())
    for model in options.models:
        sets = {f"labels{count}": tokens["labels"][:count] for count in (2, 10, 100, 1000)}
        if material.MODELS[model].text[3] == 248:
            sets["captions10"] = tokens["captions"]
        (folder / f"tokens-{model}.json").write_text(json.dumps(sets))


def environment(options, machine):
    """The machine and versions of the measurement."""
    def output_of(*command):
        done = subprocess.run(command, capture_output=True, text=True, cwd=HERE)
        return done.stdout.strip()

    def version(package):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            return None

    facts = dict(line.split(":", 1) for line in output_of("lscpu").splitlines() if ":" in line)
    wanted = ["Model name", "CPU(s)", "Thread(s) per core", "Core(s) per socket", "L2 cache", "L3 cache"]
    wanted_flags = ("avx2", "fma", "avx_vnni", "avx512", "amx")
    flags = [flag for flag in facts.get("Flags", "").split() if flag.startswith(wanted_flags)]
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": output_of("git", "rev-parse", "HEAD"),
        "changed_files": len(output_of("git", "status", "--porcelain", "--untracked-files=no").splitlines()),
        "ours": output_of(options.ours, "--version"),
        "cpu": {key: facts[key].strip() for key in wanted if key in facts},
        "cpu_flags": flags,
        "isa": machine.isa.report() if machine.isa else None,
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "system": platform.platform(),
        "processors_used": machine.cpus,
        "python": platform.python_version(),
        "packages": {package: version(package) for package in PACKAGES},
        "load_at_start": os.getloadavg(),
    }


def print_tables(document):
    about = document["environment"]
    print(f"{about['cpu'].get('Model name')}, {len(about['processors_used'])} processors, "
          f"our kernels {' '.join(about['our_kernels'] or ['not seen'])}, "
          f"{'peers as they choose' if about['isa'] is None else 'all up to ' + about['isa']['newest']}, "
          f"commit {about['commit'][:9]}\n")
    line = "{:<14}{:<44}{:>11}{:>11}  {:<18}{:>7}{:>8}  {}"
    print(line.format("model", "what", "ours", "peer", "", "ratio", "target", ""))
    for row in document["ratios"]:
        verdict = "" if row["target"] is None else ("hit" if row["ratio"] >= row["target"] else "MISS")
        print(line.format(
            row["model"], row["what"], f"{row['ours']:.1f}", f"{row['peer']:.1f}", row["peer_name"],
            f"{row['ratio']:.2f}", "" if row["target"] is None else f"{row['target']:.2f}", verdict,
        ))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    words = lambda text: [word for word in text.split(",") if word]
    parser.add_argument("folder", type=Path, help="where generated checkpoints and images are kept")
    parser.add_argument("--ours", required=True, help="the longclip program")
    parser.add_argument("--models", type=words, default=material.USUAL)
    parser.add_argument("--programs", type=words, help="a subset, such as ours-bf16,openvino-bf16")
    parser.add_argument("--parts", type=words, default=["steady", "whole", "folder"])
    parser.add_argument("--towers", type=words, default=["images", "texts"], help="towers of the part steady")
    parser.add_argument("--isa", choices=isa.HIDDEN, help="hide newer instructions from every program")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--budget", type=float, default=1.5, help="seconds for each of a peer's figures")
    parser.add_argument("--cpus", default="0,1", help="processors to use, one thread each")
    parser.add_argument("--candle", help="the program built from candle_peer")
    parser.add_argument("--longclip-code", help="a checkout of Long-CLIP's own code")
    parser.add_argument("--folder-count", type=int, default=500, help="images of 12 megapixels")
    parser.add_argument("--folder-models", type=words, default=["longclip-b16", "b32"])
    parser.add_argument("--folder-rounds", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for one process")
    parser.add_argument("--output", type=Path, help="[default: runs/DATE-COMMIT.json next to this file]")
    options = parser.parse_args()
    options.ours = str(Path(options.ours).resolve())
    for model in options.models:
        if model not in material.MODELS:
            parser.error(f"no model {model}; there are {', '.join(material.MODELS)}")
    return options


def main():
    options = arguments()
    machine = Machine(options)
    folder = options.folder.resolve()
    prepare(options, folder)
    about = environment(options, machine)
    if about["load_at_start"][0] > 0.5:
        print("warning: other work runs on this machine; ratios will not hold", file=sys.stderr)
    raw = measure(options, machine, folder)
    about["our_kernels"] = our_kernels(raw)
    summary = {
        model: {
            part: {name: medians(rounds) for name, rounds in programs.items()}
            for part, programs in parts.items()
        }
        for model, parts in raw.items()
    }
    document = {
        "environment": about,
        "rounds": options.rounds,
        "ratios": ratio_rows(summary, comparisons(options.isa)),
        "medians": summary,
        "raw": raw,
    }
    name = f"{about['date'][:10]}-{about['commit'][:9]}{'-' + options.isa if options.isa else ''}.json"
    output = options.output or HERE / "runs" / name
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=1) + "\n")
    print_tables(document)
    print(f"\nwritten to {output}")


if __name__ == "__main__":
    main()
