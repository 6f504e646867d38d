#!/usr/bin/env python3
"""The same tiny weights in every format that CLIP is stored in, and in those that `longclip
convert` writes.

    forms.py load PROGRAM DIR      # each format written by its own library; the program's results for it
    forms.py convert PROGRAM DIR   # each conversion loaded by its target library
    forms.py stretch               # writes expected/stretch.safetensors with Long-CLIP's own code

Has the requirements of reference.py, and the same two options for the checkouts. Prints a table
with one row per format and fails if a difference is larger than its precision allows.
"""

import argparse
import importlib.util
import json
import shutil
import subprocess
import sys
import types
from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import checkpoints
import networks
import reference

HERE = Path(__file__).resolve().parent
LABELS = ["a cat", "a small brown dog on the beach", "two red apples on a table", "rain"]
CASES = {case.name: case for case in checkpoints.CASES}


def weights(name):
    """A case's state dict with random embeddings for all tokens of LABELS and a long text."""
    ids = sorted({id for label in LABELS for id in tokens(label)} | {49406, 49407})
    return checkpoints.openai_state(CASES[name], ids)


def tokens(text):
    from clip.simple_tokenizer import SimpleTokenizer

    return [49406, *SimpleTokenizer().encode(text), 49407]


def classify(program, path, more=()):
    """The cosines of LABELS (softmax would hide differences), in f32, for an image, in the order of LABELS."""
    picture = HERE / "pictures/coffee.png"
    command = [program, "classify", picture, "--model", path, "--precision", "f32", "--quiet", "--format", "json"]
    done = subprocess.run([*map(str, command), *more, "--labels", *LABELS], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{path}: {done.stderr}")
    found = {row["label"]: row["cosine"] for row in json.loads(done.stdout)[0]["predictions"]}
    return torch.tensor([found[label] for label in LABELS], dtype=torch.float64)


def geometric(state):
    """As in fine-tunes with geometric parametrisation: lengths and directions of the MLPs' rows."""
    new = {}
    for name, tensor in state.items():
        if ".mlp.c_" in name and name.endswith(".weight"):
            path = name.removesuffix(".weight")
            new[path + ".r"] = tensor.norm(dim=1, keepdim=True)
            new[path + ".theta"] = tensor / new[path + ".r"] * 3.0
        else:
            new[name] = tensor
    return new


def custom_text(state):
    """open_clip's CustomTextCLIP keeps the text tower under one name; built by open_clip itself."""
    from open_clip.model import CustomTextCLIP

    case = CASES["hf-patch16"]
    model = CustomTextCLIP(**checkpoints.open_clip_config(case)).eval()
    text = ("transformer.", "token_embedding.", "ln_final.")
    whole = ("positional_embedding", "text_projection")
    renamed = {("text." + name if name.startswith(text) or name in whole else name): t for name, t in state.items()}
    model.load_state_dict(renamed)
    return model.state_dict()


def forms(folder):
    """Writes every format -> rows of (format, how it was written, path, group, further arguments).
    Rows of one group hold the same numbers in the same precision."""
    from transformers import CLIPModel

    rows = []
    quick = ["--activation", "quick_gelu"]
    name = "hf-patch16"
    case, state = CASES[name], weights(name)
    model = networks.hugging_face_network(case, state)
    model.save_pretrained(folder / "hf")
    rows.append(("Hugging Face safetensors", "CLIPModel.save_pretrained", "hf", "f32", []))
    model.save_pretrained(folder / "hf-sharded", max_shard_size="4MB")
    rows.append(("Hugging Face, sharded with index", "save_pretrained(max_shard_size)", "hf-sharded", "f32", []))
    (folder / "hf-bin").mkdir()
    shutil.copy(folder / "hf/config.json", folder / "hf-bin/config.json")
    buffers = {"text_model.embeddings.position_ids": torch.arange(77).unsqueeze(0)}
    torch.save(model.state_dict() | buffers, folder / "hf-bin/pytorch_model.bin")
    rows.append(("Hugging Face pytorch_model.bin, position_ids", "torch.save(state_dict)", "hf-bin", "f32", []))
    built = networks.with_file_weights(networks.openai_model.build_model(dict(state)), state)
    torch.save(built.state_dict(), folder / "openai.pt")
    rows.append(("openai/CLIP state dict", "torch.save(model.state_dict())", "openai.pt", "f32", []))
    torch.save(built.state_dict(), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    rows.append(("the same before PyTorch 1.6 (no zip)", "torch.save(_use_new_zipfile_serialization=False)",
                 "legacy.pt", "f32", []))
    torch.save(built, folder / "module.pt")
    rows.append(("a whole module, pickled", "torch.save(model)", "module.pt", "f32", []))
    wrapped = OrderedDict((f"module.{key}", tensor) for key, tensor in state.items())
    torch.save({"epoch": 1, "state_dict": wrapped, "optimizer": {"state": {0: torch.zeros(3)}}}, folder / "training.pt")
    rows.append(("open_clip training checkpoint, module.", "torch.save({epoch, state_dict, optimizer})", "training.pt",
                 "f32", []))
    checkpoints.write_open_clip(case, state, folder / "open-clip")
    rows.append(("open_clip_model.safetensors + open_clip_config.json", "save_file", "open-clip", "f32", []))
    (folder / "open-clip-bin").mkdir()
    shutil.copy(folder / "open-clip/open_clip_config.json", folder / "open-clip-bin")
    torch.save(state, folder / "open-clip-bin/open_clip_pytorch_model.bin")
    rows.append(("open_clip_pytorch_model.bin", "torch.save", "open-clip-bin", "f32", []))
    save_file({key: t.contiguous() for key, t in custom_text(state).items()}, folder / "custom-text.safetensors")
    rows.append(("open_clip CustomTextCLIP (text.)", "CustomTextCLIP.state_dict, save_file", "custom-text.safetensors",
                 "f32", quick))
    torch.save(geometric(state), folder / "gmp.pt")
    rows.append(("GmP fine-tune (r, theta)", "torch.save", "gmp.pt", "f32 ~", []))

    half = "openai-patch14"
    case, state = CASES[half], weights(half)
    stored = checkpoints.write_openai_safetensors(case, state, folder / "openai-half.safetensors")
    rows.append(("OpenAI's names, halves and floats", "save_file", "openai-half.safetensors", "half", []))
    reference.write_torchscript(case, state, folder / "openai-half.pt")
    rows.append(("OpenAI's TorchScript archive", "torch.jit.save(torch.jit.trace(model))", "openai-half.pt", "half", []))
    torch.save({key: t.half() if key in stored and stored[key].dtype == torch.half else t for key, t in stored.items()},
               folder / "openai-half-as-f32.pt")
    rows.append(("the same numbers as floats", "torch.save", "openai-half-as-f32.pt", "half", []))

    long = "longclip-patch16"
    case, state = CASES[long], weights(long)
    built = networks.long_clip_model.build_model(dict(state), load_from_clip=False)
    torch.save(networks.with_file_weights(built, state).state_dict(), folder / "longclip.pt")
    rows.append(("Long-CLIP .pt, two tables", "Long-CLIP build_model, torch.save(state_dict)", "longclip.pt", "long", []))
    checkpoints.write_c_g_d(case, state, folder / "longclip-hf-names")
    rows.append(("creative-graphic-design Long-CLIP", "save_file, double prefix", "longclip-hf-names", "long", []))
    # Like zer0int's: one table of 248 positions with a config that says 77.
    model = networks.hugging_face_network(case, state)
    model.save_pretrained(folder / "hf-248")
    config = json.loads((folder / "hf-248/config.json").read_text())
    config["text_config"]["max_position_embeddings"] = 77
    (folder / "hf-248/config.json").write_text(json.dumps(config))
    rows.append(("Hugging Face, 248 positions, config says 77", "save_pretrained", "hf-248", "long", []))
    return rows


def load(program, folder):
    rows = forms(folder)
    first, worst = {}, 0.0
    print("| form | written by | classified with --model | largest difference |\n|---|---|---|---|")
    for form, written, path, group, more in rows:
        found = classify(program, folder / path, more)
        exact = not group.endswith("~")
        key = group.removesuffix(" ~")
        difference = float((found - first.setdefault(key, found)).abs().max())
        print(f"| {form} | `{written}` | `{' '.join([path, *more])}` | {difference:.1e} |")
        assert difference == 0.0 if exact else difference < 1e-6, form
        worst = max(worst, difference)
    state = {key: t for key, t in weights("hf-patch16").items() if not key.startswith("visual.")}
    save_file(checkpoints.hugging_face_state(state), folder / "text-only.safetensors")
    refused = subprocess.run([program, "classify", HERE / "pictures/coffee.png", "--model",
                              folder / "text-only.safetensors", "--labels", "a", "b"], capture_output=True, text=True)
    print(f"\ntext encoder only: exit {refused.returncode}: {refused.stderr.strip().splitlines()[-1]}")
    assert refused.returncode == 2 and "text encoder only" in refused.stderr
    print(f"largest difference of all: {worst:.1e}")


def convert(program, folder):
    """Compares the libraries' results for the program's output with those for the original."""
    from open_clip import create_model
    from transformers import CLIPModel

    torch.manual_seed(0)

    def run(*arguments):
        subprocess.run([program, "convert", *map(str, arguments), "--quiet", "--force"], check=True)

    def show(what, found, expected):
        difference = max(float((a - b).abs().max()) for a, b in zip(found, expected))
        print(f"| {what} | {difference:.1e} |")
        assert difference < 2e-6, what

    print("| conversion, loaded by | largest difference of unit embeddings |\n|---|---|")
    for name in ("hf-patch16", "longclip-patch16", "hf-gelu-patch32"):
        case, state = CASES[name], weights(name)
        source = folder / f"{name}-source"
        if name.startswith("longclip"):
            source = source.with_suffix(".pt")
            torch.save(OrderedDict(state), source)
        else:
            networks.hugging_face_network(case, state).save_pretrained(source)
        pixels = torch.randn(2, 3, case.image_size, case.image_size)
        ids = torch.zeros(len(LABELS), case.context, dtype=torch.int64)
        for row, label in enumerate(LABELS):
            ids[row, : len(tokens(label))] = torch.tensor(tokens(label))
        expected = networks.openai(case, state, pixels, ids)

        run(source, folder / "hf", "--layout", "hf")
        model = CLIPModel.from_pretrained(folder / "hf").eval()
        with torch.no_grad():
            output = model(input_ids=ids, pixel_values=pixels)
        show(f"{name} --layout hf, folder: transformers", (networks.unit(output.image_embeds),
             networks.unit(output.text_embeds)), expected)
        from transformers import AutoProcessor

        processor = AutoProcessor.from_pretrained(folder / "hf")
        made = processor(text=LABELS, images=None, padding=False)["input_ids"]
        assert made == [tokens(label) for label in LABELS], made

        run(source, folder / "open_clip", "--layout", "open_clip")
        model = create_model(f"local-dir:{folder / 'open_clip'}").eval()
        show(f"{name} --layout open_clip, folder: open_clip", networks.encode(model, pixels, ids), expected)
        if case.activation == "quick_gelu":
            for ending in ("pt", "safetensors"):
                path = folder / f"openai.{ending}"
                run(source, path, "--layout", "openai")
                found = torch.load(path, weights_only=True) if ending == "pt" else load_file(path)
                model = networks.with_file_weights(networks.openai_model.build_model(dict(found)), found)
                show(f"{name} --layout openai, .{ending}: openai/CLIP build_model", networks.encode(model, pixels, ids),
                     expected)
        if case.context == 248 and case.activation == "quick_gelu":
            path = folder / "longclip-out.pt"
            run(source, path, "--layout", "longclip")
            found = torch.load(path, weights_only=True)
            model = networks.long_clip_model.build_model(dict(found), load_from_clip=False)
            show(f"{name} --layout longclip, .pt: Long-CLIP build_model",
                 networks.encode(networks.with_file_weights(model, found), pixels, ids), expected)


def long_clip_stretch(long_clip, state, folder, dtype):
    """`load_from_clip` of the Long-CLIP repository on a state dict, computing in `dtype`."""
    # Stubs for its imports that no longer exist or are not needed here.
    packaging = types.ModuleType("pkg_resources")
    packaging.packaging = __import__("packaging", fromlist=["version"])
    __import__("packaging.version")
    sys.modules.setdefault("pkg_resources", packaging)
    package = types.ModuleType("model")
    package.__path__ = [str(long_clip / "model")]
    sys.modules["model"] = package
    spec = importlib.util.spec_from_file_location("model.longclip", long_clip / "model/longclip.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["model.longclip"] = module
    spec.loader.exec_module(module)
    build = module.build_model

    def in_dtype(_, load_from_clip):
        # The archive's numbers are in half precision: replaced by the real ones.
        model = build(dict(state), load_from_clip=load_from_clip)
        return networks.with_file_weights(model, state) if dtype == torch.float32 else model

    module.build_model = in_dtype
    # A TorchScript archive, as OpenAI publishes: its code for other files fails with current
    # PyTorch.
    path = folder / "to-stretch.pt"
    reference.write_torchscript(CASES["hf-patch16"], state, path)
    model, _ = module.load_from_clip(str(path), device="cpu")
    return model.positional_embedding.detach().float()


def stretch(options, folder):
    state = checkpoints.openai_state(CASES["hf-patch16"], [0])
    table = state["positional_embedding"]
    exact = long_clip_stretch(options.long_clip, state, folder, torch.float32)
    half = long_clip_stretch(options.long_clip, state, folder, torch.float16)
    assert exact.shape == (248, table.shape[1])
    print(f"Long-CLIP's own half precision is off by {float((half - exact).abs().max()):.1e} of values up to "
          f"{float(exact.abs().max()):.2f}")
    save_file({"stretched": exact.contiguous()}, HERE / "expected/stretch.safetensors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["load", "convert", "stretch"])
    parser.add_argument("program", nargs="?", type=Path)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("forms"))
    parser.add_argument("--openai-clip", type=Path, required=True)
    parser.add_argument("--long-clip", type=Path, required=True)
    options = parser.parse_args()
    reference.check_sources(options)
    networks.load_sources(options.openai_clip, options.long_clip)
    folder = options.folder.resolve()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if options.what == "stretch":
        stretch(options, folder)
    elif options.what == "load":
        load(options.program.resolve(), folder)
    else:
        convert(options.program.resolve(), folder)


if __name__ == "__main__":
    main()
