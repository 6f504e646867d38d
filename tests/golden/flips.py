#!/usr/bin/env python3
"""Flips every field of the configuration files of one tiny checkpoint, one at a time.

    flips.py PROGRAM DIR      # PROGRAM: the built longclip; DIR: a folder to work in

For each flip the library that owns the file (open_clip 3, transformers 5) and the program load the
same folder. The program must give the library's embeddings (cosine at least 0.99999 for an image
and a text) or exit with status 2 and name the file and the key. The script fails otherwise, and if
a field of open_clip's dataclasses, of its preprocessing, of transformers' CLIPConfig or of
CLIPImageProcessor has no flip. `expected/flips.json` is what `flips.rs` repeats without the
libraries.

The image processor is the Pillow one: torchvision's resizes differently, by more than that.
"""

import copy
import dataclasses
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)

import numpy as np
import open_clip
import torch
from open_clip.model import CLIPTextCfg, CLIPVisionCfg
from open_clip.transform import PreprocessCfg
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionConfig,
)
from transformers.processing_utils import ImagesKwargs

import pack

HERE = Path(__file__).resolve().parent
PICTURE = HERE / "pictures/coffee.png"
TOLERANCE = 0.99999
VISION, TEXT, TOKENIZER = "model_cfg/vision_cfg", "model_cfg/text_cfg", "model_cfg/text_cfg/tokenizer_kwargs"

# (object, key, value): flips for open_clip_config.json.
OPEN_CLIP = [
    ("model_cfg", "embed_dim", 64),
    ("model_cfg", "quick_gelu", True),
    ("model_cfg", "quick_gelu", None),
    ("model_cfg", "init_logit_scale", 1.0),
    ("model_cfg", "unheard_of", 1),
    ("model_cfg", "multimodal_cfg", {"width": 64}),
    (VISION, "layers", 2),
    (VISION, "width", 128),
    (VISION, "head_width", 32),
    (VISION, "mlp_ratio", 2.0),
    (VISION, "patch_size", 16),
    (VISION, "image_size", 96),
    (VISION, "image_size", [64, 64]),
    (VISION, "ls_init_value", 0.1),
    (VISION, "patch_dropout", 0.5),
    (VISION, "attentional_pool", True),
    (VISION, "attn_pooler_queries", 8),
    (VISION, "attn_pooler_heads", 4),
    (VISION, "no_ln_pre", True),
    (VISION, "pos_embed_type", "sin_cos_2d"),
    (VISION, "final_ln_after_pool", True),
    (VISION, "pool_type", "avg"),
    (VISION, "output_tokens", True),
    (VISION, "act_kwargs", {"approximate": "tanh"}),
    (VISION, "norm_kwargs", {"eps": 0.01}),
    (VISION, "norm_kwargs", None),
    (VISION, "block_type", "custom"),
    (VISION, "qk_norm", True),
    (VISION, "scaled_cosine_attn", True),
    (VISION, "scale_heads", True),
    (VISION, "scale_attn_inner", True),
    (VISION, "scale_attn", True),
    (VISION, "scale_fc", True),
    (VISION, "timm_model_name", "vit_tiny_patch16_224"),
    (VISION, "timm_model_pretrained", True),
    (VISION, "timm_pool", ""),
    (VISION, "timm_proj", "mlp"),
    (VISION, "timm_proj_bias", True),
    (VISION, "timm_drop", 0.5),
    (VISION, "timm_drop_path", 0.5),
    (VISION, "unheard_of", 1),
    (TEXT, "context_length", 60),
    (TEXT, "vocab_size", 50000),
    (TEXT, "hf_tokenizer_name", "bert-base-uncased"),
    (TEXT, "tokenizer_mode", "clips"),
    (TEXT, "tokenizer_kwargs", {"clean": "canonicalize"}),
    (TEXT, "tokenizer_kwargs", {"clean": "lower"}),
    (TEXT, "tokenizer_kwargs", {"additional_special_tokens": ["<cat>"]}),
    (TEXT, "tokenizer_kwargs", {"reduction_mask": "simple"}),
    (TEXT, "width", 64),
    (TEXT, "heads", 4),
    (TEXT, "layers", 1),
    (TEXT, "mlp_ratio", 2.0),
    (TEXT, "ls_init_value", 0.1),
    (TEXT, "embed_cls", True),
    (TEXT, "pad_id", 1),
    (TEXT, "eos_id", 7),
    (TEXT, "no_causal_mask", True),
    (TEXT, "final_ln_after_pool", True),
    (TEXT, "pool_type", "last"),
    (TEXT, "pool_type", "first"),
    (TEXT, "pool_type", "eos"),
    (TEXT, "proj_bias", True),
    (TEXT, "proj_type", "none"),
    (TEXT, "output_tokens", True),
    (TEXT, "act_kwargs", {"approximate": "tanh"}),
    (TEXT, "norm_kwargs", {"eps": 0.01}),
    (TEXT, "block_type", "custom"),
    (TEXT, "qk_norm", True),
    (TEXT, "scaled_cosine_attn", True),
    (TEXT, "scale_heads", True),
    (TEXT, "scale_attn_inner", True),
    (TEXT, "scale_attn", True),
    (TEXT, "scale_fc", True),
    (TEXT, "hf_model_name", "roberta-base"),
    (TEXT, "hf_model_pretrained", False),
    (TEXT, "hf_proj_type", "linear"),
    (TEXT, "hf_pooler_type", "cls_pooler"),
    ("preprocess_cfg", "size", 96),
    ("preprocess_cfg", "mode", "L"),
    ("preprocess_cfg", "mean", [0.5, 0.5, 0.5]),
    ("preprocess_cfg", "mean", None),
    ("preprocess_cfg", "mean", 0.5),
    ("preprocess_cfg", "std", [0.5, 0.5, 0.5]),
    ("preprocess_cfg", "interpolation", "bilinear"),
    ("preprocess_cfg", "interpolation", "nearest"),
    ("preprocess_cfg", "interpolation", "random"),
    ("preprocess_cfg", "resize_mode", "squash"),
    ("preprocess_cfg", "resize_mode", "longest"),
    ("preprocess_cfg", "fill_color", 128),
    ("preprocess_cfg", "unheard_of", 1),
]

