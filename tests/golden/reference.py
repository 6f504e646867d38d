"""Runs the reference implementations on seeded tiny checkpoints and writes what they answer.

    git clone https://github.com/openai/CLIP && git -C CLIP checkout d05afc436d78f1c48dc0dbf8e5980a9d471f35f6
    git clone https://github.com/beichenzbc/Long-CLIP && git -C Long-CLIP checkout 3966af9ae9331666309a22128468b734db4672a7
    pip install -r requirements.txt
    python reference.py --openai-clip CLIP --long-clip Long-CLIP          # writes checkpoints/ and expected/
    python reference.py unpack DIR                                        # the checkpoints as files

README.md says what the written files hold. The script fails when two implementations disagree or when a
deliberate mistake (see `MISTAKES`) would not be seen.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

import checkpoints
import networks
import pack

HERE = Path(__file__).resolve().parent
COMMITS = {
    "openai/CLIP": "d05afc436d78f1c48dc0dbf8e5980a9d471f35f6",
    "beichenzbc/Long-CLIP": "3966af9ae9331666309a22128468b734db4672a7",
}
# The files that are run, so that a checkout of another commit is noticed (git's blob hashes).
BLOBS = {
    "openai_clip/clip/model.py": "232b7792eb97440642547bd462cf128df9243933",
    "openai_clip/clip/clip.py": "398a6282cc243e449430d91c2562491fc799929d",
    "openai_clip/clip/simple_tokenizer.py": "0a66286b7d5019c6e221932a813768038f839c91",
    "long_clip/model/model_longclip.py": "9045ac614db11deb69521b67085d39355162d705",
}
TOLERANCE = 2e-5  # what the Rust side may differ by in a unit embedding
AGREEMENT = 4e-6  # what two implementations may differ by here
VISIBLE = 10 * TOLERANCE  # what every deliberate mistake must change at least

PICTURES = ["chelsea.png", "coffee.png", "hopper.jpg", "bee.jpg"]
PARAGRAPH = """a small brown dog runs along the wet beach in the morning light while two children in red
coats throw a yellow ball to the left of an old wooden boat . behind them a tall white house with a green door
stands near the road , and a black car waits under the trees . the sky is grey with a thin line of blue over the
sea , where a large ship moves slowly to the right . on the sand there are shells , a broken chair , a pair of
blue shoes and a bag of fruit . an old man with a long coat sits on a stone wall and reads a paper , a cat sleeps
by his side . three birds fly above the roof of the house and one of them carries a piece of bread . a woman in a
dark hat stands at the door with a cup of tea in her hand and looks at the dog . the boat has a number painted on
its side , and a rope hangs from it into the water . near the car a boy rides a bike with a flat tire and holds a
paper bag full of apples . farther away a bridge crosses the river , and a train with many windows goes over it to
the city . the last light of the sun falls on the hills , and a lamp in the street is already on , so that the
wall looks orange and the window of the small shop shines like gold in the evening"""


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("unpack", nargs="*", metavar="unpack DIR", help="only write the packed checkpoints into DIR")
    parser.add_argument("--openai-clip", type=Path, help="checkout of openai/CLIP")
    parser.add_argument("--long-clip", type=Path, help="checkout of beichenzbc/Long-CLIP")
    parser.add_argument("--keep", type=Path, help="also leave the unpacked checkpoints here")
    return parser.parse_args()


def check_sources(options):
    for name, expected in BLOBS.items():
        root, path = name.split("/", 1)
        content = (getattr(options, root) / path).read_bytes()
        blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        assert blob == expected, f"{path} is not the file of the pinned commit"


def paragraph_text(encode, tokens, start):
    """Words of the paragraph from the `start`th on that make exactly `tokens` tokens, both ends counted."""
    words = PARAGRAPH.split()
    words = words[start:] + words[:start]
    count = 0
    text = []
    for word in words:
        size = len(encode(word))
        if count + size <= tokens - 2:
            text.append(word)
            count += size
    assert len(encode(" ".join(text))) == tokens - 2, (tokens, count)
    return " ".join(text)


def make_texts(encode):
    """[{"text", "token_ids"}]: lengths at every edge, and what only OpenAI's cleaning reads right."""
    texts = ["cat", "a photo of a dog."]
    texts += [paragraph_text(encode, tokens, start) for tokens, start in [(20, 40), (21, 70), (60, 0), (77, 100)]]
    texts += ["It\u2019s the cat\u2019s \u201cpyjamas\u201d", "fish &amp;amp; chips &lt;3 caf\u00e9", "  A CUP of\ttea,\n1984!"]
    texts += [paragraph_text(encode, tokens, start) for tokens, start in [(78, 130), (200, 20), (248, 9)]]
    return [{"text": text, "token_ids": [49406, *encode(text), 49407]} for text in texts]


