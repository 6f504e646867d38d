"""Writes NOTICE: the packages in the program, their authors' copyright lines and licences.

    python3 tests/reliability/notice.py > NOTICE

Needs cargo, with all packages fetched. Packages that only build or test are not in it.
"""

import json
import pathlib
import re
import subprocess

HEAD = """\
longclip contains the packages below, each under one of its licences as named. The texts of the
licences follow. SQLite, which libsqlite3-sys contains, is in the public domain; mimalloc, which
libmimalloc-sys contains, is Copyright (c) 2018-2025 Microsoft Corporation, Daan Leijen (MIT); zstd,
which zstd-sys contains, is Copyright (c) Meta Platforms, Inc. and affiliates (BSD-3-Clause).
Written by tests/reliability/notice.py.
"""

# The preferred one first, and a package whose file has the text.
TEXTS = {
    "MIT": r"MIT",
    "Apache-2.0": r"APACHE",
    "ISC": r"ISC|LICENSE",
    "Zlib": r"ZLIB|LICENSE",
    "BSD-3-Clause": r"BSD-3|LICENSE$",
    "BSD-2-Clause": r"BSD-2",
    "Unicode-3.0": r"UNICODE|LICENSE",
    "MPL-2.0": r"LICENSE",
    "CC0-1.0": r"CC0|LICENSE",
    "CDLA-Permissive-2.0": r"LICENSE",
}
# How the text of each begins, since a file can have another's name.
MARKS = {
    "MIT": "Permission is hereby granted, free of charge",
    "Apache-2.0": "TERMS AND CONDITIONS FOR USE, REPRODUCTION",
    "ISC": "Permission to use, copy, modify",
    "Zlib": "This software is provided 'as-is'",
    "BSD-3-Clause": "Neither the name",
    "BSD-2-Clause": "Redistribution and use in source and binary forms",
    "Unicode-3.0": "UNICODE LICENSE V3",
    "MPL-2.0": "Mozilla Public License Version 2.0",
    "CC0-1.0": "CC0 1.0 Universal",
    "CDLA-Permissive-2.0": "Community Data License Agreement",
}


def metadata():
    command = ["cargo", "metadata", "--locked", "--offline", "--format-version", "1"]
    command += ["--filter-platform", "x86_64-unknown-linux-gnu"]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def shipped(data):
    """The packages that are linked into the program."""
    nodes = {node["id"]: node for node in data["resolve"]["nodes"]}
    seen, todo = set(), [data["resolve"]["root"]]
    while todo:
        one = todo.pop()
        if one in seen:
            continue
        seen.add(one)
        for dep in nodes[one]["deps"]:
            if any(kind["kind"] is None for kind in dep["dep_kinds"]):
                todo.append(dep["pkg"])
    seen.discard(data["resolve"]["root"])
    packages = [package for package in data["packages"] if package["id"] in seen]
    return sorted(packages, key=lambda package: (package["name"], package["version"]))


def chosen(expression):
    """The licences of an expression that are used: all of an AND, else the preferred one."""
    parts = [re.split(r" OR |/", part.strip("() ")) for part in expression.split(" AND ")]
    picked = []
    for part in parts:
        names = [name.strip(" ()") for name in part]
        known = [name for name in TEXTS if name in names]
        if not known:
            raise SystemExit(f"no known licence in {expression!r}")
        picked.append(known[0])
    return picked


def files(package):
    folder = pathlib.Path(package["manifest_path"]).parent
    pattern = re.compile(r"LICEN[CS]E|COPYING|COPYRIGHT|NOTICE", re.I)
    found = [path for path in sorted(folder.iterdir()) if pattern.match(path.name)]
    return [path for path in found if path.is_file()]


def copyrights(package):
    lines = []
    for path in files(package):
        for line in path.read_text(errors="replace").splitlines():
            line = line.strip(" *#/")
            is_own = re.match(r"(©|Copyright\b.*(\d{4}|©|\([cC]\)))", line)
            if is_own and "[yyyy]" not in line and line not in lines:
                lines.append(line)
    return lines


def text_of(licence, packages):
    for package in packages:
        for path in files(package):
            text = path.read_text(errors="replace").strip()
            short = len(text) < 2500 or licence in (
                "Apache-2.0",
                "MPL-2.0",
                "CC0-1.0",
                "Unicode-3.0",
            )
            named = re.search(TEXTS[licence], path.name, re.I)
            if named and short and MARKS[licence].lower() in " ".join(text.split()).lower():
                kept = [line for line in text.splitlines() if not line.startswith("Copyright")]
                return "\n".join(line.rstrip() for line in kept).strip()
    raise SystemExit(f"no text of {licence}")


def main():
    packages = shipped(metadata())
    print(HEAD)
    used = set()
    for package in packages:
        licences = chosen(package["license"])
        used.update(licences)
        place = package["repository"] or package["homepage"] or "crates.io"
        print(f"{package['name']} {package['version']} ({' and '.join(licences)}), {place}")
        lines = copyrights(package)
        if not lines and package["authors"]:
            lines = ["by " + ", ".join(re.sub(r" <.*>", "", one) for one in package["authors"])]
        for line in lines:
            print(f"    {line}")
    for licence in sorted(used):
        with_it = [package for package in packages if licence in package["license"]]
        print(f"\n\n{'=' * 20} {licence} {'=' * 20}\n")
        print(text_of(licence, with_it))


main()
