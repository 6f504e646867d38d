"""What the scripts of this folder share: small images, shards and poison, and how one process
answers them."""

import hashlib
import io
import json
import random
import struct
import subprocess
import tarfile
import zlib
from pathlib import Path

LABELS = ["a cat", "a dog", "a rocket", "a cup of tea"]


def png(seed, side=16):
    """A PNG that no other seed gives."""
    pixels = random.Random(seed).randbytes(side * side * 3)
    rows = b"".join(b"\0" + pixels[at : at + side * 3] for at in range(0, len(pixels), side * 3))

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(rows, 1))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND", b"")


def poison(kind):
    """The bytes of something that is no image; `None` is no file at all."""
    whole = png(kind)
    forms = [
        None,
        b"",
        whole[: len(whole) // 2],
        b"<html>404 Not Found</html>",
        # A claim of 60,000 x 60,000 pixels.
        whole[:16] + struct.pack(">II", 60_000, 60_000) + whole[24:],
    ]
    return forms[kind % len(forms)]


class Scene:
    """A folder with images, a list of them with poison in it, shards of the same images, and the
    labels as a file."""

    def __init__(self, longclip, work, images=2000, shards=4, bad=20):
        self.longclip, self.work = str(Path(longclip).resolve()), Path(work).resolve()
        folder = self.work / "images"
        folder.mkdir(parents=True)
        paths = []
        for index in range(images):
            path = folder / f"{index:06}.png"
            path.write_bytes(png(index))
            paths.append(path)
        self.images = list(paths)
        self.bad = []
        for kind in range(bad):
            path = folder / f"poison{kind:02}.png"
            content = poison(kind)
            if content is not None:
                path.write_bytes(content)
            self.bad.append(path)
            paths.insert((kind + 1) * len(paths) // (bad + 1), path)
        self.lines = [
            json.dumps({"id": index, "path": str(path)}) for index, path in enumerate(paths)
        ]
        self.ids = list(range(len(paths)))
        self.shards = []
        for number in range(shards):
            path = self.work / f"{number:05}.tar"
            with tarfile.open(path, "w") as archive:
                for image in self.images[number::shards]:
                    add(archive, image.name, image.read_bytes())
            self.shards.append(path)
        self.labels = self.work / "labels.safetensors"
        self.run(["labels", "--labels", *LABELS, "-m", "tiny", "-o", str(self.labels)])
        self.command = [
            *[self.longclip, "classify", "-m", "tiny", "--probe", str(self.labels), "-q"],
            *["-f", "jsonl", "--threads", "1", "--max-errors", "100%"],
        ]
        self.worker = [*self.command, "--files-from", "-"]

    def run(self, arguments, text=None):
        """What the program prints."""
        done = subprocess.run([self.longclip, *arguments], input=text, capture_output=True)
        assert done.returncode == 0, (arguments, done.returncode, done.stderr.decode()[-500:])
        return done.stdout

    def expected(self):
        """The records of one process, one for each line."""
        done = subprocess.run(
            self.worker, input="\n".join(self.lines).encode() + b"\n", capture_output=True
        )
        assert done.returncode == 0, done.stderr.decode()[-500:]
        return done.stdout.decode().splitlines()

    def expected_of_shards(self):
        arguments = [*self.command[1:], *map(str, self.shards)]
        return self.run(arguments).decode().splitlines()


def tar_of(named):
    """An uncompressed tar of pairs of a name and bytes."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in named:
            add(archive, name, content)
    return stream.getvalue()


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def digest(lines):
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def check_rows(rows, ids, what):
    """Every id has exactly one row."""
    found = sorted(json.loads(row)["id"] for row in rows)
    assert found == ids, f"{what}: {len(found)} rows, {len(set(found))} ids, {len(ids)} expected"
    failed = sum("error" in json.loads(row) for row in rows)
    print(f"{what}: {len(rows)} rows, {failed} of them errors, every image once", flush=True)
