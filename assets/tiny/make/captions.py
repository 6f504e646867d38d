"""Captions of images: names of single things, short and long captions of scenes."""

import numpy as np

SINGLE = (
    "{}", "{}", "{a}", "{a}", "a picture of a {}", "a picture of {a}", "a photo of a {}.",
    "a photo of {a}", "a drawing of a {}", "a drawing of {a}.", "an icon of a {}", "a cartoon {}",
    "an emoji of a {}", "clip art of {a}", "a {}.", "an image of {a}", "the {}", "a small {}",
    "a picture of a {}.", "a drawn {}", "an illustration of {a}",
)  # fmt: skip
PREFIXES = ("", "", "", "a picture of ", "a drawing of ", "an image with ")
ROWS = {1: ("",), 2: ("top", "bottom"), 3: ("top", "middle", "bottom")}
COLUMNS = {1: ("",), 2: ("left", "right"), 3: ("left", "centre", "right"),
           4: ("far left", "left", "right", "far right")}  # fmt: skip
# rows and columns of scenes, by number of things
LAYOUTS = {2: ((1, 2), (1, 2), (2, 1)), 3: ((1, 3), (3, 1)), 4: ((2, 2), (2, 2), (1, 4)),
           6: ((2, 3), (3, 2)), 8: ((2, 4),), 9: ((3, 3),), 12: ((3, 4),)}  # fmt: skip
MOST = max(LAYOUTS)


def article(name):
    """The name with an article, unless it is a plural or already has one."""
    if name.endswith("s") and not name.endswith(("ss", "us", "bus")):
        return name
    return ("an " if name[0] in "aeiou" else "a ") + name


def single(thing, rng):
    """A caption of one thing."""
    name = thing.names[0] if rng.random() < 0.6 else thing.names[rng.integers(len(thing.names))]
    draw = rng.random()
    if thing.words and draw < 0.07:
        return f"{name}, {thing.words[rng.integers(len(thing.words))]}"
    if thing.words and draw < 0.1:
        return thing.words[rng.integers(len(thing.words))]
    return filled(SINGLE[rng.integers(len(SINGLE))], name)


def filled(template, name):
    """A template with the name in it."""
    return template.replace("{a}", article(name)).replace("{}", name)


def place(row, column, rows, columns):
    """The position of a cell: "on the left", "in the top right", "in the centre"."""
    if rows == 1 or columns == 1:
        word = ROWS[rows][row] if columns == 1 else COLUMNS[columns][column]
        if word in ("middle", "centre"):
            return "in the middle"
        return f"at the {word}" if columns == 1 else f"on the {word}"
    if (rows, columns) == (3, 3) and row == column == 1:
        return "in the centre"
    return f"in the {ROWS[rows][row]} {COLUMNS[columns][column]}"


def short_plan(rows, columns, rng):
    """A plan for short captions: (the cells mentioned, names -> caption, order matters)."""
    count = rows * columns
    prefix = PREFIXES[rng.integers(len(PREFIXES))]
    draw = rng.random()
    if count == 2:
        words = ("to the left of", "left of", "to the right of", "right of")
        if columns == 1:
            words = ("above", "over", "below", "under")
        if draw < 0.8:
            word = words[rng.integers(4)]
            first = 0 if word in words[:2] else 1
            return [0, 1], lambda n: f"{prefix}{n[first]} {word} {n[1 - first]}", True
        ends = ("on the left", "on the right") if rows == 1 else ("at the top", "at the bottom")
        return [0, 1], lambda n: f"{prefix}{n[0]} {ends[0]} and {n[1]} {ends[1]}", True
    if count == 3 and draw < 0.3:
        word = "from left to right" if rows == 1 else "from top to bottom"
        return [0, 1, 2], lambda n: f"{prefix}{n[0]}, {n[1]} and {n[2]} {word}", True
    if count == 3 and draw < 0.5:
        return [0, 1, 2], lambda n: f"{prefix}{n[1]} between {n[0]} and {n[2]}", False
    if count <= 4 and draw < 0.75:
        cells = list(range(count))
        return cells, lambda n: prefix + ", ".join(n[:-1]) + f" and {n[-1]}", False
    cells = sorted(rng.permutation(count)[: 1 + (rng.random() < 0.6)].tolist())
    where = [place(cell // columns, cell % columns, rows, columns) for cell in cells]
    return cells, lambda n: prefix + " and ".join(f"{x} {y}" for x, y in zip(n, where)), True


OPENERS = (
    "{where} there is {thing}", "{where} is {thing}", "{where} you can see {thing}",
    "{where} we find {thing}", "{where} stands {thing}",
)  # fmt: skip
KINDS = (", which is {kind}", ", {kind}", "; it is {kind}", "")


def long_plan(rows, columns, background, rng):
    """A plan for long captions: [(name, colour, kind)] in reading order -> caption."""
    cells = [place(i // columns, i % columns, rows, columns) for i in range(rows * columns)]
    openers = [OPENERS[rng.integers(len(OPENERS))] for _ in cells]
    kinds = [KINDS[rng.integers(len(KINDS))] for _ in cells]
    coloured = rng.random(len(cells)) < 0.7
    head = ("this picture shows {n} things", "a drawing with {n} things", "there are {n} things",
            "an image of {n} small drawings")[rng.integers(4)]  # fmt: skip
    head = head.format(n=len(cells)) + (f" on a {background} background" if background else "")

    def speak(described):
        sentences = [head]
        for (name, colour, kind), where, opener, tail, show in zip(
            described, cells, openers, kinds, coloured
        ):
            words = f"{colour} {name}" if colour and show and colour not in name else name
            text = opener.format(where=where, thing=article(words))
            sentences.append(text + (tail.format(kind=article(kind)) if kind else ""))
        return ". ".join(sentences) + "."

    return speak


def vocabulary(kept, encode):
    """The sorted ids of every token that can occur in a caption, start and end included."""
    rng = np.random.default_rng(0)
    texts = {text for thing in kept for text in (*thing.names, *thing.words, thing.kind)}
    texts |= {article(text)[:3] for text in texts} | set(PREFIXES)
    texts |= {filled(template, "dog") for template in SINGLE}
    texts |= {". ".join(OPENERS), ". ".join(KINDS), "0 1 2 3 4 5 6 7 8 9 10 11 12 , . ; ' - : ! ?"}
    texts |= {"transparent black grey gray white red orange yellow green blue purple pink brown"}
    texts |= {"light dark next to beside and with in on of the two three four"}
    for layouts in LAYOUTS.values():
        for rows, columns in layouts:
            for _ in range(60):
                cells, speak, _ = short_plan(rows, columns, rng)
                texts.add(speak(["dog"] * len(cells)))
                texts.add(long_plan(rows, columns, "red", rng)([("dog", "red", "animal")] * rows * columns))
    return sorted({49406, 49407} | {token for text in texts for token in encode(text)})
