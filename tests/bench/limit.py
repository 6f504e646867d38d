#!/usr/bin/env python3
"""Compares the image tower's time with the limit of the processor.

  limit.py runs/*.json

The minimum time is the arithmetic of all required matrix products, at the rate of its precision on
one core of an AMD EPYC (Zen 5) at 4 GHz: 258 GFLOP/s in f32, 510 in bf16, 1000 in int8 (peak.c
measures f32). Of runs without AVX-512 (compare.py --isa) only f32 is compared, with the 133
GFLOP/s of 256-bit FMAs. Prints measured time x processors / minimum time.
"""

import json
import sys

import material

RATES = {"f32": 258.0, "bf16": 510.0, "int8": 1000.0}
NARROW_F32 = 133.0


def precision_of(mode, part, layer, layers):
    """The precision table of src/model/device.rs."""
    attention = part in ("qkv", "out")
    narrow = "f32" if layer == 0 and attention else "bf16"
    if mode == "f32":
        return "f32"
    if mode == "bf16":
        return narrow
    if mode == "int8":
        return "int8" if layer * 3 >= layers * (2 if part == "qkv" else 1) else narrow
    return "bf16" if layer == 0 and attention else "int8"


def least_ms(mode, shape):
    """The minimum time of one image on one core."""
    width, layers, _, patch = shape.vision
    patches = (shape.image // patch) ** 2
    tokens = patches + 1
    edges = "f32" if mode == "f32" else "bf16"
    work = {name: 0.0 for name in RATES}
    work[edges] += 2 * patches * 3 * patch * patch * width + 2 * width * shape.embed
    for layer in range(layers):
        # The last layer needs only keys and values of every row.
        rows = tokens if layer < layers - 1 else 1
        sizes = {"qkv": width * width * (2 * tokens + rows), "out": width * width * rows,
                 "fc1": shape.hidden * width * rows, "fc2": shape.hidden * width * rows}
        for part, products in sizes.items():
            work[precision_of(mode, part, layer, layers)] += 2 * products
        attention = "f32" if precision_of(mode, "qkv", layer, layers) == "f32" else "bf16"
        work[attention] += 2 * 2 * rows * tokens * width
    return sum(operations / RATES[name] / 1e6 for name, operations in work.items())


def main():
    print("| model | precision | minimum, ms per image and core | batch of 1 | batch of 16 |\n|---|---|---|---|---|")
    for path in sys.argv[1:]:
        document = json.load(open(path))
        about = document["environment"]
        processors = len(about["processors_used"])
        narrow = (about.get("isa") or {}).get("newest") in ("avx2", "avx-vnni")
        for model, parts in document["medians"].items():
            for name, figures in parts.get("steady", {}).items():
                if not name.startswith("ours-") or "image_b1_ms" not in figures:
                    continue
                mode = name.removeprefix("ours-")
                if narrow and mode != "f32":
                    continue
                least = least_ms(mode, material.MODELS[model])
                least *= RATES["f32"] / NARROW_F32 if narrow else 1
                one = figures["image_b1_ms"] * processors / least
                sixteen = figures["image_b16_ms"] / 16 * processors / least
                print(f"| {model} | {mode} | {least:.1f} | {one:.2f} | {sixteen:.2f} |")


if __name__ == "__main__":
    main()
