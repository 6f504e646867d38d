#!/usr/bin/env python3
"""One check of the CUDA build that takes ten minutes on a machine with a GPU.

  check.py FOLDER --ours PROGRAM                  on the GPU
  check.py FOLDER --ours PROGRAM --device cpu     the same with tiny networks, to test this script

It has never run on a GPU: none could be had so far. Only --device cpu was run.

PROGRAM is built beforehand, with a CUDA toolkit but without a GPU, for the card's compute
capability (80: A100, 90: H100 and H200): `CUDA_COMPUTE_CAP=90 cargo build --release --features
cuda`. The machine needs Python with numpy, pillow, torch, transformers and safetensors; CUDA's
libraries are also looked for in Python's packages. Nothing is downloaded: checkpoints, images and
texts are made from seeds.

For each model and precision: `bench`; embeddings of 1,000 images and 100 labels; agreement with our
f32 on the CPU (cosine at least 0.9995, the same best label unless two are as good); texts with
several end-of-text tokens and of many lengths; PyTorch with torch.compile on the same card and
pixels; one training step against the CPU's loss. FOLDER/result.json is written after each part.
Parts that would start after --limit are skipped and listed; the status is 1 if one failed or
disagreed.
"""

import argparse
import glob
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import material
from peers import median_ms

LEAST_COSINE = 0.9995
#: A best label other than the CPU's must be within this of its cosine: random networks have ties.
MOST_BEHIND = {"f32": 1e-4, "f16": 2e-3, "bf16": 2e-3}
#: The losses of a training step may differ by this much, relatively: a GPU multiplies in bf16.
MOST_LOSS = 0.01
TINY = material.Shape((128, 2, 2, 32), (128, 2, 2, 77), 64)
SETTINGS = {
    "cuda": dict(
        models={name: material.MODELS[name] for name in ("longclip-b16", "l14")},
        precisions=["f32", "f16", "bf16"], images=1000, labels=100, checked=100, batches=[1, 16, 64],
    ),
    "cpu": dict(
        models={"tiny": TINY}, precisions=["f32", "bf16"], images=20, labels=10, checked=20, batches=[1, 4],
    ),
}