def padded(texts, context):
    """The texts that fit: their places in the list, and their ids padded with zeros as OpenAI pads them."""
    places = [i for i, entry in enumerate(texts) if len(entry["token_ids"]) <= context]
    ids = torch.zeros(len(places), context, dtype=torch.int32)
    for row, place in enumerate(places):
        tokens = texts[place]["token_ids"]
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return places, ids


def make_pixels(size, transform):
    """[2 + pictures, 3, size, size]: two of noise, then the pictures through OpenAI's own preprocessing."""
    noise = checkpoints.draw(f"pixels{size}", (2, 3, size, size), 1.0)
    pictures = [transform(Image.open(HERE / "pictures" / name)) for name in PICTURES]
    return torch.cat([noise, torch.stack(pictures)])


def difference(ours, theirs):
    """Largest absolute difference of two (image, text) pairs of embeddings."""
    return [float((a - b).abs().max()) for a, b in zip(ours, theirs)]


def least_change(ours, theirs):
    """How far the least moved picture and the least moved text go, by their largest element."""
    return [float((a - b).abs().amax(-1).min()) for a, b in zip(ours, theirs)]


def run(case, state, pixels, ids):
    """The implementation that is the reference for a case, and the ones it must agree with."""
    reference = networks.long_clip if case.tables == 2 else networks.openai
    others = [networks.hugging_face, networks.open_clip]
    if case.name.startswith("hf"):
        reference, others = networks.hugging_face, [networks.openai, networks.open_clip]
    if case.tables == 2:
        others.append(networks.openai)
    result = reference(case, state, pixels, ids)
    differences = {}
    for other in [*others, networks.double]:
        differences[other.__name__] = difference(result, other(case, state, pixels, ids))
        assert max(differences[other.__name__]) < AGREEMENT, (case.name, other.__name__, differences)
    return reference.__name__, result, differences


def transposed(name):
    return lambda state: state | {name: state[name].T.contiguous()}


def swapped(pattern, order):
    """Query, key and value taken in another order."""

    def change(state):
        return state | {
            name: torch.cat([tensor.chunk(3)[i] for i in order]) for name, tensor in state.items() if pattern in name
        }

    return change


def one_table(which):
    def change(state):
        name = "positional_embedding" if which == 0 else "positional_embedding_res"
        return state | {"positional_embedding": state[name], "positional_embedding_res": state[name]}

    return change


def halved(state):
    return {name: tensor.half().float() for name, tensor in state.items()}


# mistake: (tower it must show in: 0 image, 1 text; change of the weights; which cases it applies to)
MISTAKES = {
    "text projection transposed": (1, transposed("text_projection"), lambda c: c.embed == 64 and c.blocks == "P"),
    "image projection transposed": (0, transposed("visual.proj"), lambda c: c.embed == 64 and c.blocks == "Q"),
    "image query and key swapped": (0, swapped("visual.transformer.resblocks.1.attn.in_", (1, 0, 2)), lambda c: True),
    "text key and value swapped": (1, swapped("transformer.resblocks.1.attn.in_", (0, 2, 1)), lambda c: True),
    "only the first table": (2, one_table(0), lambda c: c.tables == 2),
    "only the second table": (1, one_table(1), lambda c: c.tables == 2),
    "weights rounded to half": (3, halved, lambda c: not c.name.startswith("openai")),
}


