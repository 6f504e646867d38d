"""Cases c…: the files next to the weights. transformers and open_clip are the references, on random weights."""

import copy
import json
import logging
import os
import warnings

import numpy as np
from PIL import Image

from bench import PHOTOGRAPH

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
# The libraries' progress bars would mix with the table.
os.environ["TQDM_DISABLE"] = os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

TEXTS = ["a cat", "a photo of a dog.", "the quick brown fox jumps over the lazy dog while it rains"]
# transformers 5 resizes with torchvision, which rounds the last bit of some pixels differently.
RIGHT = 0.9999
CLIP_MEAN = [0.48145466, 0.4578275, 0.40821073]
CLIP_STD = [0.26862954, 0.26130258, 0.27577711]
SIDE = 64


def unit(vectors):
    vectors = vectors.detach().float().numpy()
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def compare(bench, what, model, image, texts, *arguments, refusal=None):
    """Compares our embeddings with the reference's; `refusal` is a word that the error must contain
    if it is refused instead."""
    common = ["--model", model, "--precision", "f32", *arguments]
    for kind, inputs, want in (("image", [PHOTOGRAPH], image), ("text", ["--text", *TEXTS], texts)):
        if want is None:
            continue
        answer = bench.run("embed", *inputs, *common)
        if answer.status:
            refused = refusal is not None and answer.status == 2 and refusal in answer.err
            bench.note(f"{what}, {kind}", refused, answer.said)
            continue
        got = np.array([record["embedding"] for record in answer.records])
        cosine = float((got * unit(want)).sum(-1).min())
        bench.note(f"{what}, {kind}", cosine >= RIGHT, f"cosine {cosine:.5f}")


def photograph():
    return Image.open(PHOTOGRAPH).convert("RGB")


# transformers


def tower(width, heads, **more):
    return dict(
        hidden_size=width, intermediate_size=4 * width, num_attention_heads=heads, num_hidden_layers=2, projection_dim=64, **more
    )


