"""Compares `longclip embed --hidden` with transformers and with the pipelines of diffusers.

    pip install torch transformers diffusers safetensors pillow numpy
    python hidden.py target/release/longclip [LONG_CLIP]  # all states of random models, pipelines
    python hidden.py --write                              # writes expected/hidden.safetensors

The models have random weights, 77 or 248 positions, either activation, and one or two heads. A
pipeline has its text towers only, from the folders of `longclip convert --layout diffusers`; its
own encode_prompt runs. Long-CLIP's SDXL script joins encode_text_full of two towers, with zeros
after the ends; with LONG_CLIP, a checkout of Long-CLIP, its own encode_text_full runs as well.
Fails if a number is off by more than 1e-5, or if another layer, norm or padding would go unnoticed.
"""

import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from randomise import randomise
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModel,
)
from transformers.utils import logging

import pack

logging.set_verbosity_error()
logging.disable_progress_bar()
HERE = Path(__file__).resolve().parent
END, ZERO = 49407, 0
TOLERANCE = 1e-5
TEXTS = [
    "a photo of a cat",
    "a watercolor painting of a lighthouse on a cliff, soft morning light, seagulls, highly detailed",
    "cat",
]
# Another state must differ by this much, or the comparison shows nothing.
DIFFERENT = 1e-2


def random_model(folder, context, activation, width, layers, seed):
    torch.manual_seed(seed)
    tower = {
        "hidden_size": width,
        "intermediate_size": 3 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "hidden_act": activation,
        "projection_dim": 80,
    }
    text = tower | {
        "max_position_embeddings": context,
        "vocab_size": 49408,
        "bos_token_id": 49406,
        "eos_token_id": END,
        "pad_token_id": END,
    }
    vision = tower | {"image_size": 64, "patch_size": 16}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=80)).eval()
    randomise(model)
    model.save_pretrained(folder)