def sensitivities(case, state, pixels, ids, result):
    """How much each deliberate mistake changes the embeddings; every one must be visible."""
    lengths = ids.argmax(-1) + 1
    measured = {}
    for name, (tower, change, applies) in MISTAKES.items():
        if not applies(case):
            continue
        changed = networks.hugging_face(case, change(state), pixels, ids)
        if name == "only the first table":
            # Texts of 20 tokens and fewer never reach the second table.
            moved = [(result[1] - changed[1])[lengths > 20].abs().amax(-1).min()]
        elif name == "weights rounded to half":
            moved = [(a - b).abs().max() for a, b in zip(result, changed)]
        else:
            moved = [least_change(result, changed)[tower]]
        measured[name] = [float(m) for m in moved]
        visible = 2 * TOLERANCE if "half" in name else VISIBLE
        assert min(measured[name]) > visible, (case.name, name, measured)
    other = replace(case, activation="gelu" if case.activation == "quick_gelu" else "quick_gelu")
    measured["other activation"] = least_change(result, networks.hugging_face(other, state, pixels, ids))
    tanh = replace(case, activation="gelu_pytorch_tanh")
    if case.activation == "gelu":
        measured["tanh gelu"] = least_change(result, networks.hugging_face(tanh, state, pixels, ids))
    assert min(measured["other activation"]) > VISIBLE, (case.name, measured)
    return measured


def resize_sensitivity(case, state, pixels, ids, result):
    """The same pictures resized or cropped another way."""
    from torchvision import transforms
    from torchvision.transforms import InterpolationMode as Mode

    size, measured = case.image_size, {}
    normalize = transforms.Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    ways = {name: Mode[name.upper()] for name in ("bilinear", "lanczos", "box")}
    for name, mode in ways.items():
        steps = [transforms.Resize(size, mode), transforms.CenterCrop(size), transforms.ToTensor(), normalize]
        transform = transforms.Compose(steps)
        changed = pixels.clone()
        for i, picture in enumerate(PICTURES):
            changed[2 + i] = transform(Image.open(HERE / "pictures" / picture).convert("RGB"))
        moved = (networks.hugging_face(case, state, changed, ids)[0] - result[0]).abs().amax(-1)
        measured[name] = float(moved[2:].min())
        assert measured[name] > VISIBLE, (case.name, measured)
    return measured


def write_expected(case, reference, texts, places, pixels, result):
    ids = [torch.tensor(texts[i]["token_ids"], dtype=torch.int32) for i in places]
    images, words = result
    logits = torch.tensor(case.logit_scale).exp() * images @ words.T
    offsets = torch.tensor([0, *[len(x) for x in ids]]).cumsum(0)
    tensors = {
        "token_ids": torch.cat(ids),
        "token_offsets": offsets,
        "text_index": torch.tensor(places),
        "pixels": pixels,
        "image_embeddings": images,
        "text_embeddings": words,
        "logit_scale": torch.tensor([case.logit_scale]),
        "logits": logits,
        "probabilities": logits.softmax(-1),
    }
    path = HERE / "expected" / f"{case.name}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, metadata={"reference": reference})
    cosines = images @ words.T
    return {"cosine_spread": float(cosines.std()), "top_probability": [round(float(p), 4) for p in tensors["probabilities"].amax(-1)]}


def write_layouts(root, states):
    """Every checkpoint file; returns the list that `expected/index.json` carries."""
    cases = {case.name: case for case in checkpoints.CASES}
    entries = []

    def entry(path, layout, case, **more):
        entries.append({"path": path, "layout": layout, "expected": case} | more)

    for name in ("hf-patch16", "hf-gelu-patch32", "hf-248-patch8"):
        networks.hugging_face_network(cases[name], states[name]).save_pretrained(root / name)
        entry(name, "hugging-face", name)
    config = root / "hf-248-patch8/config.json"
    stale = json.loads(config.read_text())
    # Old long files kept the short length in their config: the tensor must win.
    stale["text_config"]["max_position_embeddings"] = 77
    stale["text_config"]["eos_token_id"] = 2
    config.write_text(json.dumps(stale, indent=2) + "\n")
    model = networks.hugging_face_network(cases["hf-gelu-patch32"], states["hf-gelu-patch32"])
    model.save_pretrained(root / "hf-sharded", max_shard_size="26MB")
    entry("hf-sharded", "hugging-face-sharded", "hf-gelu-patch32")

    name = "openai-patch14"
    checkpoints.write_openai_safetensors(cases[name], states[name], root / f"{name}.safetensors")
    entry(f"{name}.safetensors", "openai", name)
    write_torchscript(cases[name], states[name], root / f"{name}.pt")
    entry(f"{name}.pt", "openai-torchscript", name)
    checkpoints.write_open_clip(cases["hf-gelu-patch32"], states["hf-gelu-patch32"], root / "open-clip")
    entry("open-clip", "open-clip", "hf-gelu-patch32")

    name = "longclip-patch16"
    built = networks.long_clip_model.build_model(dict(states[name]), load_from_clip=False)
    torch.save(networks.with_file_weights(built, states[name]).state_dict(), root / f"{name}.pt")
    entry(f"{name}.pt", "long-clip", name)
    checkpoints.write_c_g_d(cases[name], states[name], root / "longclip-hf-names")
    entry("longclip-hf-names", "long-clip-hugging-face-names", name)

    name = "training-patch14"
    module = OrderedDict((f"module.{key}", tensor) for key, tensor in states[name].items())
    torch.save({"epoch": 3, "name": "run", "state_dict": module, "optimizer": {"lr": 1e-6}}, root / f"{name}.pt")
    entry(f"{name}.pt", "training", name)
    return entries


