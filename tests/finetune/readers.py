"""Loads the output of `longclip finetune` with the libraries that the formats belong to.

    python tests/finetune/readers.py --longclip target/release/longclip --openai-clip CLIP --long-clip LONGCLIP IMAGE...

CLIP and LONGCLIP are checkouts of the two repositories; transformers, open_clip_torch, peft and
torch must be installed. Trains the built-in model a few steps on copies of the images, in every
layout, fully and with LoRA, and fails unless each library's own network gives the same embeddings
as `longclip embed`, from the same pixels and token ids, within 2e-5.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

TEXTS = ["a penguin", "a small drawing of a bicycle beside a carrot"]


def run(args, *arguments):
    subprocess.run([args.longclip, *map(str, arguments), "--quiet"], check=True, capture_output=True)


def embedded(args, model, folder):
    """Our embeddings of the images and of the texts, in f32."""
    (folder / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    common = ["--model", model, "--precision", "f32"]
    run(args, "embed", *args.pictures, *common, "-o", folder / "i.npy")
    run(args, "embed", "--texts", folder / "texts.txt", *common, "-o", folder / "t.npy")
    return np.load(folder / "i.npy"), np.load(folder / "t.npy")


def pixels(args, size):
    """CLIP's preprocessing; palette images, which PIL would resize by index, become RGB first."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

    mean, deviation = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    change = Compose([
        Resize(size, InterpolationMode.BICUBIC), CenterCrop(size), ToTensor(),
        Normalize(mean, deviation),
    ])  # fmt: skip
    return torch.stack([change(Image.open(path).convert("RGB")) for path in args.pictures])


def unit(x):
    return torch.nn.functional.normalize(x.detach().float(), dim=-1).numpy()


def compare(name, found, expected):
    off = [float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True)]
    print(f"{name:<24} images off by {off[0]:.1e}, texts by {off[1]:.1e}")
    assert max(off) < 2e-5, name


def module_of(path):
    """Imports a single file of a checkout: its neighbours need packages that no longer exist."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def through_state(module, path, images, ids, **more):
    """openai/CLIP's and Long-CLIP's own networks; their loaders round matrices to half precision,
    so the numbers are loaded again."""
    state = torch.load(path, map_location="cpu", weights_only=True)
    model = module.build_model(dict(state), **more).float()
    model.load_state_dict({name: value.float() for name, value in state.items()})
    model.eval()
    return unit(model.encode_image(images)), unit(model.encode_text(ids))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--longclip", required=True, type=lambda p: str(Path(p).resolve()))
    parser.add_argument("--openai-clip", required=True, type=Path)
    parser.add_argument("--long-clip", required=True, type=Path)
    parser.add_argument("pictures", nargs="+", type=lambda p: str(Path(p).resolve()))
    args = parser.parse_args()
    sys.path.insert(0, str(args.openai_clip))
    import clip
    import open_clip
    import transformers
    from clip import model as openai_model
    from peft import PeftModel

    long_clip = module_of(args.long_clip / "model/model_longclip.py")
    ids = clip.tokenize(TEXTS, context_length=248).long()
    folder = Path(tempfile.mkdtemp())
    rows = [
        {"image": path, "caption": f"picture {i} of several. it shows thing number {i * 7} and more."}
        for i, path in enumerate(args.pictures)
    ]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    train = ["--model", "tiny", "--loss", "clip", "--batch-size", len(rows), "--steps", 3]

    def finetune(out, *more, rate=1e-3):
        run(args, "finetune", folder / "pairs.jsonl", "--out", folder / out, *train, "--rate", rate, *more)
        return embedded(args, folder / out, folder)

    def hugging_face(model):
        texts = model.get_text_features(ids)
        images = model.get_image_features(pixels(args, model.config.vision_config.image_size))
        plain = [getattr(x, "pooler_output", x) for x in (images, texts)]
        return unit(plain[0]), unit(plain[1])

    ours = finetune("hf")
    compare("transformers", hugging_face(transformers.CLIPModel.from_pretrained(folder / "hf").eval()), ours)
    size = json.loads((folder / "hf" / "config.json").read_text())["vision_config"]["image_size"]
    images = pixels(args, size)

    ours = finetune("openai", "--layout", "openai")
    compare("openai/CLIP", through_state(openai_model, folder / "openai/model.pt", images, ids), ours)
    ours = finetune("longclip", "--layout", "longclip")
    found = through_state(long_clip, folder / "longclip/model.pt", images, ids, load_from_clip=False)
    compare("Long-CLIP", found, ours)
    ours = finetune("open_clip", "--layout", "open_clip")
    config = json.loads(next((folder / "open_clip").glob("open_clip_config.json")).read_text())["model_cfg"]
    weights = next(path for path in (folder / "open_clip").iterdir() if path.name.startswith("open_clip_") and path.suffix in (".safetensors", ".bin"))
    model = open_clip.CLIP(**config)
    open_clip.load_checkpoint(model, str(weights))
    model.eval()
    compare("open_clip", (unit(model.encode_image(images)), unit(model.encode_text(ids))), ours)

    ours = finetune("lora", "--train", "lora", "--lora-targets", "q,v,fc1", rate=1e-2)
    compare("transformers, merged", hugging_face(transformers.CLIPModel.from_pretrained(folder / "lora").eval()), ours)
    run(args, "convert", "tiny", folder / "base", "--layout", "hf")
    base = transformers.CLIPModel.from_pretrained(folder / "base").eval()
    before = hugging_face(base)
    changed = PeftModel.from_pretrained(base, folder / "lora" / "adapter").eval()
    found = hugging_face(changed.base_model.model)
    assert np.abs(found[0] - before[0]).max() > 1e-3, "the adapter changes nothing"
    compare("peft's adapter", found, ours)


if __name__ == "__main__":
    main()
