"""Evaluates a dataset with transformers and standard tools, and compares `longclip evaluate` with
the result.

    python tests/evaluate/reference.py --longclip target/release/longclip --model DIR

DIR is a CLIP checkpoint in Hugging Face's layout; its weights may be random. The images are drawn
here: six classes of shapes, and a caption for each. Towers, processor, class embeddings,
probabilities and metrics are the code of transformers, scikit-learn, torchmetrics and
CLIP_benchmark, none of it ours. Requires torch, transformers, scikit-learn, torchmetrics,
statsmodels and clip-benchmark.
"""

import argparse
import json
import pathlib
import random
import subprocess
import tempfile

import torch
from clip_benchmark.metrics.zeroshot_retrieval import batchify, recall_at_k
from PIL import Image, ImageDraw
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)
from statsmodels.stats.contingency_tables import mcnemar
from torchmetrics.classification import MulticlassCalibrationError
from transformers import CLIPModel, CLIPProcessor

SHAPES = ["red_square", "green_disc", "blue-triangle", "yellow_cross", "black_ring", "white_bar"]
COLOURS = [(210, 40, 40), (40, 170, 60), (50, 60, 210), (225, 205, 50), (20, 20, 20), (250, 250, 250)]
TEMPLATES = ["a photo of a {}.", "a drawing of the {} on paper.", "{}"]


def draw(shape: str, colour: tuple, seed: int) -> Image.Image:
    rng = random.Random(seed)
    size = rng.choice([(320, 240), (240, 240), (200, 300)])
    image = Image.new("RGB", size, tuple(rng.randrange(256) for _ in range(3)))
    pen = ImageDraw.Draw(image)
    for _ in range(40):
        x, y = rng.randrange(size[0]), rng.randrange(size[1])
        pen.line([x, y, x + rng.randrange(60), y + rng.randrange(60)], fill=tuple(rng.randrange(256) for _ in range(3)))
    r = rng.randrange(30, 70)
    x, y = rng.randrange(size[0] - 2 * r), rng.randrange(size[1] - 2 * r)
    box = [x, y, x + 2 * r, y + 2 * r]
    if "square" in shape:
        pen.rectangle(box, fill=colour)
    elif "disc" in shape:
        pen.ellipse(box, fill=colour)
    elif "triangle" in shape:
        pen.polygon([(x + r, y), (x, y + 2 * r), (x + 2 * r, y + 2 * r)], fill=colour)
    elif "cross" in shape:
        pen.rectangle([x + r - 8, y, x + r + 8, y + 2 * r], fill=colour)
        pen.rectangle([x, y + r - 8, x + 2 * r, y + r + 8], fill=colour)
    elif "ring" in shape:
        pen.ellipse(box, outline=colour, width=10)
    else:
        pen.rectangle([x, y + r - 12, x + 2 * r, y + r + 12], fill=colour)
    return image


def make(folder: pathlib.Path, each: int) -> list:
    paths = []
    for shape, colour in zip(SHAPES, COLOURS):
        (folder / shape).mkdir(parents=True)
        for number in range(each):
            path = folder / shape / f"{number:03}.png"
            draw(shape, colour, hash((number, len(shape), colour)) % 10**9).save(path)
            paths.append((path, shape))
    return sorted(paths)


def run(binary: str, *arguments: str) -> dict:
    done = subprocess.run([binary, "evaluate", "--precision", "f32", "--format", "json", *arguments],
                          check=True, capture_output=True, text=True)
    return json.loads(done.stdout)


def unit(rows):
    rows = getattr(rows, "pooler_output", rows)
    return rows / rows.norm(dim=-1, keepdim=True)