# A complete text tower except for head count and class defaults: transformers assumes 8 heads.
OLD_TEXT = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 0.001,
}

# The same for config.json.
CONFIG = [
    ("", "projection_dim", 64),
    ("", "logit_scale_init_value", 1.0),
    ("", "initializer_factor", 2.0),
    ("", "text_config_dict", {"hidden_act": "gelu"}),
    ("", "text_config_dict", OLD_TEXT),
    ("text_config", "vocab_size", 50000),
    ("text_config", "hidden_size", 64),
    ("text_config", "intermediate_size", 256),
    ("text_config", "projection_dim", 64),
    ("text_config", "num_hidden_layers", 1),
    ("text_config", "num_attention_heads", 4),
    ("text_config", "max_position_embeddings", 60),
    ("text_config", "hidden_act", "quick_gelu"),
    ("text_config", "hidden_act", "gelu_new"),
    ("text_config", "layer_norm_eps", 0.01),
    ("text_config", "attention_dropout", 0.5),
    ("text_config", "initializer_range", 0.5),
    ("text_config", "initializer_factor", 2.0),
    ("text_config", "pad_token_id", 0),
    ("text_config", "bos_token_id", 0),
    ("text_config", "eos_token_id", 2),
    ("text_config", "eos_token_id", 7),
    ("text_config", "is_causal", False),
    ("text_config", "unheard_of", 1),
    ("vision_config", "hidden_size", 128),
    ("vision_config", "intermediate_size", 512),
    ("vision_config", "projection_dim", 64),
    ("vision_config", "num_hidden_layers", 2),
    ("vision_config", "num_attention_heads", 2),
    ("vision_config", "num_channels", 1),
    ("vision_config", "image_size", 96),
    ("vision_config", "patch_size", 16),
    ("vision_config", "hidden_act", "quick_gelu"),
    ("vision_config", "layer_norm_eps", 0.01),
    ("vision_config", "attention_dropout", 0.5),
    ("vision_config", "initializer_range", 0.5),
    ("vision_config", "initializer_factor", 2.0),
]

