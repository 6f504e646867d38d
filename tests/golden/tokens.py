#!/usr/bin/env python3
"""Compares our token ids with those of openai/CLIP's tokenizer, and writes the fixtures.

    python3 tests/golden/tokens.py --clip CLIP --text FOLDER [FOLDER ...] [--write]

CLIP is a checkout of https://github.com/openai/CLIP; the FOLDERs hold documents; their lines are
the natural text (installed Python packages, /usr/share/doc, unpacked crates). Needs Python with
ftfy and regex, and cargo. `--write` writes tests/golden/expected/tokens/*.jsonl from the strings
in tokens_cases.py. Exits with 1 if a plain or natural string differs.
"""

import argparse
import ast
import collections
import html.entities
import importlib.util
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata
from pathlib import Path

import tokens_cases

ROOT = Path(__file__).resolve().parents[2]
EXPECTED = ROOT / "tests/golden/expected/tokens"
DOCUMENTS = {".md", ".rst", ".txt", ".html", ".po", ".1", ".json"}
SINGLE_BYTE = ["latin-1", "sloppy-windows-1252", "sloppy-windows-1251", "sloppy-windows-1250",
               "sloppy-windows-1253", "sloppy-windows-1254", "sloppy-windows-1257", "iso-8859-2",
               "macroman", "cp437"]


class Reference:
    """openai/CLIP's tokenizer, unchanged."""

    def __init__(self, clip):
        path = Path(clip) / "clip/simple_tokenizer.py"
        spec = importlib.util.spec_from_file_location("simple_tokenizer", path)
        self.module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.module)
        self.tokenizer = self.module.SimpleTokenizer()

    def clean(self, text):
        return self.module.whitespace_clean(self.module.basic_clean(text)).lower()

    def ids(self, text):
        return [49406, *self.tokenizer.encode(text), 49407]


