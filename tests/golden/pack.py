"""Packs the checkpoint files into one small archive and unpacks them again.

A tiny checkpoint still carries CLIP's 49,408 vocabulary rows, nearly all zero, and the layouts share
most of their weights. Each file becomes a list of parts: a run of zero bytes, or a slice of one
pool of bytes that all files share. The pool is stored as four planes (every first byte of four, every
second, ...) because the low bytes of most weights are zero, then compressed with gzip.

`checkpoints/pack.json`: {"pool_bytes": N, "files": {path: {"bytes", "sha256", "parts": [part, ...]}}},
where a part is [length] for zeros or [length, offset in the pool].
"""

import gzip
import hashlib
import json
import re
import zipfile
from pathlib import Path

BLOCK = 32  # minimum number of equal bytes for a match
ZEROS = re.compile(rb"\0{64,}")


class Pool:
    """Bytes shared by all files, with an index for finding matches."""

    def __init__(self):
        self.data = bytearray()
        self.index = {}

    def append(self, piece):
        offset = len(self.data)
        self.data += piece + bytes(-len(piece) % 4)
        for at in range(offset, offset + len(piece) - BLOCK + 1, 4):
            self.index.setdefault(bytes(self.data[at : at + BLOCK]), at)
        return offset

    def find(self, piece, at):
        """The longest known run that starts at `at`, as (length, offset), or None."""
        offset = self.index.get(bytes(piece[at : at + BLOCK]))
        if offset is None:
            return None
        length = BLOCK
        limit = min(len(piece) - at, len(self.data) - offset)
        while length < limit:
            step = min(4096, limit - length)
            ours, theirs = piece[at + length : at + length + step], self.data[offset + length : offset + length + step]
            if ours == theirs:
                length += step
                continue
            length += next(i for i in range(step) if ours[i] != theirs[i])
            break
        # Stay on multiples of four, or the next search misses every float.
        return length if at + length == len(piece) else length - length % 4, offset


def split(content, pool):
    """The parts of one file; missing bytes are appended to the pool."""
    parts, done = [], 0
    for zeros in list(ZEROS.finditer(content)) + [None]:
        start, end = zeros.span() if zeros else (len(content), len(content))
        # Keep pool slices on the file's own multiples of four, where the floats lie.
        if zeros:
            start, end = start + -start % 4, end - end % 4
        parts += split_piece(content[done:start], pool)
        if end > start:
            parts.append([end - start])
        done = end
    return parts


def split_piece(piece, pool):
    parts, fresh, at = [], 0, 0
    while at + BLOCK <= len(piece):
        known = pool.find(piece, at)
        if known is None:
            at += 4
            continue
        if at > fresh:
            parts.append([at - fresh, pool.append(piece[fresh:at])])
        parts.append(list(known))
        fresh = at = at + known[0]
    if len(piece) > fresh:
        parts.append([len(piece) - fresh, pool.append(piece[fresh:])])
    return parts


def pack(files, folder):
    """Writes `pack.json` and `pool.gz` for {path: bytes}; returns their sizes."""
    pool, manifest = Pool(), {}
    for path, content in files.items():
        parts = split(content, pool)
        manifest[path] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest(), "parts": parts}
    data = bytes(pool.data)
    planes = b"".join(data[plane::4] for plane in range(4))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pool.gz").write_bytes(gzip.compress(planes, 9, mtime=0))
    text = ",\n".join(f"{json.dumps(path)}:{json.dumps(entry, separators=(',', ':'))}" for path, entry in manifest.items())
    (folder / "pack.json").write_text(f'{{"pool_bytes":{len(data)},"files":{{\n{text}\n}}}}\n')
    return {name: (folder / name).stat().st_size for name in ("pool.gz", "pack.json")}


def unpack(folder, out):
    """Writes every packed file into `out` and verifies it."""
    manifest = json.loads((folder / "pack.json").read_text())
    planes = gzip.decompress((folder / "pool.gz").read_bytes())
    quarter = manifest["pool_bytes"] // 4
    pool = bytearray(manifest["pool_bytes"])
    for plane in range(4):
        pool[plane::4] = planes[plane * quarter : (plane + 1) * quarter]
    for path, entry in manifest["files"].items():
        content = b"".join(bytes(p[0]) if len(p) == 1 else bytes(pool[p[1] : p[1] + p[0]]) for p in entry["parts"])
        assert hashlib.sha256(content).hexdigest() == entry["sha256"], path
        target = Path(out) / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def without_debug_files(path):
    """Removes source paths from a TorchScript archive; storages stay aligned to 64 bytes."""
    with zipfile.ZipFile(path) as archive:
        members = [(info, archive.read(info)) for info in archive.infolist() if not info.filename.endswith(".debug_pkl")]
    with zipfile.ZipFile(path, "w") as archive:
        for old, content in members:
            info = zipfile.ZipInfo(old.filename, (1980, 1, 1, 0, 0, 0))
            info.compress_type = old.compress_type
            header = archive.fp.tell() + 30 + len(info.filename) + 4
            padding = -header % 64
            info.extra = b"FB" + padding.to_bytes(2, "little") + b"Z" * padding
            archive.writestr(info, content)
