"""Writes the label sets of this folder and the template sets beside it.

    python make.py CLIP_CHECKOUT IMAGENET_SYNSETS

CLIP_CHECKOUT is openai/CLIP at the commit that SOURCE.md names, IMAGENET_SYNSETS the file
timm/data/_info/imagenet_synsets.txt of the release named there.
"""

import ast
import csv
import json
import re
import sys
from pathlib import Path

LABELS = Path(__file__).resolve().parent
TEMPLATES = LABELS.parent / "templates"

# Our names for the headings of data/prompts.md.
NAMES = {
    "Birdsnap": "birdsnap",
    "CIFAR10": "cifar10",
    "CIFAR100": "cifar100",
    "CLEVRCounts": "clevr",
    "Caltech101": "caltech101",
    "Country211": "country211",
    "DescribableTextures": "dtd",
    "EuroSAT": "eurosat",
    "FGVCAircraft": "aircraft",
    "FacialEmotionRecognition2013": "fer2013",
    "Flowers102": "flowers102",
    "Food101": "food101",
    "GTSRB": "gtsrb",
    "HatefulMemes": "hateful-memes",
    "KITTI": "kitti",
    "Kinetics700": "kinetics700",
    "MNIST": "mnist",
    "OxfordPets": "pets",
    "PascalVOC2007": "voc2007",
    "PatchCamelyon": "pcam",
    "RESISC45": "resisc45",
    "SST2": "sst2",
    "STL10": "stl10",
    "SUN397": "sun397",
    "StanfordCars": "cars",
    "UCF101": "ucf101",
}

# Two pairs of ImageNet's classes have one name each in CLIP's list. The second of a pair is shown
# with another of its WordNet words; the model reads the name as published.
SHOWN = {"n04008634": "missile (projectile)", "n04356056": "sunglasses (dark glasses)"}


def lists(block):
    """The lists that a code block assigns, by name."""
    return {
        statement.targets[0].id: ast.literal_eval(statement.value)
        for statement in ast.parse(block).body
        if isinstance(statement, ast.Assign)
    }


def write_labels(name, header, rows):
    with open(LABELS / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])


def data_sets(checkout):
    text = (checkout / "data/prompts.md").read_text(encoding="utf-8")
    found = re.findall(r"^## (\S+)\n+```bash\n(.*?)^```", text, re.S | re.M)
    assert sorted(heading for heading, _ in found) == sorted(NAMES)
    for heading, block in found:
        block = lists(block)
        classes = [[c] if isinstance(c, str) else c for c in block["classes"]]
        width = max(map(len, classes))
        header = ["label"] + ["alias"] * (width - 1)
        rows = [names + [""] * (width - len(names)) for names in classes]
        write_labels(NAMES[heading], header, rows)
        path = TEMPLATES / f"{NAMES[heading]}.txt"
        path.write_text("\n".join(block["templates"]) + "\n", encoding="utf-8")


def imagenet(checkout, synsets):
    path = checkout / "notebooks/Prompt_Engineering_for_ImageNet.ipynb"
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells]
    source = next(source for source in sources if source.startswith("imagenet_classes"))
    names = lists(source)["imagenet_classes"]
    ids = synsets.read_text(encoding="utf-8").split()
    assert len(names) == len(ids) == 1000 and ids == sorted(ids)
    rows = [(key, SHOWN.get(key, name), name if key in SHOWN else "") for key, name in zip(ids, names)]
    assert len({label for _, label, _ in rows}) == 1000
    write_labels("imagenet", ["key", "label", "text"], rows)


if __name__ == "__main__":
    data_sets(Path(sys.argv[1]))
    imagenet(Path(sys.argv[1]), Path(sys.argv[2]))
