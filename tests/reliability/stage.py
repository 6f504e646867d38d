"""What faults.py and kills.py share: folders with inputs, the commands that are run in them, and a
hub on loopback. Everything is made here; nothing is downloaded."""

import hashlib
import json
import os
import shutil
import struct
import subprocess
import threading
import time
import zlib
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
LABELS = ["--labels", "a cat", "a dog", "a bus"]
SORTED = "sorted"


def png(seed, side=24):
    """A picture whose colours come from the seed."""
    rows = b"".join(
        b"\0" + bytes((seed * 53 + 7 * x * (c + 1) + 11 * y) % 256 for x in range(side) for c in range(3))
        for y in range(side)
    )

    def chunk(tag, body):
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def files(folder):
    """The files below a folder, each with its content; a link with that of its target."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def leftovers(folder):
    """Names of files in progress."""
    names = (str(path.relative_to(folder)) for path in Path(folder).rglob(".*"))
    return [name for name in names if Path(name).name.startswith((".longclip-", ".tmp"))]


class Stage:
    """A folder with inputs, the program's home too."""

    def __init__(self, longclip, folder, images=6):
        self.longclip, self.folder = Path(longclip).resolve(), Path(folder)
        for index in range(images):
            self.write(f"in/{index:03}.png", png(index))
        for index in range(12):
            self.write(f"classes/{'cat' if index % 2 else 'dog'}/{index:02}.png", png(100 + index))
        pairs = (
            {"image": f"in/{index:03}.png", "caption": f"Picture {index}. It is number {index * 7}."}
            for index in range(images)
        )
        self.write("pairs.jsonl", "".join(json.dumps(pair) + "\n" for pair in pairs))

    def write(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    def environment(self, more=None):
        kept = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "HF_HOME": str(self.folder / "hub")}
        return kept | (more or {})

    def start(self, arguments, more=None):
        return subprocess.Popen(
            [self.longclip, *arguments],
            cwd=self.folder,
            env=self.environment(more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(self, arguments, more=None):
        process = self.start(arguments, more)
        out, err = process.communicate(timeout=300)
        return process.returncode, out, err.decode(errors="replace")

    def copy(self, folder):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.folder, folder, symlinks=True)
        other = object.__new__(Stage)
        other.longclip, other.folder = self.longclip, Path(folder)
        return other


@dataclass
class Case:
    """A command, and what it writes."""

    name: str
    arguments: list
    # Files and folders that the command writes.
    outputs: list
    # Endings of outputs that are the same each time.
    same: tuple = ("",)
    # Further flags to go on after a fault.
    resume: list = field(default_factory=list)
    # Commands that come before.
    before: list = field(default_factory=list)
    # What is at the outputs before, if that may be replaced.
    old: bool = False
    sorts: bool = False

    def prepare(self, stage):
        for arguments in self.before:
            code, _, err = stage.run(arguments)
            assert code == 0, (self.name, arguments, err)
        if self.old:
            for name in self.outputs:
                stage.write(name, "old")

    def result(self, stage):
        """The outputs, as far as they are there."""
        found = {}
        for name in self.outputs:
            path = stage.folder / name
            if path.is_dir():
                inner = files(path)
                found |= {f"{name}/{inside}": inner[inside] for inside in inner if inside.endswith(self.same)}
            elif path.is_file():
                found[name] = path.read_bytes()
        return found


def cases(hub):
    tiny = ["--model", "tiny", "-q"]
    classify = ["classify", "in", *tiny, *LABELS]
    embed = ["embed", "in", *tiny]
    steps = ["--batch-size", "3", "--steps", "4", "--save-every", "1", "--pcm-rank", "2"]
    return [
        Case("classify -o", [*classify, "-o", "out.csv"], ["out.csv"], old=True),
        Case("classify --move", [*classify, "--move", SORTED], [], sorts=True),
        Case("classify --copy", [*classify, "--copy", SORTED], [], sorts=True),
        Case("classify --link", [*classify, "--link", SORTED], [], sorts=True),
        Case("classify --cache", [*classify, "--cache", "cache", "-o", "out.csv"], ["out.csv"], old=True),
        Case("classify --report", [*classify, "--report", "page.html", "-f", "csv", "-o", "out.csv"], ["out.csv"], old=True),
        Case("embed .npy", [*embed, "-o", "e.npy"], ["e.npy", "e.paths.jsonl"], resume=["--resume"]),
        Case("embed .safetensors", [*embed, "-o", "e.safetensors"], ["e.safetensors"], resume=["--resume"]),
        Case("embed .parquet", [*embed, "-o", "e.parquet"], ["e.parquet"], resume=["--resume"]),
        Case("embed .jsonl", [*embed, "-o", "e.jsonl"], ["e.jsonl"], resume=["--resume"]),
        Case("search -o", ["search", "e.npy", "a cat", *tiny, "-o", "hits.csv"], ["hits.csv"], old=True,
             before=[[*embed, "-o", "e.npy"]]),
        Case("convert", ["convert", "tiny", "m.safetensors", "--force", "-q"], ["m.safetensors"], old=True),
        Case("convert FOLDER", ["convert", "tiny", "m", "--layout", "hf", "-q"], ["m"]),
        Case("stretch", ["stretch", "tiny", "s.safetensors", "--to", "300", "--ratio", "1.3", "--force", "-q"],
             ["s.safetensors"], old=True),
        Case("calibrate", ["calibrate", "classes", *tiny, "--labels", "cat", "dog", "-o", "c.json"], ["c.json"], old=True),
        Case("probe", ["probe", "classes", *tiny, "--out", "p.safetensors"], ["p.safetensors"], resume=["--force"]),
        Case("evaluate", ["evaluate", "classes", *tiny, "--out", "results"], ["results"], same=(".csv",)),
        Case("finetune", ["finetune", "pairs.jsonl", *tiny, *steps, "--out", "run"], ["run/model.safetensors"],
             resume=["--resume"]),
        Case("models pull", ["models", "pull", "owner/model", "-q"], ["hub/hub/models--owner--model/snapshots"]),
    ]


class Hub:
    """A hub on loopback with one model; its answers take `seconds` in all."""

    def __init__(self, folder, seconds=0.0):
        self.files = {name: content for name, content in files(folder).items()}
        self.seconds = seconds
        # Where the rest of a file was asked for from.
        self.ranges = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def do_HEAD(self):
                self.answer(False)

            def do_GET(self):
                self.answer(True)

            def answer(self, has_body):
                status, headers, body = hub.reply(self.path, self.headers.get("Range"))
                try:
                    self.send_response(status)
                    for name, value in headers.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    part = max(1, len(body) // 20)
                    for start in range(0, len(body) if has_body else 0, part):
                        self.wfile.write(body[start : start + part])
                        time.sleep(hub.seconds / 20 if len(body) > 1 << 20 else 0)
                except OSError:
                    pass  # The program was killed.

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A killed program resets its connections.
        self.server.handle_error = lambda *_: None
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def environment(self):
        return {"HF_ENDPOINT": f"http://127.0.0.1:{self.server.server_address[1]}"}

    def reply(self, path, wanted):
        if path.startswith("/api/models/owner/model/revision/"):
            listing = {"id": "owner/model", "sha": COMMIT, "siblings": [{"rfilename": name} for name in self.files]}
            return 200, {}, json.dumps(listing).encode()
        name = path.removeprefix("/owner/model/resolve/").partition("/")[2]
        if path.startswith("/cdn/"):
            name = path.removeprefix("/cdn/")
        body = self.files.get(name)
        if body is None:
            return 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}, b"not found"
        headers = {"X-Repo-Commit": COMMIT}
        if name.endswith(".safetensors") and not path.startswith("/cdn/"):
            headers |= {
                "X-Linked-ETag": f'"{hashlib.sha256(body).hexdigest()}"',
                "X-Linked-Size": str(len(body)),
                "Location": f"/cdn/{name}",
            }
            return 302, headers, b""
        headers["ETag"] = f'"{hashlib.sha1(b"blob %d" % len(body) + bytes(1) + body).hexdigest()}"'
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        if start:
            self.ranges.append(start)
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        return (206 if start else 200), headers, body[start:]


def check_sorted(stage, before, is_done):
    """What is wrong with images that were sorted out of `in`; `before` are its files."""
    now = files(stage.folder / "in")
    place = stage.folder / SORTED
    there = {name: content for name, content in files(place).items() if not name.endswith(".jsonl")} if place.exists() else {}
    wrong = []
    for content in before.values():
        copies = sum(content == other for other in there.values())
        if content not in now.values() and not copies:
            wrong.append("an image is lost")
        if copies > 1 or (is_done and copies != 1):
            wrong.append(f"an image is sorted {copies} times")
    if any(content not in before.values() for content in there.values()):
        wrong.append("a sorted image is damaged")
    return wrong