def ours(texts):
    """The output of the ignored test in tests/tokens for the texts."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "in"), Path(folder, "out")
        source.write_text("".join(json.dumps(text) + "\n" for text in texts))
        environment = os.environ | {"LONGCLIP_TOKENS_IN": str(source), "LONGCLIP_TOKENS_OUT": str(target)}
        command = ["cargo", "test", "--quiet", "--test", "library", "--", "--ignored", "dump_token_ids"]
        subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.DEVNULL)
        with target.open(encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]


def plain_strings(rng, natural):
    """ASCII without entities and control characters: labels, templates, pieces of documents, random punctuation."""
    words = sorted({w for line in natural if line.isascii() for w in line.split() if "&" not in w})
    templates = ["a photo of a {}.", "a bad photo of the {}.", "{}", "itap of my {}!", "the {}'s tail"]
    for _ in range(12000):
        yield rng.choice(templates).format(" ".join(rng.choices(words, k=rng.randint(1, 3))))
    for _ in range(6000):
        yield rng.choice(["  ", "\t", "\n", "\r\n", "\f", " "]).join(rng.choices(words, k=rng.randint(1, 12)))
    marks = [chr(c) for c in range(0x20, 0x7F) if chr(c) != "&"] + ["'s", "'LL", "'re", "<|", "|>", "\n", "\t"]
    for _ in range(12000):
        yield "".join(rng.choices(marks, k=rng.randint(1, 40)))


def document_lines(path):
    try:
        text = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, OSError):
        return []
    if path.suffix == ".py":
        try:
            nodes = ast.walk(ast.parse(text))
        except (SyntaxError, ValueError, RecursionError):
            return []
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        text = "\n".join(ast.get_docstring(n) or "" for n in nodes if isinstance(n, kinds))
    elif path.suffix == ".rs":
        text = "\n".join(line.strip().lstrip("/!") for line in text.split("\n") if line.strip().startswith("//"))
    return text.split("\n")


def natural_strings(rng, folders, count):
    """Lines of documents and doc comments, without duplicates; half of them non-ASCII if available."""
    found = set()
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            named = path.name in {"METADATA", "README", "copyright", "AUTHORS", "CHANGELOG"}
            if (named or path.suffix in DOCUMENTS | {".py", ".rs"}) and path.is_file() and path.stat().st_size < 2e6:
                found.update(line for line in document_lines(path) if 3 <= len(line.strip()) and len(line) < 600)
    other = sorted(line for line in found if not line.isascii())
    plain = sorted(line for line in found if line.isascii())
    rng.shuffle(other)
    rng.shuffle(plain)
    kept = other[: count // 2]
    return kept + plain[: count - len(kept)]


def code_points():
    """Every code point except surrogates; only every 61st of large uniform blocks."""
    uniform = [(0x3400, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0x17000, 0x18CFF),
               (0x12000, 0x12FFF), (0x13000, 0x14FFF), (0x1B000, 0x1B2FF), (0x20000, 0x10FFFF)]
    for point in range(0x110000):
        block = next((b for b in uniform if b[0] <= point <= b[1]), None)
        if 0xD800 <= point <= 0xDFFF or (block and (point - block[0]) % 61):
            continue
        yield chr(point)


def entity_strings():
    for name in html.entities.html5:
        yield from (f"&{name}", f"a&{name}b", f"&amp;{name}", f"<b>&{name}</b>", f"&{name.upper()} x")
    numbers = [*range(0x180), *range(0x2000, 0x2070), 0xD800, 0xDFFF, 0xFDD0, 0xFFFE, 0xFFFF, 0x1F600, 0x10FFFF,
               0x110000, 2**31, 2**32 + 65, 10**20]
    for number in numbers:
        yield from (f"a&#{number};b", f"&#{number} ", f"&#x{number:x};", f"x&#X{number:X}y", f"&amp;#{number};")
    yield from tokens_cases.NESTED_ENTITIES


def garbled(text, encoding):
    return text.encode("utf-8").decode(encoding, errors="replace")


def mojibake_strings(rng, natural):
    lines = [*tokens_cases.SENTENCES, *rng.sample([n for n in natural if not n.isascii()], 500)]
    for line in lines:
        for encoding in SINGLE_BYTE:
            once = garbled(line, encoding)
            yield once
            if rng.random() < 0.3:
                yield garbled(once, rng.choice(SINGLE_BYTE))
            if rng.random() < 0.3:
                yield line + " " + once
            if rng.random() < 0.2:
                yield once.replace("\xa0", " ")


def mixed_strings(rng, natural, count):
    points = list(code_points())
    pieces = [*tokens_cases.FRAGMENTS, *html.entities.html5]
    words = [w for line in rng.sample(natural, 3000) for w in line.split()]
    for _ in range(count):
        kinds = rng.choices("ppwwwc", k=rng.randint(1, 8))
        chosen = (rng.choice({"p": pieces, "w": words, "c": points}[kind]) for kind in kinds)
        yield rng.choice(["", "", " "]).join(chosen)


def hard_strings(rng, natural):
    for point in code_points():
        yield from (point, f"a{point}b", f"A {point}É")
    yield from entity_strings()
    yield from mojibake_strings(rng, natural)
    yield from (f"{a}{b}{c}" for a in tokens_cases.FRAGMENTS for b in tokens_cases.FRAGMENTS for c in ("", "s"))
    yield from mixed_strings(rng, natural, 20000)


def kind_of(text, reference_clean, our_clean):
    """The category of one difference."""
    if any(unicodedata.category(c) == "Cn" for c in text):
        return f"character that is not in Unicode {unicodedata.unidata_version}"
    if reference_clean == our_clean:
        return "word boundaries"
    return "cleaning"


def compare(name, texts, reference, shown_of_each):
    """Prints the differences by category and returns their number."""
    texts = sorted(set(texts))
    counts, shown = collections.Counter(), collections.defaultdict(list)
    for text, our in zip(texts, ours(texts), strict=True):
        ids = reference.ids(text)
        if ids != our["ids"]:
            kind = kind_of(text, reference.clean(text), our["clean"])
            counts[kind] += 1
            shown[kind].append((text, reference.clean(text), our["clean"]))
    ascii_only = sum(text.isascii() for text in texts)
    print(f"{name}: {len(texts)} strings, {ascii_only} of them ASCII; {counts.total()} differ")
    for kind, count in counts.most_common():
        print(f"  {count:6}  {kind}")
        for text, theirs, our in random.Random(0).sample(shown[kind], min(shown_of_each, count)):
            print(f"          {text[:120]!r}\n            reference {theirs[:160]!r}\n            ours      {our[:160]!r}")
    return counts.total()


def write_fixtures(reference):
    texts = list(dict.fromkeys(tokens_cases.fixtures()))
    same, differing = [], []
    for text, our in zip(texts, ours(texts), strict=True):
        ids = reference.ids(text)
        if ids == our["ids"]:
            same.append({"text": text, "ids": ids})
        else:
            kind = kind_of(text, reference.clean(text), our["clean"])
            differing.append({"text": text, "class": kind, "ids": ids, "ours": our["ids"]})
    for name, cases in [("same", same), ("differing", differing)]:
        lines = [json.dumps(case, separators=(",", ":")) + "\n" for case in cases]
        (EXPECTED / f"{name}.jsonl").write_text("".join(lines))
        print(f"{name}.jsonl: {len(cases)} cases")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", required=True)
    parser.add_argument("--text", nargs="+", default=[])
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--shown", type=int, default=8, help="differences to show per category")
    arguments = parser.parse_args()
    reference = Reference(arguments.clip)
    if arguments.write:
        write_fixtures(reference)
    failed = 0
    if arguments.text:
        rng = random.Random(20)
        natural = natural_strings(rng, arguments.text, 40000)
        failed += compare("plain", plain_strings(rng, natural), reference, arguments.shown)
        failed += compare("natural", natural, reference, arguments.shown)
        compare("hard", hard_strings(rng, natural), reference, arguments.shown)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
