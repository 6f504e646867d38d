"""Runs the binary for a case and records the findings."""

import json
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "assets" / "demo"
DRAWING = DEMO / "drawn-penguin.png"
PHOTOGRAPH = DEMO / "chelsea.png"


@dataclass
class Finding:
    """One comparison: what was tried, whether it was right, what was observed."""

    what: str
    ok: bool
    seen: str


@dataclass
class Answer:
    """The result of running the binary."""

    status: int
    out: str
    err: str

    @property
    def records(self):
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def labels(self):
        """Labels of the first record with their probabilities, best first."""
        records = self.records
        found = records[0].get("predictions", []) if records else []
        return {item["label"]: item.get("probability") for item in found}

    @property
    def said(self):
        """The last line on stderr, else the first on stdout."""
        lines = self.err.strip().splitlines() or self.out.strip().splitlines() or [""]
        return f"exit {self.status}: {lines[-1][:230]}"


@dataclass
class Bench:
    """One case's folder, and the program."""

    longclip: Path
    folder: Path
    findings: list = field(default_factory=list)

    def __post_init__(self):
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, *arguments, env=None, stdin=""):
        process = subprocess.run(
            [self.longclip, *map(str, arguments)],
            capture_output=True,
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            input=stdin.encode(),
            timeout=600,
        )
        return Answer(process.returncode, process.stdout.decode(), process.stderr.decode())

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def note(self, what, ok, seen):
        self.findings.append(Finding(what, bool(ok), seen))

    def refused(self, what, answer, *words, status=2):
        """Checks that it exits with this status and a message with these words."""
        missing = [word for word in words if word not in answer.err]
        self.note(what, answer.status == status and not missing, answer.said)