def write_torchscript(case, state, path):
    """OpenAI's own files are TorchScript archives of the network in half precision, with three integers."""
    model = networks.openai_model.build_model(dict(state))
    integers = {"input_resolution": case.image_size, "context_length": case.context, "vocab_size": checkpoints.VOCABULARY}
    for name, value in integers.items():
        if hasattr(model, name):
            delattr(model, name)
        model.register_buffer(name, torch.tensor(value))
    ids = torch.zeros(1, case.context, dtype=torch.int32)
    ids[0, :2] = torch.tensor([49406, 49407])
    traced = torch.jit.trace(model, (torch.zeros(1, 3, case.image_size, case.image_size), ids), check_trace=False)
    torch.jit.save(traced, path)
    pack.without_debug_files(path)


def clean(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def main():
    options = arguments()
    if options.unpack:
        pack.unpack(HERE / "checkpoints", options.unpack[1])
        return
    check_sources(options)
    torch.set_num_threads(1)
    networks.load_sources(options.openai_clip, options.long_clip)
    from clip.clip import _transform
    from clip.simple_tokenizer import SimpleTokenizer

    clean(HERE / "expected")
    texts = make_texts(SimpleTokenizer().encode)
    used = sorted({token for entry in texts for token in entry["token_ids"]})
    states, report = {}, {}
    for case in checkpoints.CASES:
        state = checkpoints.openai_state(case, used)
        if case.name.startswith("openai"):
            with tempfile.NamedTemporaryFile() as scratch:
                state = checkpoints.write_openai_safetensors(case, state, scratch.name)
        states[case.name] = state
        places, ids = padded(texts, case.context)
        pixels = make_pixels(case.image_size, _transform(case.image_size))
        reference, result, differences = run(case, state, pixels, ids)
        spread = write_expected(case, reference, texts, places, pixels, result)
        report[case.name] = {
            "reference": reference,
            "difference_to": differences,
            "mistakes": sensitivities(case, state, pixels, ids, result),
            "resize": resize_sensitivity(case, state, pixels, ids, result),
        } | spread
        if case.tables == 2:
            rounded = networks.long_clip_rounded(case, state, pixels, ids)
            report[case.name]["long_clip_with_its_own_rounding"] = difference(result, rounded)
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch) / "files"
        clean(root)
        entries = write_layouts(root, states)
        sizes = pack.pack(checkpoints.read_files(root), HERE / "checkpoints")
    write_json(texts, entries, report, sizes)


def write_json(texts, entries, report, sizes):
    cases = {}
    for case in checkpoints.CASES:
        vision, vision_layers, text, text_layers = checkpoints.BLOCKS[case.blocks]
        cases[case.name] = {
            "expected": f"expected/{case.name}.safetensors",
            "activation": case.activation,
            "context_length": case.context,
            "image_size": case.image_size,
            "patch_size": case.patch,
            "embed_dim": case.embed,
            "image_tower": {"width": vision, "layers": vision_layers, "heads": vision // 64},
            "text_tower": {"width": text, "layers": text_layers, "heads": text // 64},
        }
    import numpy
    import PIL
    import torchvision
    import transformers

    modules = {"torch": torch, "torchvision": torchvision, "transformers": transformers, "pillow": PIL, "numpy": numpy}
    versions = {name: module.__version__ for name, module in modules.items()}
    index = {"commits": COMMITS, "versions": versions, "pictures": PICTURES, "cases": cases, "checkpoints": entries}
    for name, content in {"index": index, "report": report}.items():
        (HERE / f"expected/{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    rows = ",\n".join(json.dumps(entry) for entry in texts)
    (HERE / "expected/texts.json").write_text(f"[\n{rows}\n]\n")
    print(json.dumps(report, indent=1))
    print(sizes)


if __name__ == "__main__":
    sys.exit(main())
