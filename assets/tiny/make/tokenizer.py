"""CLIP's byte-pair tokenizer, read from the merges in the repository."""

import functools
import itertools
import re
import struct
from pathlib import Path

import numpy as np

MERGES = Path(__file__).resolve().parents[2] / "tokenizer" / "merges.bin"
START, END, VOCABULARY = 49406, 49407, 49408
# CLIP's pattern for text that is already lower case.
PIECES = re.compile(r"'s|'t|'re|'ve|'m|'ll|'d|[^\W\d_]+|\d|(?:[^\s\w]|_)+")


@functools.cache
def ranks():
    """The rank of each pair of token ids: the token that the pair merges into."""
    pairs = struct.iter_unpack("<HH", MERGES.read_bytes())
    return {pair: 512 + rank for rank, pair in enumerate(pairs)}


@functools.cache
def byte_ids():
    """The id of each byte: CLIP numbers the printable ones first."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    order = printable + [byte for byte in range(256) if byte not in printable]
    return {byte: rank for rank, byte in enumerate(order)}


@functools.cache
def word_ids(word):
    """The tokens of one word; the last byte of a word has its own id."""
    ids = [byte_ids()[byte] for byte in word.encode()]
    ids[-1] += 256
    while len(ids) > 1:
        pairs = [(ranks().get(pair, VOCABULARY), at) for at, pair in enumerate(itertools.pairwise(ids))]
        token, at = min(pairs)
        if token == VOCABULARY:
            break
        ids[at : at + 2] = [token]
    return tuple(ids)


def encode(text):
    """The token ids of a caption, without the start and end tokens."""
    return [token for word in PIECES.findall(text.lower()) for token in word_ids(word)]


def tokens(texts, length):
    """Token ids [texts, length], with start and end, zero-padded.

    A caption that is too long is an error: nothing may be truncated silently.
    """
    rows = np.zeros((len(texts), length), np.int64)
    for row, text in zip(rows, texts):
        ids = [START, *encode(text), END]
        if len(ids) > length:
            raise ValueError(f"{len(ids)} tokens do not fit in {length}: {text!r}")
        row[: len(ids)] = ids
    return rows
