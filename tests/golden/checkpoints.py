"""Seeded tiny checkpoints with CLIP's real structure, in every layout.

Everything starts as a state dict under OpenAI's names. Widths are multiples of 64 because every
CLIP has heads of 64. Two sets of blocks ("P" and "Q") are shared by all cases so that the files
compress well; each has one tower with two heads, and the towers differ in width and depth so that
mixing them up fails.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

VOCABULARY = 49408
# Significant bits of random weights. "short" compresses well and is exact in half precision; half
# precision is not exact for "long", so rounding a file shows. (f32 itself has 24.)
SIGNIFICANT = {"short": 6, "long": 16}


@dataclass(frozen=True)
class Case:
    """One set of weights. `tables` is 2 for Long-CLIP's pair of positional tables."""

    name: str
    blocks: str
    patch: int
    grid: int
    context: int
    embed: int
    activation: str
    logit_scale: float
    tables: int = 1

    @property
    def image_size(self):
        return self.patch * self.grid


# name: (vision width, vision layers, text width, text layers)
BLOCKS = {"P": (128, 2, 64, 3), "Q": (64, 3, 128, 2)}

CASES = [
    Case("hf-patch16", "P", 16, 3, 77, 64, "quick_gelu", float(np.float32(np.log(100)))),
    Case("hf-gelu-patch32", "Q", 32, 2, 77, 96, "gelu", 3.2),
    Case("hf-248-patch8", "P", 8, 4, 248, 64, "quick_gelu", 2.6592),
    Case("openai-patch14", "Q", 14, 3, 77, 64, "quick_gelu", 3.2),
    Case("longclip-patch16", "P", 16, 3, 248, 64, "quick_gelu", 4.5, 2),
    Case("training-patch14", "Q", 14, 3, 248, 96, "quick_gelu", 3.7, 2),
]


def draw(seed, shape, std, mean=0.0, short=True):
    """Normal random numbers from a separate stream per seed."""
    stream = np.random.Generator(np.random.PCG64([ord(c) for c in seed]))
    fraction, exponent = np.frexp(mean + std * stream.standard_normal(shape))
    steps = 2.0 ** SIGNIFICANT["short" if short else "long"]
    return torch.from_numpy(np.ldexp(np.round(fraction * steps) / steps, exponent).astype(np.float32))


def tower_blocks(prefix, seed, width, layers):
    """Pre-norm blocks strong enough that every part affects the embedding."""
    state = {}
    for i in range(layers):
        name, at = f"{prefix}.resblocks.{i}.", f"{seed}{i}"
        state[name + "attn.in_proj_weight"] = draw(at + "in", (3 * width, width), 1.3 * width**-0.5)
        state[name + "attn.in_proj_bias"] = draw(at + "inb", (3 * width,), 0.1, short=False)
        # Not short: rounding a file to half precision must be visible.
        state[name + "attn.out_proj.weight"] = draw(at + "out", (width, width), 0.8 * width**-0.5, short=False)
        state[name + "attn.out_proj.bias"] = draw(at + "outb", (width,), 0.1, short=False)
        state[name + "mlp.c_fc.weight"] = draw(at + "fc", (4 * width, width), width**-0.5)
        state[name + "mlp.c_fc.bias"] = draw(at + "fcb", (4 * width,), 0.2, short=False)
        state[name + "mlp.c_proj.weight"] = draw(at + "proj", (width, 4 * width), width**-0.5)
        state[name + "mlp.c_proj.bias"] = draw(at + "projb", (width,), 0.1, short=False)
        state |= norm(name + "ln_1", at + "n1", width) | norm(name + "ln_2", at + "n2", width)
    return state


def norm(name, seed, width):
    gains = draw(seed + "g", (width,), 0.25, short=False).exp().bfloat16().float()
    return {name + ".weight": gains, name + ".bias": draw(seed + "b", (width,), 0.1, short=False)}


def openai_state(case, used_ids):
    """The case's weights under OpenAI's names, f32; rows of the vocabulary that no text uses are
    zero."""
    vision, vision_layers, text, text_layers = BLOCKS[case.blocks]
    seed = case.blocks
    tokens = torch.zeros(VOCABULARY, text)
    tokens[used_ids] = draw(seed + "tokens", (len(used_ids), text), 0.5)
    conv = f"{vision}conv{case.patch}"
    state = {
        "positional_embedding": draw(f"{seed}pos{case.context}", (case.context, text), 0.3),
        "text_projection": draw(f"{seed}textproj{case.embed}", (text, case.embed), text**-0.5, short=False),
        "logit_scale": torch.tensor(case.logit_scale),
        "visual.class_embedding": draw(seed + "class", (vision,), 0.5, short=False),
        "visual.positional_embedding": draw(f"{seed}vpos{case.grid}", (case.grid**2 + 1, vision), 0.3),
        "visual.proj": draw(f"{seed}vproj{case.embed}", (vision, case.embed), vision**-0.5, short=False),
        "visual.conv1.weight": draw(conv, (vision, 3, case.patch, case.patch), (3 * case.patch**2) ** -0.5),
        "token_embedding.weight": tokens,
    }
    if case.tables == 2:
        # Different from the first table in every row, so that reading the wrong one is visible.
        state["positional_embedding_res"] = draw(f"{seed}res", (case.context, text), 0.3)
    state |= norm("visual.ln_pre", seed + "pre", vision) | norm("visual.ln_post", seed + "post", vision)
    state |= norm("ln_final", seed + "final", text)
    state |= tower_blocks("visual.transformer", seed + "v", vision, vision_layers)
    return state | tower_blocks("transformer", seed + "t", text, text_layers)


