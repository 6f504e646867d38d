"""Full-size checkpoints with random weights, and a comparison of the built program with PyTorch on them.

    python full_size.py make DIR                      # 1.8 GB for longclip-b, 5.1 GB for longclip-l
    python full_size.py expect DIR IMAGE                  # DIR/<model>.expected.json
    python full_size.py compare DIR PROGRAM [--arguments ...]

Random weights give random answers, but the time and the arithmetic are those of the real model.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import checkpoints

# name: (case, (vision width, vision layers, text width, text layers))
MODELS = {
    "longclip-b": (checkpoints.Case("longclip-b", "longclip-b", 16, 14, 248, 512, "quick_gelu", 4.6052, 2), (768, 12, 512, 12)),
    "longclip-l": (checkpoints.Case("longclip-l", "longclip-l", 14, 16, 248, 768, "quick_gelu", 4.6052, 2), (1024, 24, 768, 12)),
}
LAYOUTS = {"long-clip": "{}.pt", "openai": "{}.safetensors", "hugging-face": "{}-hf"}
NOUNS = ["cat", "dog", "car", "tree", "house", "boat", "plane", "horse", "lamp", "chair"]
ADJECTIVES = ["red", "green", "blue", "old", "small", "large", "wooden", "wet", "bright", "broken"]
LABELS = [f"a photo of a {adjective} {noun}" for adjective in ADJECTIVES for noun in NOUNS]
COUNTS = (2, 100)


def make(options):
    from collections import OrderedDict

    import torch
    from safetensors.torch import save_file

    checkpoints.SIGNIFICANT.update(short=24, long=24)
    options.folder.mkdir(parents=True, exist_ok=True)
    for name in options.models:
        case = model_case(name)
        state = checkpoints.openai_state(case, list(range(checkpoints.VOCABULARY)))
        torch.save(OrderedDict(state), options.folder / f"{name}.pt")
        folded = {key: tensor.contiguous() for key, tensor in checkpoints.folded(state).items()}
        save_file(folded, options.folder / f"{name}.safetensors")
        write_hugging_face(case, folded, options.folder / f"{name}-hf")
        print(name, sum(tensor.numel() for tensor in state.values()), "parameters")


def model_case(name):
    case, shape = MODELS[name]
    checkpoints.BLOCKS[name] = shape
    return case


def write_hugging_face(case, state, folder):
    from safetensors.torch import save_file
    from transformers import CLIPConfig

    folder.mkdir(exist_ok=True)
    CLIPConfig(**checkpoints.hugging_face_config(case)).save_pretrained(folder)
    save_file(checkpoints.hugging_face_state(state), folder / "model.safetensors", metadata={"format": "pt"})


def preprocess(path, size):
    """Orientation, alpha over white, RGB, resize, crop: [1, 3, size, size]."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    short, long = sorted(image.size)
    sides = (size, int(size * long / short))
    image = image.resize(sides if image.width <= image.height else sides[::-1], Image.Resampling.BICUBIC)
    # Python rounds halves to even, as torchvision does.
    left, top = round((image.width - size) / 2.0), round((image.height - size) / 2.0)
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), dtype=np.float32) / np.float32(255)
    mean = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
    std = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)
    return torch.from_numpy((pixels - mean) / std).permute(2, 0, 1).unsqueeze(0).contiguous()


def token_ids(texts, context):
    import torch
    from open_clip.tokenizer import SimpleTokenizer

    encode = SimpleTokenizer().encode
    rows = [[49406, *encode(text), 49407] for text in texts]
    return torch.tensor([row + [0] * (context - len(row)) for row in rows])


