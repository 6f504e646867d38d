"""The reference implementations, each run on a state dict under OpenAI's names.

Every function takes (case, state, pixels [m,3,s,s], token_ids [n,context] padded with 0) and
returns unit embeddings ([m,embed], [n,embed]) in f32. The code that runs is the projects' own; this
file only loads it.
"""

import importlib.util
import sys
from pathlib import Path

import torch
from torch import nn

import checkpoints

openai_model = None
long_clip_model = None


def load_sources(openai, long_clip):
    """Imports openai/CLIP's package and Long-CLIP's model file from their checkouts."""
    global openai_model, long_clip_model
    sys.path.insert(0, str(openai))
    from clip import model

    openai_model = model
    # Imported alone: `model/longclip.py` next to it imports pkg_resources, which no longer exists.
    spec = importlib.util.spec_from_file_location("model_longclip", Path(long_clip) / "model/model_longclip.py")
    long_clip_model = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(long_clip_model)


def unit(features):
    return features / features.norm(dim=-1, keepdim=True)


@torch.no_grad()
def encode(model, pixels, token_ids):
    return unit(model.encode_image(pixels)), unit(model.encode_text(token_ids))


def with_file_weights(model, state):
    """Undoes the rounding of matrices to half precision by `build_model`: loads the file's numbers again."""
    model.float().load_state_dict(state)
    return model.eval()


def openai_network(case, state):
    """openai/CLIP's `CLIP`, with torch's erf GELU instead of QuickGELU if the case says so."""
    model = with_file_weights(openai_model.build_model(dict(state)), state)
    if case.activation == "gelu":
        for block in [*model.transformer.resblocks, *model.visual.transformer.resblocks]:
            block.mlp.gelu = nn.GELU()
    return model


def openai(case, state, pixels, token_ids):
    return encode(openai_network(case, checkpoints.folded(state)), pixels, token_ids)


def long_clip(case, state, pixels, token_ids):
    """Long-CLIP's own `CLIP` with its two tables. `rounded=True` keeps the loader's half
    precision."""
    model = long_clip_model.build_model(dict(state), load_from_clip=False)
    return encode(with_file_weights(model, state), pixels, token_ids)


def long_clip_rounded(case, state, pixels, token_ids):
    """What Long-CLIP's loader computes by itself on a CPU: matrices rounded to half precision."""
    return encode(long_clip_model.build_model(dict(state), load_from_clip=False).float(), pixels, token_ids)


def hugging_face_network(case, state):
    from transformers import CLIPConfig, CLIPModel

    config = CLIPConfig(**checkpoints.hugging_face_config(case))
    config._attn_implementation = "eager"
    model = CLIPModel(config).eval()
    missing, unexpected = model.load_state_dict(
        checkpoints.hugging_face_state(checkpoints.folded(state)), strict=False
    )
    assert not unexpected and all("position_ids" in name for name in missing), (missing, unexpected)
    return model


@torch.no_grad()
def hugging_face(case, state, pixels, token_ids, dtype=torch.float32):
    model = hugging_face_network(case, state).to(dtype)
    output = model(input_ids=token_ids.long(), pixel_values=pixels.to(dtype))
    return unit(output.image_embeds), unit(output.text_embeds)


def double(case, state, pixels, token_ids):
    """transformers in f64: how far rounding alone moves the f32 results."""
    return tuple(x.float() for x in hugging_face(case, state, pixels, token_ids, torch.float64))


def open_clip(case, state, pixels, token_ids):
    from open_clip.model import CLIP

    arguments = checkpoints.open_clip_config(case)
    model = CLIP(**arguments).eval()
    model.load_state_dict(checkpoints.folded(state))
    return encode(model, pixels, token_ids)