class Check:
    def __init__(self, options):
        self.options, self.folder = options, options.folder
        self.settings = SETTINGS[options.device]
        self.start = time.monotonic()
        self.result = {"device": options.device, "verdicts": {}}
        libraries = glob.glob(str(Path(np.__file__).parent.parent / "nvidia" / "**" / "lib"), recursive=True)
        path = os.environ.get("LD_LIBRARY_PATH", "")
        self.environment = dict(os.environ, LD_LIBRARY_PATH=":".join([*libraries, path]).strip(":"))

    def part(self, name, call):
        """Runs one part, keeps what it returns and goes on after a failure."""
        begin = time.monotonic()
        if begin - self.start > self.options.limit:
            self.result[name] = "skipped: out of time"
            self.result["verdicts"][name] = False
        else:
            try:
                self.result[name] = call()
            except Exception:
                self.result[name] = traceback.format_exc()[-2000:]
                self.result["verdicts"][name] = False
        print(f"{name}, {time.monotonic() - begin:.1f} s: {self.result[name]}", flush=True)
        (self.folder / "result.json").write_text(json.dumps(self.result, indent=1) + "\n")

    def ours(self, *arguments):
        """-> stdout and seconds."""
        begin = time.perf_counter()
        done = subprocess.run(
            [self.options.ours, *map(str, arguments), "--quiet"], capture_output=True, text=True, env=self.environment
        )
        if done.returncode != 0:
            raise RuntimeError(f"{arguments}: status {done.returncode}: {done.stderr[-600:]}")
        return done.stdout, time.perf_counter() - begin

    def embed(self, name, device, precision, *what):
        """-> unit embeddings and seconds from start to end."""
        out = self.folder / f"{name}-{what[-1].name}-{device}-{precision}.npy"
        out.unlink(missing_ok=True)
        model = ["--model", self.folder / name, "--device", device, "--precision", precision]
        _, seconds = self.ours("embed", *what, *model, "-o", out)
        return np.load(out), seconds

    # ------------------------------------------------------------------------------- material

    def make(self):
        settings = self.settings
        for name, shape in settings["models"].items():
            material.make_network(self.folder / name, shape)
        # Images of the models' own size in PNG: nothing is resized, and all decoders agree.
        for folder, count in (("images", settings["images"]), ("checked", settings["checked"])):
            (self.folder / folder).mkdir(exist_ok=True)
            for number in range(count):
                pixels_of(number).save(self.folder / folder / f"{number:05}.png", compress_level=1)
        texts = {
            "labels.txt": material.labels(settings["labels"]),
            # Lengths from 3 to 33 tokens, and end-of-text in the middle, which CLIP's tokenizer
            # reads as the token: the first of several counts.
            "ends.txt": [" ".join(material.NOUNS[:count]) for count in range(1, len(material.NOUNS), 3)]
            + [f"a photo of a {noun} <|endoftext|> on a table <|endoftext|>" for noun in material.NOUNS[:8]],
        }
        for name, lines in texts.items():
            (self.folder / name).write_text("\n".join(lines) + "\n")
        pairs = [
            json.dumps({"image": f"{number:05}.png", "caption": f"{label}. Nothing else is there."})
            for number, label in enumerate(material.labels(8))
        ]
        (self.folder / "checked" / "pairs.jsonl").write_text("\n".join(pairs) + "\n")
        return {"seconds": round(time.monotonic() - self.start, 1)}

    # ------------------------------------------------------------------------------ our program

    def bench(self, name, precision):
        model = ["--model", self.folder / name, "--device", self.options.device, "--precision", precision]
        labels = ["--labels-file", self.folder / "labels.txt"]
        out, _ = self.ours("bench", *model, *labels, "--only", "images,texts", "--format", "json")
        return {key: value for key, value in json.loads(out).items() if value is not None}

    def agreement(self, name, precision):
        """Our embeddings on the device against ours in f32 on the CPU."""
        images, labels, ends = (self.folder / part for part in ("images", "labels.txt", "ends.txt"))
        device = self.options.device
        found, seconds = self.embed(name, device, precision, images)
        found_labels, _ = self.embed(name, device, precision, "--texts", labels)
        found_ends, _ = self.embed(name, device, precision, "--texts", ends)
        expected, _ = self.embed(name, "cpu", "f32", self.folder / "checked")
        expected_labels, _ = self.embed(name, "cpu", "f32", "--texts", labels)
        expected_ends, _ = self.embed(name, "cpu", "f32", "--texts", ends)
        cosines = {
            "images": least_cosine(found[: len(expected)], expected),
            "labels": least_cosine(found_labels, expected_labels),
            "ends": least_cosine(found_ends, expected_ends),
        }
        best = (found[: len(expected)] @ found_labels.T).argmax(1)
        reference = expected @ expected_labels.T
        behind = reference.max(1) - np.take_along_axis(reference, best[:, None], 1)[:, 0]
        same = bool(behind.max() <= MOST_BEHIND[precision])
        self.result["verdicts"][f"agreement {name} {precision}"] = same and min(cosines.values()) >= LEAST_COSINE
        return {
            "least_cosine": cosines, "same_best_label": float((best == reference.argmax(1)).mean()),
            "same_but_for_ties": same, "images_per_s_whole_process": len(found) / seconds,
        }

    # ---------------------------------------------------------------------------------- PyTorch

    def pytorch(self, name, precision):
        """PyTorch's image tower, plain and compiled, on the same pixels."""
        import torch
        from transformers import CLIPModel

        device = self.options.device
        dtype = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}[precision]
        model = CLIPModel.from_pretrained(self.folder / name, dtype=dtype, attn_implementation="sdpa")
        model = model.eval().to(device)

        def tower(pixels):
            return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)

        def wait():
            if device == "cuda":
                torch.cuda.synchronize()

        raw = np.stack([np.asarray(pixels_of(number)) for number in range(self.settings["images"])])
        values = (raw.astype(np.float32) / 255 - np.float32(material.MEAN)) / np.float32(material.STD)
        pixels = torch.from_numpy(values.transpose(0, 3, 1, 2).copy()).to(device, dtype)
        report = {}
        with torch.inference_mode():
            for way, run in (("eager", tower), ("compiled", torch.compile(tower))):
                for batch in self.settings["batches"]:
                    some = pixels[:batch]
                    report[f"{way}_b{batch}_ms"] = median_ms(lambda: (run(some), wait()), 1.0)  # noqa: B023
                most = self.settings["batches"][-1]
                begin = time.perf_counter()
                parts = [run(pixels[at : at + most]) for at in range(0, len(pixels) // most * most, most)]
                wait()
                report[f"{way}_images_per_s"] = len(parts) * most / (time.perf_counter() - begin)
        embeddings = torch.cat(parts).float().cpu().numpy()
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        path = self.folder / f"{name}-images-{device}-{precision}.npy"
        if path.exists():
            cosine = least_cosine(np.load(path)[: len(embeddings)], embeddings)
            report["least_cosine_to_ours"] = cosine
            self.result["verdicts"][f"pytorch {name} {precision}"] = cosine >= LEAST_COSINE
        return report

    # --------------------------------------------------------------------------------- training

    def training(self, name):
        """One step over eight pairs: the loss here and on the CPU."""
        losses, times = {}, {}
        for device in dict.fromkeys([self.options.device, "cpu"]):
            out = self.folder / f"run-{name}-{device}"
            subprocess.run(["rm", "-rf", out], check=True)
            _, times[device] = self.ours(
                "finetune", self.folder / "checked" / "pairs.jsonl", "--model", self.folder / name, "--device", device,
                "--steps", 1, "--batch-size", 8, "--loss", "clip", "--out", out,
            )
            steps = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
            (losses[device],) = [step["loss"] for step in steps if "loss" in step]
        apart = abs(losses[self.options.device] - losses["cpu"]) / abs(losses["cpu"])
        self.result["verdicts"][f"training {name}"] = bool(apart <= MOST_LOSS)
        return {"loss": losses, "process_seconds": times}


def pixels_of(number):
    """Image `number`: shades, 224 x 224."""
    from PIL import Image

    draw = np.random.default_rng(number)
    shades = Image.fromarray(draw.integers(0, 256, (9, 9, 3), np.uint8))
    return shades.resize((material.IMAGE_SIZE, material.IMAGE_SIZE), Image.Resampling.BICUBIC)


def least_cosine(ours, theirs):
    return float((ours.astype(np.float64) * theirs).sum(1).min())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ours", required=True, help="the program, built with the feature cuda")
    parser.add_argument("--device", choices=SETTINGS, default="cuda")
    parser.add_argument("--limit", type=float, default=420, help="seconds after which no part starts")
    options = parser.parse_args()
    options.ours = str(Path(options.ours).resolve())
    options.folder.mkdir(parents=True, exist_ok=True)
    check = Check(options)
    check.part("material", check.make)
    # First what only this machine can say, for all models; PyTorch compiles for long.
    for kind in ("bench", "agreement"):
        for name in check.settings["models"]:
            for precision in check.settings["precisions"]:
                part = f"{kind} {name} {precision}"
                check.part(part, lambda: getattr(check, kind)(name, precision))  # noqa: B023
    first = next(iter(check.settings["models"]))
    check.part(f"training {first}", lambda: check.training(first))
    for name in check.settings["models"]:
        for precision in check.settings["precisions"]:
            check.part(f"pytorch {name} {precision}", lambda: check.pytorch(name, precision))  # noqa: B023
    verdicts = check.result["verdicts"]
    print("\n".join(f"{'ok  ' if good else 'FAIL'} {name}" for name, good in verdicts.items()))
    sys.exit(0 if all(verdicts.values()) else 1)


if __name__ == "__main__":
    main()
