"""Writes model-check.json and compares the exports with Hugging Face's implementation.

    check.py WORK

The packed model is read back and exported as a Hugging Face folder and as a state dict in Long-CLIP's
layout into WORK/export; transformers' CLIPModel must give the same embeddings as our own network.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

import network
import pack
import tokenizer

TEXTS = (
    "a picture of a cat",
    "a drawing with 6 things on a white background. in the top left there is a red apple, which is a fruit. "
    "in the top centre is a rocket, a flying thing. in the top right you can see a blue car, a vehicle. in "
    "the bottom left we find a yellow lemon; it is a fruit. in the bottom centre stands a brown horse, which "
    "is an animal. in the bottom right is a violin, a musical instrument.",
)


def pixels_of(image):
    """CLIP's preprocessing up to bytes: short side to 96 (bicubic), centre crop [96, 96, 3]."""
    width, height = image.size
    side = network.IMAGE
    # torchvision's rule, which CLIP's published preprocessing follows: the long side is cut down.
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    image = image.convert("RGB").resize(size, Image.BICUBIC)
    left, top = round((size[0] - side) / 2), round((size[1] - side) / 2)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def inputs(pixels):
    """All patches of images [batch, 96, 96, 3] and their places, for `network.Clip.image`."""
    grid = network.patches(np.asarray(pixels))
    places = torch.arange(grid.shape[1]).expand(grid.shape[:2])
    return network.normalised(torch.from_numpy(np.ascontiguousarray(grid))), places


@torch.no_grad()
def raw(model, pixels, ids):
    """Image and text embeddings before normalisation."""
    image = model.visual(*inputs(pixels))
    x = model.token_embedding(model.rows[ids]) + model.positional_embedding[: ids.shape[1]]
    x = model.ln_final(model.transformer(x))
    return image, x[torch.arange(len(x)), ids.argmax(-1)] @ model.text_projection


def config(context):
    """Hugging Face's configuration of the model."""
    return {
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": network.EMBED,
        "logit_scale_init_value": 2.6592,
        "text_config": {
            "hidden_size": network.TEXT_WIDTH, "intermediate_size": 4 * network.TEXT_WIDTH,
            "num_hidden_layers": network.TEXT_LAYERS, "num_attention_heads": network.TEXT_WIDTH // 64,
            "max_position_embeddings": context, "vocab_size": 49408, "hidden_act": "quick_gelu",
            "projection_dim": network.EMBED, "bos_token_id": 49406, "eos_token_id": 49407,
        },
        "vision_config": {
            "hidden_size": network.VISION_WIDTH, "intermediate_size": 4 * network.VISION_WIDTH,
            "num_hidden_layers": network.VISION_LAYERS,
            "num_attention_heads": network.VISION_WIDTH // 64, "image_size": network.IMAGE,
            "patch_size": network.PATCH, "hidden_act": "quick_gelu", "projection_dim": network.EMBED,
        },
    }  # fmt: skip


def export(tensors, target):
    """The unpacked model in both layouts."""
    target.mkdir(exist_ok=True)
    save_file(tensors, target / "model.safetensors", {"format": "pt"})
    context = len(tensors["text_model.embeddings.position_embedding.weight"])
    (target / "config.json").write_text(json.dumps(config(context), indent=1))
    torch.save(pack.openai(tensors), target / "longclip-tiny.pt")


@torch.no_grad()
def hugging_face(target, pixels, ids):
    """The embeddings that transformers computes from the exported folder."""
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(target, attn_implementation="eager").eval()
    mean, deviation = (x[:: network.PATCH**2].view(3, 1, 1) for x in (network.MEAN, network.DEVIATION))
    image = (torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2) / 255 - mean) / deviation
    vision = model.vision_model(pixel_values=image).pooler_output
    text = model.text_model(input_ids=ids).pooler_output
    return model.visual_projection(vision), model.text_projection(text)


def main(work):
    tensors = {k: torch.from_numpy(np.array(v)) for k, v in pack.unpacked((pack.HERE / "model.bin").read_bytes())[1].items()}
    export(tensors, Path(work) / "export")
    pixels = pixels_of(Image.open(pack.HERE / "check.png"))[None]
    ids = torch.from_numpy(tokenizer.tokens(TEXTS, network.LONG_CONTEXT))
    ours = raw(pack.restored(tensors), pixels, ids)
    theirs = hugging_face(Path(work) / "export", pixels, ids)
    for a, b in zip(ours, theirs):
        assert torch.isfinite(a).all() and (a - b).abs().max() < 1e-4, (a - b).abs().max()
    checks = {
        name: {"shape": list(value.shape), "sum": value.double().sum().item(),
               "absolute_sum": value.double().abs().sum().item(), "first": value.flatten()[:4].tolist()}
        for name, value in sorted(tensors.items())
    }  # fmt: skip
    texts = [
        {"text": text, "token_ids": [i for i in row.tolist() if i], "embedding": embedding.tolist()}
        for text, row, embedding in zip(TEXTS, ids, ours[1])
    ]
    check = {"tensors": checks, "image": {"file": "check.png", "embedding": ours[0][0].tolist()}, "texts": texts}
    (pack.HERE / "model-check.json").write_text(json.dumps(check, indent=1) + "\n")
    print("exports agree with transformers to", max((a - b).abs().max().item() for a, b in zip(ours, theirs)))


if __name__ == "__main__":
    main(sys.argv[1])
