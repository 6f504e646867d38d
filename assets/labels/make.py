"""Writes the label sets in this folder and the template sets next to it.

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

# Two pairs of ImageNet classes share a name in CLIP's list. The second of each pair is shown
# with another of its WordNet words; the model gets the name as published.
SHOWN = {"n04008634": "missile (projectile)", "n04356056": "sunglasses (dark glasses)"}

# The data sets' own class names, in the order of CLIP's labels: their folder names or class
# numbers. SOURCE.md gives the sources. Names that differ from the labels only in case and
# separators need no key.
KEYS = {
    "caltech101": """
        BACKGROUND_Google Faces Faces_easy Leopards Motorbikes accordion airplanes anchor ant barrel bass
        beaver binocular bonsai brain brontosaurus buddha butterfly camera cannon car_side ceiling_fan
        cellphone chair chandelier cougar_body cougar_face crab crayfish crocodile crocodile_head cup
        dalmatian dollar_bill dolphin dragonfly electric_guitar elephant emu euphonium ewer ferry flamingo
        flamingo_head garfield gerenuk gramophone grand_piano hawksbill headphone hedgehog helicopter ibis
        inline_skate joshua_tree kangaroo ketch lamp laptop llama lobster lotus mandolin mayfly menorah
        metronome minaret nautilus octopus okapi pagoda panda pigeon pizza platypus pyramid revolver rhino
        rooster saxophone schooner scissors scorpion sea_horse snoopy soccer_ball stapler starfish
        stegosaurus stop_sign strawberry sunflower tick trilobite umbrella watch water_lilly wheelchair
        wild_cat windsor_chair wrench yin_yang""".split(),
    "country211": """
        AD AE AF AG AI AL AM AO AQ AR AT AU AW AX AZ BA BB BD BE BF BG BH BJ BM BN BO BQ BR BS BT BW BY BZ
        CA CD CF CH CI CK CL CM CN CO CR CU CV CW CY CZ DE DK DM DO DZ EC EE EG ES ET FI FJ FK FO FR GA GB
        GD GE GF GG GH GI GL GM GP GR GS GT GU GY HK HN HR HT HU ID IE IL IM IN IQ IR IS IT JE JM JO JP KE
        KG KH KN KP KR KW KY KZ LA LB LC LI LK LR LT LU LV LY MA MC MD ME MF MG MK ML MM MN MO MQ MR MT MU
        MV MW MX MY MZ NA NC NG NI NL NO NP NZ OM PA PE PF PG PH PK PL PR PS PT PW PY QA RE RO RS RU RW SA
        SB SC SD SE SG SH SI SJ SK SL SM SN SO SS SV SX SY SZ TG TH TJ TL TM TN TO TR TT TW TZ UA UG US UY
        UZ VA VE VG VI VN VU WS XK YE ZA ZM ZW""".split(),
    "eurosat": """
        Forest PermanentCrop Residential River Pasture SeaLake HerbaceousVegetation AnnualCrop Industrial
        Highway""".split(),
    "fer2013": "angry disgust fear happy sad surprise neutral".split(),
    "flowers102": [str(number) for number in range(1, 103)],
    "gtsrb": [f"{number:05}" for number in range(43)],
    "pcam": ["0", "1"],
}


def ucf101(label):
    """The folders join the labels' words; one differs in capitalisation."""
    return {"Hand Stand Pushups": "HandstandPushups"}.get(label, label.replace(" ", ""))


def lists(block):
    """The lists assigned in a code block, by name."""
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
        name = NAMES[heading]
        keys = KEYS.get(name) or [ucf101(names[0]) for names in classes if name == "ucf101"]
        if keys:
            assert len(set(keys)) == len(keys) == len(rows), name
            header = ["key", *header]
            rows = [[key, *row] for key, row in zip(keys, rows)]
        write_labels(name, header, rows)
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
    # Their folders, sorted, are in the order of CLIP's labels.
    assert all(KEYS[name] == sorted(KEYS[name]) for name in ["caltech101", "country211"])
    data_sets(Path(sys.argv[1]))
    imagenet(Path(sys.argv[1]), Path(sys.argv[2]))