def folded(state):
    """One positional table: rows 0..19 of the first, the others of the second."""
    state = dict(state)
    second = state.pop("positional_embedding_res", None)
    if second is not None:
        state["positional_embedding"] = torch.cat([state["positional_embedding"][:20], second[20:]])
    return state


RENAMES = [
    ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
    ("transformer.resblocks.", "text_model.encoder.layers."),
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
    (".attn.out_proj.", ".self_attn.out_proj."),
    ("visual.ln_pre.", "vision_model.pre_layrnorm."),
    ("visual.ln_post.", "vision_model.post_layernorm."),
    ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
    ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
    ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
    ("visual.proj", "visual_projection.weight"),
    ("token_embedding.", "text_model.embeddings.token_embedding."),
    ("ln_final.", "text_model.final_layer_norm."),
]
WHOLE = {
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "positional_embedding_res": "text_model.embeddings.position_embedding_res",
    "text_projection": "text_projection.weight",
}


def hugging_face_state(state):
    """The same weights under Hugging Face's names."""
    result = {}
    for name, tensor in state.items():
        new = WHOLE.get(name, name)
        if new == name:
            for old, replacement in RENAMES:
                new = new.replace(old, replacement, 1)
        if name in ("visual.proj", "text_projection"):
            tensor = tensor.T
        if ".attn.in_proj_" in new:
            kind = new.rsplit("_", 1)[1]
            for part, rows in zip("qkv", tensor.chunk(3)):
                split = new.replace(f".attn.in_proj_{kind}", f".self_attn.{part}_proj.{kind}")
                result[split] = rows.contiguous()
            continue
        result[new] = tensor.contiguous()
    return result


def hugging_face_config(case, context=None):
    """`CLIPConfig` arguments for a case."""
    vision, vision_layers, text, text_layers = BLOCKS[case.blocks]
    common = {"hidden_act": case.activation, "projection_dim": case.embed}
    text_config = {
        "hidden_size": text,
        "intermediate_size": 4 * text,
        "num_hidden_layers": text_layers,
        "num_attention_heads": text // 64,
        "max_position_embeddings": context or case.context,
        "vocab_size": VOCABULARY,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    }
    vision_config = {
        "hidden_size": vision,
        "intermediate_size": 4 * vision,
        "num_hidden_layers": vision_layers,
        "num_attention_heads": vision // 64,
        "image_size": case.image_size,
        "patch_size": case.patch,
    }
    return {"text_config": text_config | common, "vision_config": vision_config | common, "projection_dim": case.embed}


def write_openai_safetensors(case, state, path):
    """As shipped by OpenAI: half precision except norms, tables and scalars, plus three integers."""
    stored = {}
    for name, tensor in state.items():
        whole = ".ln_" in name or name.startswith("ln_") or "embedding" in name or name == "logit_scale"
        stored[name] = tensor.clone() if whole else tensor.half()
    integers = {"input_resolution": case.image_size, "context_length": case.context, "vocab_size": VOCABULARY}
    save_file(stored | {name: torch.tensor(value) for name, value in integers.items()}, path)
    return {name: tensor.float() for name, tensor in stored.items()}


def write_c_g_d(case, state, folder):
    """The layout of creative-graphic-design/LongCLIP-*: both towers wrapped once more, both tables
    kept."""
    folder.mkdir(parents=True)
    renamed = {}
    for name, tensor in hugging_face_state(state).items():
        for tower in ("text_model.", "vision_model."):
            name = tower + name if name.startswith(tower) else name
        renamed[name] = tensor
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    config = hugging_face_config(case)
    config["model_type"], config["architectures"] = "longclip", ["LongCLIPModel"]
    config["text_config"]["model_type"] = "longclip_text_model"
    config["vision_config"]["model_type"] = "longclip_vision_model"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")


def open_clip_config(case):
    """`model_cfg` of open_clip for a case."""
    vision, vision_layers, text, text_layers = BLOCKS[case.blocks]
    return {
        "embed_dim": case.embed,
        "quick_gelu": case.activation == "quick_gelu",
        "vision_cfg": {"image_size": case.image_size, "layers": vision_layers, "width": vision, "patch_size": case.patch},
        "text_cfg": {
            "context_length": case.context,
            "vocab_size": VOCABULARY,
            "width": text,
            "heads": text // 64,
            "layers": text_layers,
        },
    }


def write_open_clip(case, state, folder):
    """open_clip's folder: OpenAI's names and a config of its own."""
    folder.mkdir(parents=True)
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, folder / "open_clip_model.safetensors")
    preprocess = {
        "mean": [0.48145466, 0.4578275, 0.40821073],
        "std": [0.26862954, 0.26130258, 0.27577711],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    }
    config = {"model_cfg": open_clip_config(case), "preprocess_cfg": preprocess}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")


def read_files(root):
    """{relative path: bytes} of everything below a folder, sorted."""
    paths = sorted(path for path in Path(root).rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in paths}
