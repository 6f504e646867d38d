"""A training step compared with PyTorch on the same CPU, alternately in one run.

    cargo build --release --example train_step
    python training.py --example target/release/examples/train_step --long-clip LONGCLIP \
        --model MODEL [--batch 8]

MODEL is a Long-CLIP checkpoint (`.pt` state dict). PyTorch runs Long-CLIP's own network (a checkout
of its repository) in f32 with CLIP's loss over full contexts of 248 tokens, AdamW over all
parameters, as many threads as cores. Prints each side's seconds per step (minimum and median of
--steps after one warm-up), memory, and the ratio.
"""

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path


def ours(args, tokens):
    command = [args.example, args.model, str(args.batch), str(tokens), str(args.steps + 1)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [json.loads(line) for line in out.splitlines()]
    return [line["seconds"] for line in lines[1:-1]], int(lines[-1]["memory"].split()[1]) / 1024


def theirs(args, tokens):
    """In a separate process, so that memory is PyTorch's alone."""
    command = [sys.executable, __file__, *sys.argv[1:], "--child", str(tokens)]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = json.loads(out.splitlines()[-1])
    return found["seconds"], found["memory"]


def child(args):
    import torch

    torch.set_num_threads(os.cpu_count())
    spec = importlib.util.spec_from_file_location("model_longclip", args.long_clip / "model/model_longclip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    state = torch.load(args.model, map_location="cpu", weights_only=True)
    model = module.build_model(dict(state), load_from_clip=False).float()
    model.positional_embedding.requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-6, weight_decay=1e-2)
    size = model.visual.input_resolution
    pixels = torch.randn(args.batch, 3, size, size)
    ids = torch.zeros(args.batch, 248, dtype=torch.long)
    ids[:, : args.child] = torch.randint(1, 40000, (args.batch, args.child))
    ids[:, args.child - 1] = 49407
    targets = torch.arange(args.batch)
    seconds = []
    for _ in range(args.steps + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        images = torch.nn.functional.normalize(model.encode_image(pixels))
        texts = torch.nn.functional.normalize(model.encode_text(ids))
        logits = model.logit_scale.exp() * images @ texts.T
        entropy = torch.nn.functional.cross_entropy
        loss = entropy(logits, targets, label_smoothing=0.1) + entropy(logits.T, targets, label_smoothing=0.1)
        (loss / 2).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": seconds[1:], "memory": memory}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--example", required=True)
    parser.add_argument("--long-clip", required=True, type=Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--child", type=int)
    args = parser.parse_args()
    if args.child:
        return child(args)
    for tokens in (248, 120):
        sides = {"longclip": ([], 0), "pytorch": ([], 0)}
        for _ in range(args.rounds):
            for name, side in [("longclip", ours), ("pytorch", theirs)]:
                seconds, memory = side(args, tokens)
                old, most = sides[name]
                sides[name] = (old + seconds, max(most, memory))
        for name, (seconds, memory) in sides.items():
            print(
                f"captions of {tokens} tokens, batch {args.batch}: {name} {min(seconds):.2f} s minimum, "
                f"{statistics.median(seconds):.2f} s median, {memory:.0f} MiB"
            )
        medians = [statistics.median(sides[name][0]) for name in ("longclip", "pytorch")]
        print(f"longclip takes {medians[0] / medians[1]:.2f} of PyTorch's time")


if __name__ == "__main__":
    main()