# The same for the image processor: in preprocessor_config.json, and nested in
# processor_config.json.
PROCESSOR = [
    ("do_convert_rgb", False),
    ("do_resize", False),
    ("size", {"height": 64, "width": 64}),
    ("size", {"height": 64, "width": 70}),
    ("size", {"shortest_edge": 80}),
    ("size", {"shortest_edge": 48}),
    ("size", {"longest_edge": 64}),
    ("size", 64),
    ("size", None),
    ("default_to_square", True),
    ("crop_size", {"height": 48, "width": 48}),
    ("crop_size", 64),
    ("resample", 2),
    ("resample", 0),
    ("do_rescale", False),
    ("rescale_factor", 1 / 127.5),
    ("do_normalize", False),
    ("do_normalize", None),
    ("image_mean", [0.5, 0.5, 0.5]),
    ("image_mean", 0.5),
    ("image_mean", None),
    ("image_std", [0.5, 0.5, 0.5]),
    ("do_pad", True),
    ("pad_size", {"height": 80, "width": 80}),
    ("do_center_crop", False),
    ("do_center_crop", None),
    ("data_format", "channels_last"),
    ("input_data_format", "channels_first"),
    ("device", "cpu"),
    ("return_tensors", "np"),
    ("disable_grouping", True),
    ("image_seq_length", 7),
    ("unheard_of", 1),
]
PROCESSOR_BASE = {
    "image_processor_type": "CLIPImageProcessor",
    "size": {"shortest_edge": 64},
    "crop_size": {"height": 64, "width": 64},
}


# Where transformers fails and the program continues with a warning: published Long-CLIP conversions
# say 77.
LENIENT = {("config.json", "max_position_embeddings")}


def flips():
    """Every flip: its folder, the file, the place in it, and the value."""
    for path, key, value in OPEN_CLIP:
        yield {"folder": "open-clip", "file": "open_clip_config.json", "object": path, "key": key, "value": value}
    for path, key, value in CONFIG:
        yield {"folder": "hf-gelu-patch32", "file": "config.json", "object": path, "key": key, "value": value}
    for file, path in (("preprocessor_config.json", ""), ("processor_config.json", "image_processor")):
        for key, value in PROCESSOR:
            yield {"folder": "hf-gelu-patch32", "file": file, "object": path, "key": key, "value": value}


def check_fields():
    """Fails if a field has no flip."""
    for table, path, fields in (
        (OPEN_CLIP, VISION, [f.name for f in dataclasses.fields(CLIPVisionCfg)]),
        (OPEN_CLIP, TEXT, [f.name for f in dataclasses.fields(CLIPTextCfg)]),
        (OPEN_CLIP, "preprocess_cfg", [f.name for f in dataclasses.fields(PreprocessCfg)]),
        (CONFIG, "text_config", own_fields(CLIPTextConfig)),
        (CONFIG, "vision_config", own_fields(CLIPVisionConfig)),
        (CONFIG, "", [f for f in own_fields(CLIPConfig) if f not in ("text_config", "vision_config")]),
        ([("", key, value) for key, value in PROCESSOR], "", list(ImagesKwargs.__annotations__)),
    ):
        missing = set(fields) - {key for where, key, _ in table if where == path}
        if missing:
            raise SystemExit(f"{path}: no flip of {sorted(missing)}")


def own_fields(config):
    return [name for name in config.__annotations__ if name not in ("model_type", "base_config_key", "sub_configs_defaults")]


def put(document, path, key, value):
    """`document` with `value` under `key` of the object at `path`."""
    document = copy.deepcopy(document)
    place = document
    for part in filter(None, path.split("/")):
        place = place.setdefault(part, {})
    place[key] = value
    return document


def unit(features):
    features = features[0] if isinstance(features, tuple) else features
    return torch.nn.functional.normalize(features.double(), dim=-1)[0].tolist()


def by_open_clip(folder, text):
    name = f"local-dir:{folder}"
    model, preprocess = open_clip.create_model_from_pretrained(name)
    model.eval()
    with torch.no_grad():
        image = model.encode_image(preprocess(Image.open(PICTURE).convert("RGB"))[None])
        return unit(image), unit(model.encode_text(open_clip.get_tokenizer(name)([text])))


