#!/usr/bin/env python3
"""Our embeddings compared with those of transformers for each width of heads in use.

  head_widths.py FOLDER --ours target/release/examples/encode

Makes small networks with random weights, of two layers and two heads per tower, with erf GELU, and
prints the least cosine and the largest difference over images and texts. Fails if f32 is not within
rounding of the peer.
"""

import argparse
import subprocess
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPModel

import material

#: 64 is OpenAI's; 72 SigLIP's, 80 ViT-H's, 88 ViT-g's, 104 ViT-bigG's; 96 is between.
WIDTHS = [64, 72, 80, 88, 96, 104]
IMAGE_SIZE, TEXTS, IMAGES = 56, 4, 4
#: The implementations agree to 4e-6 among themselves; a wrong formula changes far more.
MOST = 1e-5


def embeddings(folder, pixels, tokens):
    """transformers' unit embeddings of images and texts."""
    unit = torch.nn.functional.normalize
    model = CLIPModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.inference_mode():
        images = model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)
        texts = model.text_projection(model.text_model(input_ids=tokens).pooler_output)
    return unit(images, dim=-1), unit(texts, dim=-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ours", required=True, help="the example encode")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    draw = torch.Generator().manual_seed(1)
    pixels = torch.randn(IMAGES, 3, IMAGE_SIZE, IMAGE_SIZE, generator=draw)
    tokens = torch.randint(1, 49000, (TEXTS, 12), generator=draw)
    tokens[:, 0], tokens[:, -1] = material.START_OF_TEXT, material.END_OF_TEXT
    inputs, outputs = options.folder / "inputs.safetensors", options.folder / "outputs.safetensors"
    save_file({"pixels": pixels, "tokens": tokens}, inputs)
    print("| head width | precision | least cosine | largest difference |\n|---|---|---|---|")
    worst = 0.0
    for width in WIDTHS:
        folder = options.folder / f"heads-{width}"
        tower = (2 * width, 2, 2)
        # An MLP that is not four times as wide, as in g and bigG.
        shape = material.Shape((*tower, 14), (*tower, 77), 96, IMAGE_SIZE, 9 * width, "gelu")
        material.make_checkpoint(folder, shape)
        expected = embeddings(folder, pixels, tokens)
        precisions = ["f32", "bf16", "int8", "int8-fast"]
        subprocess.run([options.ours, folder, inputs, outputs, *precisions], check=True)
        found = load_file(outputs)
        for precision in precisions:
            pairs = list(zip((found[f"image.{precision}"], found[f"text.{precision}"]), expected))
            cosine = min(float((ours * theirs).sum(-1).min()) for ours, theirs in pairs)
            difference = max(float((ours - theirs).abs().max()) for ours, theirs in pairs)
            print(f"| {width} | {precision} | {cosine:.7f} | {difference:.1e} |", flush=True)
            worst = max(worst, difference if precision == "f32" else 0.0)
    if worst > MOST:
        raise SystemExit(f"f32 differs by {worst:.1e}, more than {MOST:.0e}")


if __name__ == "__main__":
    main()