class Run:
    """The program, and how much the worst number was off."""

    def __init__(self, program, folder):
        self.program, self.folder, self.worst, self.count = program, folder, 0.0, 0
        (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n")

    def longclip(self, *arguments):
        subprocess.run([self.program, *map(str, arguments), "-q"], check=True, cwd=self.folder)

    def states(self, model, hidden, *more):
        out = self.folder / "o.safetensors"
        inputs = ["--texts", "texts.txt"]
        self.longclip("embed", *inputs, "-m", model, "--precision", "f32", "--device", "cpu", "--hidden", hidden, "-o", out, *more)
        found = load_file(out)
        rows = [json.loads(line)["text"] for line in bytes(found.pop("rows").tolist()).splitlines()]
        assert rows == TEXTS
        return found

    def same(self, what, found, expected):
        assert found.shape == expected.shape, (what, found.shape, expected.shape)
        off = (found.double() - expected.double()).abs().max().item()
        self.worst, self.count = max(self.worst, off), self.count + 1
        assert off <= TOLERANCE, f"{what}: off by {off}"


def in_parts(folder):
    """The folder with the layout of diffusers."""
    return folder.with_name(f"{folder.name}-in-parts")


def padded(tokenizer, pad, length):
    ids = [tokenizer(text).input_ids for text in TEXTS]
    return torch.tensor([row + [pad] * (length - len(row)) for row in ids])


@torch.no_grad()
def layers(run, folder, tokenizer, context):
    text, projecting = CLIPTextModel.from_pretrained(folder).eval(), CLIPTextModelWithProjection.from_pretrained(folder).eval()
    for name, pad in [("end", END), ("zero", ZERO)]:
        ids = padded(tokenizer, pad, context)
        states = projecting(input_ids=ids, output_hidden_states=True)
        plain = text(input_ids=ids, output_hidden_states=True)
        count = len(states.hidden_states)
        for layer in range(-count, count):
            found = run.states(folder, layer, "--pad", name)
            run.same(f"layer {layer} pad {name}", found["prompt_embeds"], states.hidden_states[layer])
            run.same("text_embeds", found["pooled_prompt_embeds"], states.text_embeds)
        found = run.states(folder, "sd1", "--pad", name)["prompt_embeds"]
        run.same("last_hidden_state", found, plain.last_hidden_state)
        run.same("pooler_output", run.states(folder, "flux", "--pad", name)["pooled_prompt_embeds"], plain.pooler_output)
        # What must not go unnoticed.
        for other in plain.hidden_states:
            assert (found - other).abs().max() > DIFFERENT
        other = text(input_ids=padded(tokenizer, ZERO if pad == END else END, context))
        assert (found - other.last_hidden_state).abs().max() > DIFFERENT


@torch.no_grad()
def patches(run, folder):
    pixels = np.random.default_rng(5).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    names = ["0.png", "1.png"]
    for name, image in zip(names, pixels):
        Image.fromarray(image).save(run.folder / name)
    run.longclip("embed", *names, "-m", folder, "--precision", "f32", "--device", "cpu", "--hidden", "patches", "-o", "p.safetensors")
    mean, deviation = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    values = (torch.tensor(pixels).float() / 255 - torch.tensor(mean)) / torch.tensor(deviation)
    expected = CLIPVisionModel.from_pretrained(folder).eval()(pixel_values=values.permute(0, 3, 1, 2))
    run.same("patches", load_file(run.folder / "p.safetensors")["last_hidden_state"], expected.last_hidden_state)


@torch.no_grad()
def pipelines(run, first, second, tokenizers):
    import diffusers

    def text(folder, projecting=False):
        model = CLIPTextModelWithProjection if projecting else CLIPTextModel
        model = model.from_pretrained(in_parts(folder), subfolder="text_encoder").eval()
        # Where transformers 4 had the tower, and where diffusers 0.42 still looks for its norm.
        if not hasattr(model, "text_model"):
            object.__setattr__(model, "text_model", model)
        return model

    end, zero = tokenizers
    sd1 = diffusers.StableDiffusionPipeline(
        vae=None, text_encoder=text(first), tokenizer=end, unet=None, scheduler=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    for skip in [None, 1, 2]:
        found = run.states(first, "sd1", "--with-empty", *([] if skip is None else ["--clip-skip", skip]))
        prompt, empty = sd1.encode_prompt(TEXTS, "cpu", 1, True, [""] * len(TEXTS), clip_skip=skip)
        run.same(f"sd1 skip {skip}", found["prompt_embeds"], prompt)
        run.same("sd1 empty", found["negative_prompt_embeds"], empty[:1])
    sdxl = diffusers.StableDiffusionXLPipeline(
        vae=None, text_encoder=text(first), text_encoder_2=text(second, True), tokenizer=end, tokenizer_2=zero, unet=None, scheduler=None
    )
    for skip in [None, 1]:
        more = [] if skip is None else ["--clip-skip", skip]
        found = run.states(first, "sdxl", "--second-model", second, "--with-empty", *more)
        prompt, empty, pooled, empty_pooled = sdxl.encode_prompt(TEXTS, device="cpu", negative_prompt="", clip_skip=skip)
        run.same(f"sdxl skip {skip}", found["prompt_embeds"], prompt)
        run.same("sdxl pooled", found["pooled_prompt_embeds"], pooled)
        run.same("sdxl empty", found["negative_prompt_embeds"], empty[:1])
        run.same("sdxl empty pooled", found["negative_pooled_prompt_embeds"], empty_pooled[:1])
    sd3 = diffusers.StableDiffusion3Pipeline(
        transformer=None, scheduler=None, vae=None, text_encoder=text(first, True), tokenizer=end, text_encoder_2=text(second, True), tokenizer_2=zero, text_encoder_3=None, tokenizer_3=None
    )
    # The rows of T5, absent here, follow; the width is filled with zeros.
    sd3.transformer = SimpleNamespace(config=SimpleNamespace(joint_attention_dim=512))
    for skip in [None, 1]:
        found = run.states(first, "sd3", "--second-model", second, "--with-empty", *([] if skip is None else ["--clip-skip", skip]))
        prompt, empty, pooled, empty_pooled = sd3.encode_prompt(TEXTS, TEXTS, TEXTS, device="cpu", negative_prompt="", clip_skip=skip)
        _, length, width = found["prompt_embeds"].shape
        run.same(f"sd3 skip {skip}", found["prompt_embeds"], prompt[:, :length, :width])
        assert not prompt[:, :length, width:].any()
        run.same("sd3 pooled", found["pooled_prompt_embeds"], pooled)
        run.same("sd3 empty", found["negative_prompt_embeds"], empty[:1, :length, :width])
        run.same("sd3 empty pooled", found["negative_pooled_prompt_embeds"], empty_pooled[:1])
    flux = diffusers.FluxPipeline(
        scheduler=None, vae=None, text_encoder=text(first), tokenizer=end, text_encoder_2=None, tokenizer_2=None, transformer=None
    )
    found = run.states(first, "flux")
    assert sorted(found) == ["pooled_prompt_embeds"]
    run.same("flux", found["pooled_prompt_embeds"], flux._get_clip_prompt_embeds(TEXTS, 1, "cpu"))


@torch.no_grad()
def long_clip(run, first, second, tokenizer, context):
    ids = padded(tokenizer, ZERO, context)
    rows = [CLIPTextModel.from_pretrained(folder).eval()(input_ids=ids).last_hidden_state for folder in (first, second)]
    pooled = CLIPTextModelWithProjection.from_pretrained(second).eval()(input_ids=ids).text_embeds
    found = run.states(first, "longclip-sdxl", "--second-model", second)
    run.same("longclip-sdxl", found["prompt_embeds"], torch.cat(rows, -1))
    run.same("longclip-sdxl pooled", found["pooled_prompt_embeds"], pooled)


@torch.no_grad()
def own_long_clip(run, checkout, tokenizer):
    """encode_text_full and encode_text of Long-CLIP's own network, with a file's numbers."""
    # Imported alone: `model/longclip.py` next to it imports pkg_resources, which no longer exists.
    spec = importlib.util.spec_from_file_location("model_longclip", Path(checkout) / "model/model_longclip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    file = run.folder / "longclip-patch16.pt"
    pack.unpack(HERE / "checkpoints", run.folder)
    state = torch.load(file, map_location="cpu", weights_only=True)
    model = module.build_model(dict(state), load_from_clip=False).float().eval()
    model.load_state_dict(state)
    ids = padded(tokenizer, ZERO, 248)
    found = run.states(file, "longclip-sdxl", "--second-model", file)
    rows = model.encode_text_full(ids)
    run.same("encode_text_full", found["prompt_embeds"], torch.cat([rows, rows], -1))
    run.same("encode_text", found["pooled_prompt_embeds"], model.encode_text(ids))


def compare(program, checkout=None):
    with tempfile.TemporaryDirectory() as folder:
        run = Run(program, Path(folder))
        for context in [77, 248]:
            first, second = run.folder / f"first-{context}", run.folder / f"second-{context}"
            random_model(first, context, "quick_gelu", 128, 4, 1)
            random_model(second, context, "gelu", 64, 3, 2)
            # The pipelines read what `convert` writes.
            for model in [first, second]:
                run.longclip("convert", model, in_parts(model), "--layout", "diffusers")
            tokenizers = [
                CLIPTokenizer.from_pretrained(in_parts(first), subfolder="tokenizer", **more) for more in ({}, {"pad_token": "!"})
            ]
            assert tokenizers[0].model_max_length == context
            for model in [first, second]:
                layers(run, model, tokenizers[0], context)
                patches(run, model)
            pipelines(run, first, second, tokenizers)
            long_clip(run, first, second, tokenizers[0], context)
            if checkout and context == 248:
                own_long_clip(run, checkout, tokenizers[0])
            print(f"{context} positions: {run.count} tensors equal, the worst number off by {run.worst:.1e}")


@torch.no_grad()
def write():
    """Some rows of every state of two committed checkpoints."""
    index = json.loads((HERE / "expected/index.json").read_text())
    entries = json.loads((HERE / "expected/texts.json").read_text())
    with tempfile.TemporaryDirectory() as folder:
        pack.unpack(HERE / "checkpoints", folder)
        tensors = {}
        for case in ["hf-patch16", "hf-gelu-patch32"]:
            path, context = Path(folder) / case, index["cases"][case]["context_length"]
            model = CLIPTextModelWithProjection.from_pretrained(path).eval()
            ids = [entries[0]["token_ids"], entries[3]["token_ids"]]
            for pad in [END, ZERO]:
                rows = torch.tensor([row + [pad] * (context - len(row)) for row in ids])
                output = model(input_ids=rows, output_hidden_states=True)
                last = model.text_model.final_layer_norm(output.hidden_states[-1])
                for layer, states in enumerate([*output.hidden_states, last]):
                    name = "normed" if layer == len(output.hidden_states) else layer
                    for text, row in enumerate(ids):
                        places = [0, len(row) - 1, len(row), context - 1]
                        tensors[f"{case} {pad} {name} {text}"] = states[text, places].contiguous()
                tensors[f"{case} {pad} projected"] = output.text_embeds
            vision = CLIPVisionModel.from_pretrained(path).eval()
            pixels = load_file(HERE / index["cases"][case]["expected"])["pixels"][:2]
            tensors[f"{case} patches"] = vision(pixel_values=pixels).last_hidden_state
        save_file(tensors, HERE / "expected/hidden.safetensors")


if sys.argv[1:] == ["--write"]:
    write()
else:
    compare(str(Path(sys.argv[1]).resolve()), *sys.argv[2:])