def by_transformers(folder, text, ids):
    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    pixels = processor(images=Image.open(PICTURE).convert("RGB"), return_tensors="pt")["pixel_values"]
    padded = torch.tensor([ids + [49407] * (77 - len(ids))])
    mask = torch.tensor([[1] * len(ids) + [0] * (77 - len(ids))])
    with torch.no_grad():
        answer = model(input_ids=padded, attention_mask=mask, pixel_values=pixels)
    return unit(answer.image_embeds), unit(answer.text_embeds)


def by_program(program, folder, text):
    """Exit status, message, and the embeddings if any."""
    found = []
    for what in ([str(PICTURE)], ["--text", text]):
        command = [program, "embed", *what, "--model", str(folder), "--precision", "f32"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        if done.returncode != 0:
            return done.returncode, done.stderr, None
        found.append(json.loads(done.stdout)["embedding"])
    return 0, done.stderr, found


def cosine(a, b):
    a, b = np.asarray(a), np.asarray(b)
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) if a.shape == b.shape else 0.0


def main():
    torch.set_num_threads(1)
    program, work = Path(sys.argv[1]).resolve(), Path(sys.argv[2])
    check_fields()
    pack.unpack(HERE / "checkpoints", work)
    texts = json.loads((HERE / "expected/texts.json").read_text())
    text = next(entry for entry in texts if len(entry["token_ids"]) == 20)
    embeddings, results, faults = [], [], 0
    for flip in flips():
        folder = work / flip["folder"]
        document = folder / flip["file"]
        base = document.read_text() if document.exists() else None
        bare = put({}, "", flip["object"], PROCESSOR_BASE) if flip["object"] else PROCESSOR_BASE
        start = json.loads(base) if base else bare
        document.write_text(json.dumps(put(start, flip["object"], flip["key"], flip["value"])))
        try:
            if flip["folder"] == "open-clip":
                library = by_open_clip(folder, text["text"])
            else:
                if not (folder / "preprocessor_config.json").exists():
                    # Only config.json is relevant for this file.
                    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR_BASE))
                library = by_transformers(folder, text["text"], text["token_ids"])
            failure = ""
        except Exception as error:
            library, failure = None, f"{type(error).__name__}: {error}".split("\n")[0][:100]
        status, said, found = by_program(program, folder, text["text"])
        if flip["file"] != "preprocessor_config.json" and flip["folder"] != "open-clip":
            (folder / "preprocessor_config.json").unlink(missing_ok=True)
        document.write_text(base) if base else document.unlink(missing_ok=True)
        least = min(map(cosine, library, found)) if library and found else None
        names = flip["file"] in said and flip["key"] in said
        is_lenient = (flip["file"], flip["key"]) in LENIENT and library is None and "warning: config.json" in said
        right = is_lenient or (status == 2 and names) or (least is not None and least >= TOLERANCE)
        result = {**flip, "outcome": "refused" if status == 2 else "computed", "warns": status == 0 and "unheard_of" in said}
        if found and library:
            rounded = [[round(x, 7) for x in side] for side in library]
            if rounded not in embeddings:
                embeddings.append(rounded)
            result["expected"] = embeddings.index(rounded)
        results.append(result)
        faults += not right
        place = f"{flip['object']}/{flip['key']}".strip("/")
        shown = f"cosine {least:.7f}" if least is not None else said.strip().splitlines()[-1][-150:] if said else ""
        print(f"{'ok  ' if right else 'BAD '} {flip['file']:26} {place:44} {str(flip['value'])[:34]:34} {shown} {failure and '| ' + failure}", flush=True)
    print(f"{len(results)} flips, {sum(r['outcome'] == 'computed' for r in results)} computed, {faults} wrong")
    if faults:
        raise SystemExit(1)
    document = {"text": text["text"], "picture": PICTURE.name, "processor": PROCESSOR_BASE}
    lines = ",\n".join("  " + json.dumps(result) for result in results)
    vectors = ",\n".join("  " + json.dumps(pair) for pair in embeddings)
    head = json.dumps(document)[:-1]
    (HERE / "expected/flips.json").write_text(f'{head},\n"embeddings": [\n{vectors}\n],\n"flips": [\n{lines}\n]}}\n')


main()