def report(name: str, ours, theirs, tolerance: float) -> bool:
    difference = abs(ours - theirs)
    print(f"{name:34} {ours:.8f} {theirs:.8f}  {difference:.1e}")
    return difference <= tolerance


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--longclip", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--each", type=int, default=20, help="images per class")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = CLIPModel.from_pretrained(arguments.model).eval()
    processor = CLIPProcessor.from_pretrained(arguments.model)
    fine = True
    with tempfile.TemporaryDirectory() as name, torch.no_grad():
        root = pathlib.Path(name)
        paths = make(root / "data", arguments.each)
        folders = sorted({shape for _, shape in paths})
        labels = [folder.replace("_", " ").replace("-", " ") for folder in folders]
        targets = torch.tensor([folders.index(shape) for _, shape in paths])

        images = [Image.open(path).convert("RGB") for path, _ in paths]
        image_rows = []
        for image in images:
            pixels = processor(images=image, return_tensors="pt")
            image_rows.append(unit(model.get_image_features(**pixels)))
        image_rows = torch.cat(image_rows)

        def texts(lines):
            tokens = processor(text=lines, return_tensors="pt", padding=True)
            return unit(model.get_text_features(**tokens))

        classes = torch.cat([unit(texts([t.format(label) for t in TEMPLATES]).mean(0, keepdim=True))
                             for label in labels])
        plain = texts(labels)
        scale = model.logit_scale.exp()
        probabilities = (scale * image_rows @ classes.T).softmax(-1)
        best = probabilities.argmax(-1)

        (root / "templates.txt").write_text("\n".join(TEMPLATES))
        ours = run(arguments.longclip, "--model", arguments.model, str(root / "data"),
                   "--templates", str(root / "templates.txt"), "--out", str(root / "out"))
        records = [json.loads(line) for line in open(root / "out/predictions.jsonl")]
        assert [record["image"] for record in records] == [str(path) for path, _ in paths]
        worst = 0.0
        for record, row in zip(records, probabilities):
            for prediction in record["predictions"]:
                worst = max(worst, abs(prediction["probability"] - row[labels.index(prediction["label"])].item()))
        fine &= report("largest difference of probabilities", worst, 0.0, 1e-4)
        fine &= report("acc1", ours["acc1"], accuracy_score(targets, best), 1e-9)
        fine &= report("acc5", ours["acc5"], top_k_accuracy_score(targets, probabilities, k=5), 1e-9)
        fine &= report("mean_per_class_recall", ours["mean_per_class_recall"],
                       balanced_accuracy_score(targets, best), 1e-9)
        ece = MulticlassCalibrationError(num_classes=len(labels), n_bins=15, norm="l1")(probabilities, targets)
        fine &= report("ece", ours["ece"], ece.item(), 1e-4)
        likelihood = torch.nn.functional.nll_loss(probabilities.log(), targets)
        fine &= report("nll", ours["nll"], likelihood.item(), 1e-3)
        precision, recall, f1, _ = precision_recall_fscore_support(targets, best, average="macro", zero_division=0)
        for key, theirs in [("precision", precision), ("recall", recall), ("f1", f1)]:
            fine &= report(f"macro {key}", ours["macro"][key], theirs, 1e-9)
        cells = [line.split(",")[1:] for line in open(root / "out/confusion.csv").read().splitlines()[1:]]
        fine &= (torch.tensor([[int(c) for c in row] for row in cells]).numpy()
                 == confusion_matrix(targets, best, labels=range(len(labels)))).all()

        compared = run(arguments.longclip, "--model", arguments.model, str(root / "data"),
                       "--compare", "none", str(root / "templates.txt"))
        first, second = (image_rows @ plain.T).argmax(-1) == targets, best == targets
        table = [[int((first & second).sum()), int((first & ~second).sum())],
                 [int((~first & second).sum()), int((~first & ~second).sum())]]
        fine &= report("McNemar p", compared["pairs"][0]["mcnemar_p"], mcnemar(table, exact=True).pvalue, 1e-9)

        captions = [f"{number} {shape.replace('_', ' ')} number {path.stem}" for number, (path, shape) in enumerate(paths)]
        captions += [f"another {caption}" for caption in captions[::2]]
        of_image = list(range(len(paths))) + list(range(0, len(paths), 2))
        with open(root / "captions.csv", "w") as file:
            file.write("path,caption\n")
            for image, caption in zip(of_image, captions):
                file.write(f"{paths[image][0]},{caption}\n")
        scores = texts(captions) @ image_rows.T
        pairs = torch.zeros_like(scores, dtype=torch.bool)
        pairs[torch.arange(len(captions)), torch.tensor(of_image)] = True
        found = run(arguments.longclip, "--model", arguments.model, str(root / "captions.csv"), "--task", "retrieval")
        for k in [1, 5, 10]:
            image = (batchify(recall_at_k, scores, pairs, 64, "cpu", k=k) > 0).float().mean().item()
            text = (batchify(recall_at_k, scores.T, pairs.T, 64, "cpu", k=k) > 0).float().mean().item()
            fine &= report(f"image_retrieval_recall@{k}", found[f"image_retrieval_recall@{k}"], image, 1e-6)
            fine &= report(f"text_retrieval_recall@{k}", found[f"text_retrieval_recall@{k}"], text, 1e-6)
    print("all agree" if fine else "THEY DO NOT AGREE")
    raise SystemExit(not fine)


if __name__ == "__main__":
    main()
