#!/usr/bin/env python3
"""The image tower of RN50 in f32: ours compared with openai/CLIP's own network on PyTorch.

  resnet.py FOLDER --ours target/release/longclip --openai-clip PATH_OF_A_CHECKOUT_OF_CLIP

The checkpoint has RN50's real shape and random weights, which take the time of real ones. Each
program runs in a fresh process in every round, alternately, with `--threads` threads, on 1 and on
16 images. A ratio is theirs / ours: above 1 we are faster.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch

MODELS = {
    "RN50": dict(layers=(3, 4, 6, 3), width=64, image=224, embed=1024, text=512, text_layers=12),
    "RN101": dict(layers=(3, 4, 23, 3), width=64, image=224, embed=512, text=512, text_layers=12),
    "RN50x4": dict(layers=(4, 6, 10, 6), width=80, image=288, embed=640, text=640, text_layers=12),
}
BATCHES = (1, 16)
SECONDS = 3  # for each batch, after the first two calls


def network(name):
    from clip.model import CLIP

    sizes = MODELS[name]
    torch.manual_seed(0)
    return CLIP(
        embed_dim=sizes["embed"], image_resolution=sizes["image"], vision_layers=sizes["layers"],
        vision_width=sizes["width"], vision_patch_size=None, context_length=77, vocab_size=49408,
        transformer_width=sizes["text"], transformer_heads=sizes["text"] // 64,
        transformer_layers=sizes["text_layers"],
    ).eval()


def make(path, name):
    """A state dict with batch norms that preserve the scale, so that nothing overflows or vanishes."""
    state = network(name).state_dict()
    for key in state:
        if key.endswith(("bn3.weight", "downsample.1.weight")):
            # openai/CLIP starts the last gain of each block at 0.
            state[key] = torch.full_like(state[key], 0.5)
    torch.save(state, path)


def theirs(path, name, threads):
    """Medians of PyTorch in this process, in ms."""
    torch.set_num_threads(threads)
    model = network(name)
    model.load_state_dict(torch.load(path))
    size = MODELS[name]["image"]
    medians = {}
    with torch.inference_mode():
        for batch in BATCHES:
            pixels = torch.randn(batch, 3, size, size)
            for _ in range(2):
                model.encode_image(pixels)
            times, end = [], time.perf_counter() + SECONDS
            while time.perf_counter() < end or len(times) < 3:
                start = time.perf_counter()
                model.encode_image(pixels)
                times.append(time.perf_counter() - start)
            medians[batch] = 1000 * statistics.median(times)
    return medians


def ours(program, path, precision, threads):
    command = [program, "bench", "--model", path, "--precision", precision, "--threads", str(threads),
               "--format", "json", "--only", "images", "--quiet"]
    report = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {batch: report[f"image_b{batch}_ms"] for batch in BATCHES}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ours", required=True)
    parser.add_argument("--openai-clip", required=True)
    parser.add_argument("--model", choices=MODELS, default="RN50")
    parser.add_argument("--precision", default="f32", help="ours; theirs is f32")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peer", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    sys.path.insert(0, options.openai_clip)
    path = options.folder / f"{options.model}.pt"
    if options.peer:
        print(json.dumps(theirs(path, options.model, options.threads)))
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        make(path, options.model)
    peer = [sys.executable, __file__, *sys.argv[1:], "--peer"]
    rounds = []
    for _ in range(options.rounds):
        answer = subprocess.run(peer, check=True, capture_output=True, text=True).stdout
        torch_ms = {int(batch): ms for batch, ms in json.loads(answer).items()}
        rounds.append((ours(options.ours, path, options.precision, options.threads), torch_ms))
        print(rounds[-1], file=sys.stderr)
    for batch in BATCHES:
        us, them = (statistics.median(each[side][batch] for each in rounds) for side in (0, 1))
        print(f"{options.model} {batch:2} images: ours {options.precision} {us:.1f} ms, "
              f"PyTorch f32 {them:.1f} ms, ratio {them / us:.2f}")


if __name__ == "__main__":
    main()
