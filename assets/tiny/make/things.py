"""The things that the model is trained on: their names, kinds and groups, from emojibase (MIT; CLDR)."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

# emojibase's groups. The model is meant for, and scored on, the five everyday ones.
EVERYDAY = (3, 4, 5, 6, 7)  # animals and nature, food, travel, activities, objects
COMPONENT, FLAGS = 2, 9

# The word for a thing's kind in a long caption: "the fox is an animal".
KINDS = {
    "animal-mammal": "animal", "animal-bird": "bird", "animal-amphibian": "animal",
    "animal-reptile": "reptile", "animal-marine": "sea animal", "animal-bug": "small creature",
    "plant-flower": "flower", "plant-other": "plant", "food-fruit": "fruit",
    "food-vegetable": "vegetable", "food-prepared": "dish", "food-asian": "dish",
    "food-marine": "sea food", "food-sweet": "sweet", "drink": "drink", "dishware": "tableware",
    "place-map": "map", "place-geographic": "place", "place-building": "building",
    "place-religious": "building", "place-other": "place", "transport-ground": "vehicle",
    "transport-water": "ship", "transport-air": "flying thing", "hotel": "hotel thing",
    "time": "clock", "sky-weather": "weather sign", "event": "festive thing",
    "award-medal": "prize", "sport": "sports thing", "game": "game", "arts-crafts": "art thing",
    "clothing": "piece of clothing", "sound": "sound maker", "music": "music thing",
    "musical-instrument": "musical instrument", "phone": "phone", "computer": "computer part",
    "light-video": "lamp or camera", "book-paper": "paper thing", "money": "money thing",
    "mail": "mail thing", "writing": "writing tool", "office": "office thing", "lock": "lock",
    "tool": "tool", "science": "science thing", "medical": "medical thing",
    "household": "household thing", "other-object": "object",
}  # fmt: skip

# Drawings that mean something else if mirrored.
DIRECTED = re.compile(r"\b(left|right|leftwards|rightwards|oncoming|clockwise|input|button|mark)\b")


@dataclass(frozen=True)
class Thing:
    """One thing: `names[0]` is CLDR's label, the others are short names of other projects."""

    code: str
    names: tuple
    words: tuple  # CLDR's keywords
    group: int
    kind: str
    directed: bool

    @property
    def label(self):
        return self.names[0]

    @property
    def everyday(self):
        return self.group in EVERYDAY


def load(work):
    """The things used, in emojibase's order.

    Dropped: flags, skin tones, key caps, gendered variants and joined emoji,
    except animals and food, where joined ones are separate things (polar bear, lime).
    """
    source = Path(work) / "npm" / "emojibase-data" / "en"
    subgroups = json.loads((source / "messages.json").read_text())["subgroups"]
    kinds = {}
    for subgroup in subgroups:
        kinds.setdefault(subgroup["order"], subgroup["key"])
    shortcodes = [
        json.loads((source / "shortcodes" / f"{name}.json").read_text())
        for name in ("emojibase", "iamcal", "github")
    ]
    kept = []
    for entry in json.loads((source / "data.json").read_text()):
        group, code = entry.get("group"), entry["hexcode"]
        if group is None or group in (COMPONENT, FLAGS) or "gender" in entry:
            continue
        if "keycap" in entry["label"] or ("200D" in code and group not in (3, 4)):
            continue
        kind = kinds[entry["subgroup"]]
        names = names_of(entry["label"], [table.get(code, []) for table in shortcodes])
        words = tuple(clean(word) for word in entry.get("tags", []))
        directed = bool(DIRECTED.search(names[0])) or group == 8 or kind == "time"
        kept.append(Thing(code, names, words, group, KINDS.get(kind, "sign"), directed))
    return kept


def names_of(label, shortcodes):
    """The label and every short name that consists of whole words, without duplicates."""
    names = [clean(label)]
    for codes in shortcodes:
        for code in [codes] if isinstance(codes, str) else codes:
            name = clean(code)
            # Codes such as "clock530" and "ng" are not English.
            if len(name) > 2 and not re.search(r"\d", name) and name not in names:
                names.append(name)
    return tuple(names)


def clean(text):
    """Lower case, plain quotes, spaces for underscores; CLIP lower-cases every text."""
    text = text.lower().replace("\u2019", "'").replace("\u201c", "").replace("\u201d", "")
    return re.sub(r"[_\s]+", " ", text).strip()


def key(name):
    """A name with everything but letters and digits removed, for matching between sets."""
    return re.sub(r"[^a-z0-9]", "", name.lower())