def expect(options):
    import torch

    import networks

    for name in options.models:
        case = model_case(name)
        state = torch.load(options.folder / f"{name}.pt", mmap=True)
        pixels, ids = preprocess(options.image, case.image_size), token_ids(LABELS, case.context)
        # Padding after a text's end cannot affect it, so it is removed for speed.
        ids = ids[:, : int(ids.argmax(-1).max()) + 1]
        image, texts = networks.hugging_face(case, state, pixels, ids)
        cosines = (image @ texts.T)[0]
        logits = math.exp(float(state["logit_scale"])) * cosines
        result = {
            "image": str(options.image.resolve()),
            "labels": LABELS,
            "cosines": cosines.tolist(),
            "probabilities": {str(n): logits[:n].softmax(-1).tolist() for n in COUNTS},
        }
        (options.folder / f"{name}.expected.json").write_text(json.dumps(result) + "\n")
        print(name, "cosines", float(cosines.min()), "to", float(cosines.max()))


def forget(path):
    """Asks the kernel to drop a file from its cache, as far as possible."""
    for file in path.rglob("*") if path.is_dir() else [path]:
        if file.is_file():
            descriptor = os.open(file, os.O_RDONLY)
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(descriptor)


def watch_memory(pid, peak):
    """Tracks the peak anonymous memory of a process: excludes mapped weights, includes copies of them."""
    while True:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        lines = [line for line in status.splitlines() if line.startswith("RssAnon")]
        if not lines:
            return
        peak[0] = max(peak[0], int(lines[0].split()[1]) / 1024)
        time.sleep(0.003)


def measure(command):
    """Runs a command: (stdout, seconds, peak anonymous MiB, CPU seconds)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peak = [0.0]
    watcher = threading.Thread(target=watch_memory, args=(process.pid, peak))
    watcher.start()
    stdout, stderr = process.communicate()
    seconds = time.perf_counter() - start
    watcher.join()
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} ended with {process.returncode}:\n{stderr.decode()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return stdout, seconds, peak[0], used


def compare(options):
    for name in options.models:
        expected = json.loads((options.folder / f"{name}.expected.json").read_text())
        for layout in options.layouts:
            path = options.folder / LAYOUTS[layout].format(name)
            for count in COUNTS:
                print(json.dumps({"model": name, "layout": layout, "labels": count} | answer(options, path, expected, count)))


def answer(options, path, expected, count):
    """One checkpoint and number of labels: a cold run, then warm ones."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as labels:
        labels.write("".join(label + "\n" for label in expected["labels"][:count]))
        labels.flush()
        command = [options.program, "classify", expected["image"], "--labels-file", labels.name, "--model", path]
        command += ["--device", "cpu", "--precision", "f32", "--format", "json", *options.arguments]
        forget(path)
        stdout, cold, memory, _ = measure(command)
        warm = [measure(command) for _ in range(options.rounds)]
    (record,) = json.loads(stdout)
    found = {entry["label"]: entry for entry in record["predictions"]}
    probabilities = expected["probabilities"][str(count)]
    pairs = list(zip(expected["labels"], probabilities, expected["cosines"]))
    assert len(found) == count, f"{len(found)} predictions for {count} labels"
    return {
        "probability_difference": max(abs(found[label]["probability"] - p) for label, p, _ in pairs),
        "cosine_difference": max(abs(found[label]["cosine"] - cosine) for label, _, cosine in pairs),
        "cold_seconds": round(cold, 3),
        "warm_seconds": round(min(run[1] for run in warm), 3),
        "warm_cpu_seconds": round(min(run[3] for run in warm), 3),
        "anonymous_mib": round(max([memory, *(run[2] for run in warm)])),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for command in (make, expect, compare):
        sub = commands.add_parser(command.__name__)
        sub.set_defaults(run=command)
        sub.add_argument("folder", type=Path)
        if command is expect:
            sub.add_argument("image", type=Path)
        if command is compare:
            sub.add_argument("program")
            sub.add_argument("--layouts", nargs="+", choices=LAYOUTS, default=list(LAYOUTS))
            sub.add_argument("--rounds", type=int, default=3)
            sub.add_argument("--arguments", nargs=argparse.REMAINDER, default=[], help="more arguments for the program")
        sub.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    options.run(options)


if __name__ == "__main__":
    main()
