#!/usr/bin/env python3
"""Builds merges.bin, the merges of CLIP's tokenizer, from the file published by OpenAI.

    python3 make.py bpe_simple_vocab_16e6.txt.gz

The input is `clip/bpe_simple_vocab_16e6.txt.gz` of https://github.com/openai/CLIP (MIT; LICENSE
next to this script). Only its lines 1 to 48,894 are the vocabulary of CLIP.

The output is 48,894 pairs of little-endian 16-bit token ids, 195,576 bytes: entry i gives the two
pieces that merge into token 512 + i. Ids 0 to 255 are the bytes, in the order of `byte_symbols`; ids
256 to 511 are the same bytes at the end of a word.
"""

import gzip
import hashlib
import struct
import sys
from pathlib import Path

INPUT_SHA256 = "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a"
MERGES = 49152 - 256 - 2
END_OF_WORD = "</w>"


def byte_symbols():
    """The printable character that represents each byte, in the order of the token ids."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(b) for b in printable] + [chr(256 + n) for n in range(len(others))]


def main(source):
    packed = Path(source).read_bytes()
    digest = hashlib.sha256(packed).hexdigest()
    if digest != INPUT_SHA256:
        sys.exit(f"{source} has sha256 {digest}, expected {INPUT_SHA256}")
    lines = gzip.decompress(packed).decode("utf-8").split("\n")[1 : MERGES + 1]

    symbols = byte_symbols()
    ids = {s: i for i, s in enumerate(symbols + [s + END_OF_WORD for s in symbols])}
    pairs = []
    for line in lines:
        left, right = line.split()
        # Both parts are already known, so a merge never creates a pair with a lower rank than its
        # own; the encoder relies on this.
        pairs.append((ids[left], ids[right]))
        assert left + right not in ids, f"{left + right} occurs twice"
        ids[left + right] = len(ids)
    assert len(ids) == 49406 and len(set(pairs)) == MERGES

    target = Path(__file__).with_name("merges.bin")
    target.write_bytes(b"".join(struct.pack("<HH", *pair) for pair in pairs))
    print(f"{target.name}: {target.stat().st_size} bytes, sha256", end=" ")
    print(hashlib.sha256(target.read_bytes()).hexdigest())


if __name__ == "__main__":
    main(sys.argv[1])