def hugging_face(**towers):
    """A small random CLIPModel with numbers large enough for differences to show."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    text = tower(64, 1, max_position_embeddings=77, vocab_size=49408, hidden_act="quick_gelu", **towers.get("text", {}))
    vision = tower(128, 2, image_size=SIDE, patch_size=16, hidden_act="quick_gelu", **towers.get("vision", {}))
    torch.manual_seed(3)
    model = CLIPModel(CLIPConfig(projection_dim=64, text_config=text, vision_config=vision)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(4.0)
            elif parameter.numel() > 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def processor(**settings):
    from transformers import CLIPImageProcessor

    return CLIPImageProcessor(**{"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}, **settings})


def token_ids():
    import open_clip

    return open_clip.tokenizer.SimpleTokenizer(context_length=77)(TEXTS)


def answers(model, images):
    import torch

    ids = token_ids()
    # transformers uses the first end token if the configuration names it; the padding after it is
    # never read.
    mask = (torch.arange(77)[None] <= ids.argmax(-1)[:, None]).long()
    with torch.no_grad():
        out = model(input_ids=ids, attention_mask=mask, pixel_values=images(images=photograph(), return_tensors="pt")["pixel_values"])
    return out.image_embeds, out.text_embeds


def image_embeddings(folder, pixels):
    """Image embeddings of pixels from the model saved there."""
    from transformers import CLIPModel

    features = CLIPModel.from_pretrained(folder).eval().get_image_features(pixel_values=pixels)
    return getattr(features, "pooler_output", features)


def write_json(path, value):
    path.write_text(json.dumps(value))


def processor_config(bench):
    squash = {"size": {"height": SIDE, "width": SIDE}, "do_center_crop": False}
    for name, settings in {
        "mean": {"image_mean": [0.5] * 3, "image_std": [0.5] * 3},
        "squash": squash,
        "larger": {"size": {"shortest_edge": 80}},
        "bilinear": {"resample": 2},
        "not_normalised": {"do_normalize": False},
        "longest": {"size": {"longest_edge": SIDE, "shortest_edge": SIDE}},
    }.items():
        if bench.folder.name.endswith("squash") != (name == "squash"):
            continue
        model, images = hugging_face(), processor(**settings)
        folder = bench.folder / name
        model.save_pretrained(folder)
        entries = json.loads(images.to_json_string())
        write_json(folder / "processor_config.json", {"image_processor": entries, "processor_class": "CLIPProcessor"})
        word = {"squash": "size", "larger": "size", "bilinear": "resample", "not_normalised": "do_normalize", "longest": "size"}.get(name)
        image, texts = answers(model, images)
        compare(bench, name, folder, image, texts, refusal=word)


def squash_and_crop(bench):
    from transformers import CLIPImageProcessor

    base = json.loads(processor().to_json_string())
    for name, entries in {
        "size of height and width": {"size": {"height": SIDE, "width": SIDE}},
        "size as a number": {"size": SIDE},
        "no size": {"size": None},
        "do_normalize null": {"do_normalize": None},
        "do_center_crop null": {"do_center_crop": None},
    }.items():
        folder = bench.folder / name.replace(" ", "-")
        model = hugging_face()
        model.save_pretrained(folder)
        write_json(folder / "preprocessor_config.json", {**base, **entries})
        try:
            image, texts = answers(model, CLIPImageProcessor.from_pretrained(folder))
        except Exception:  # The library refuses it too: nothing to compare with.
            answer = bench.run("embed", PHOTOGRAPH, "--model", folder)
            bench.refused(f"{name} (refused by transformers)", answer, next(iter(entries)))
            continue
        compare(bench, name, folder, image, texts, refusal=next(iter(entries)))


def legacy_dictionaries(bench):
    from transformers import CLIPModel

    folder = bench.folder / "model"
    hugging_face().save_pretrained(folder)
    processor().save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    for tower in ("text", "vision"):
        sizes = ("hidden_size", "intermediate_size", "num_attention_heads", "num_hidden_layers", "image_size", "patch_size")
        of = config[f"{tower}_config"]
        config[f"{tower}_config_dict"] = {"hidden_act": "gelu", **{key: of[key] for key in sizes if key in of}}
    write_json(folder / "config.json", config)
    compare(bench, "gelu in both dictionaries", folder, *answers(CLIPModel.from_pretrained(folder).eval(), processor()))
    said = bench.run("inspect", folder).out
    bench.note("inspect", "quick_gelu" not in said and "gelu" in said, next((line for line in said.splitlines() if "gelu" in line), said[:80]))


# open_clip

BASE = {
    "embed_dim": 64,
    "vision_cfg": {"image_size": SIDE, "layers": 2, "width": 128, "patch_size": 16},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}


def open_clip_model(config, custom=False):
    import open_clip
    import torch

    torch.manual_seed(5)
    model = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**copy.deepcopy(config)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(2.0)
            elif parameter.numel() > 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def open_clip_answers(model, size=SIDE):
    import torch
    from open_clip.transform import PreprocessCfg, image_transform_v2

    pixels = image_transform_v2(PreprocessCfg(size=size, mean=CLIP_MEAN, std=CLIP_STD), is_train=False)(photograph())
    with torch.no_grad():
        return model.encode_image(pixels[None]), model.encode_text(token_ids())


def open_clip_folder(folder, config, model):
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "open_clip_model.safetensors", {"format": "pt"})
    write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": {"mean": CLIP_MEAN, "std": CLIP_STD}})
    return tensors


def changed(vision=None, text=None, custom=False):
    config = copy.deepcopy(BASE)
    config["vision_cfg"].update(vision or {})
    config["text_cfg"].update(text or {})
    return {**config, "custom_text": True} if custom else config


def open_clip_case(refusal, cases):
    def case(bench):
        for name, (vision, text, custom) in cases.items():
            config = changed(vision, text, custom)
            model = open_clip_model({key: value for key, value in config.items() if key != "custom_text"}, custom)
            open_clip_folder(bench.folder / name, config, model)
            compare(bench, name, bench.folder / name, *open_clip_answers(model), refusal=refusal)

    return case


def heads(bench):
    import torch

    for name, width, head_width, patch in (("h", 1280, 80, 14), ("g", 1408, 88, 14), ("bigG", 1664, 104, 14)):
        config = copy.deepcopy(BASE)
        config["vision_cfg"] = {
            "image_size": 28, "layers": 1, "width": width, "head_width": head_width, "patch_size": patch,
            "mlp_ratio": {1280: 4.0, 1408: 4.3637, 1664: 4.9231}[width],
        }
        config["text_cfg"]["layers"] = 1
        model = open_clip_model(config)
        path = bench.folder / f"{name}.bin"
        torch.save(model.state_dict(), path)
        compare(bench, f"width {width}", path, *open_clip_answers(model, 28), "--activation", "gelu", refusal="heads")
        path.unlink()


def timm_repository(bench):
    import torch
    from safetensors.torch import save_file

    config = {**copy.deepcopy(BASE), "quick_gelu": True}
    model = open_clip_model(config)
    want = open_clip_answers(model)
    for name, kept in (("safetensors", "open_clip_model.safetensors"), ("bin", "open_clip_pytorch_model.bin")):
        folder = bench.folder / name
        tensors = open_clip_folder(folder, config, model)
        torch.save(tensors, folder / "open_clip_pytorch_model.bin")
        trunk = {"cls_token": torch.randn(1, 1, 128), "patch_embed.proj.weight": torch.randn(128, 3, 16, 16), "norm.weight": torch.randn(128)}
        save_file(trunk, folder / "model.safetensors")
        torch.save(trunk, folder / "pytorch_model.bin")
        write_json(folder / "config.json", {"architecture": "vit_base_patch16_clip_224", "num_classes": 0, "pretrained_cfg": {"tag": "openai"}})
        for other in {"open_clip_model.safetensors", "open_clip_pytorch_model.bin"} - {kept}:
            if kept.endswith(".bin"):
                (folder / other).unlink()
        compare(bench, name, folder, *want)


def sentence_transformers(bench):
    for name, inner in (("numbered", "0_CLIPModel"), ("root", "")):
        folder = bench.folder / name
        model = hugging_face()
        model.save_pretrained(folder / inner)
        processor().save_pretrained(folder / inner)
        write_json(folder / "modules.json", [{"idx": 0, "name": "0", "path": inner, "type": "sentence_transformers.models.CLIPModel"}])
        compare(bench, name, folder, *answers(model, processor()))


def one_prefix(bench):
    import torch

    model = open_clip_model(BASE)
    want = open_clip_answers(model)
    for prefix in ("model.", "net.", "student.", "module.model.", "teacher.backbone."):
        path = bench.folder / f"{prefix}ckpt"
        tensors = {prefix + name: tensor for name, tensor in model.state_dict().items()}
        torch.save({"epoch": 0, "pytorch-lightning_version": "2.1.0", "state_dict": tensors, "hyper_parameters": {"lr": 1e-5}}, path)
        compare(bench, prefix, path, *want, "--activation", "gelu")
    path = bench.folder / "bias.bin"
    torch.save({**model.state_dict(), "logit_bias": torch.tensor(-10.0)}, path)
    compare(bench, "logit_bias", path, *want, "--activation", "gelu")


def one_tower(bench):
    from transformers import CLIPTextModel, CLIPVisionModel

    model = hugging_face()
    for name, kind, word in (("text", CLIPTextModel, "text encoder"), ("vision", CLIPVisionModel, "image encoder")):
        folder = bench.folder / name
        kind(getattr(model.config, f"{name}_config")).save_pretrained(folder)
        bench.refused(f"{name} encoder of transformers 5", bench.run("embed", PHOTOGRAPH, "--model", folder), word)


CASES = {
    "c01-mean": processor_config,
    "c01-squash": processor_config,
    "c02-squash-crop": squash_and_crop,
    "c03-avgpool": open_clip_case(
        "pool_type",
        {
            "vision avg": ({"pool_type": "avg"}, {}, False),
            "vision avg, norm after": ({"pool_type": "avg", "final_ln_after_pool": True}, {}, False),
            "text last": ({}, {"pool_type": "last"}, True),
            "text first": ({}, {"pool_type": "first"}, True),
        },
    ),
    "c03-eps": open_clip_case(
        "norm_kwargs",
        {
            "both towers": ({"norm_kwargs": {"eps": 1e-2}}, {"norm_kwargs": {"eps": 1e-2}}, False),
            "text": ({}, {"norm_kwargs": {"eps": 1e-3}}, False),
            "vision": ({"norm_kwargs": {"eps": 1e-3}}, {}, False),
        },
    ),
    "c03-nocausal": open_clip_case("no_causal_mask", {"text": ({}, {"no_causal_mask": True}, True)}),
    "c04-heads-h14": heads,
    "c05-legacy-dict": legacy_dictionaries,
    "c06-timm-hub": timm_repository,
    "c07-sentence-transformers": sentence_transformers,
    "c08-lightning": one_prefix,
    "c09-text-encoder-v5": one_tower,
}
