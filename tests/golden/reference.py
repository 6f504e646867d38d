"""Runs the reference implementations on seeded tiny checkpoints and writes their results.

    git clone https://github.com/openai/CLIP
    git -C CLIP checkout d05afc436d78f1c48dc0dbf8e5980a9d471f35f6
    git clone https://github.com/beichenzbc/Long-CLIP
    git -C Long-CLIP checkout 3966af9ae9331666309a22128468b734db4672a7
    pip install -r requirements.txt
    python reference.py --openai-clip CLIP --long-clip Long-CLIP   # writes checkpoints/, expected/
    python reference.py unpack DIR                                      # the checkpoints as files

README.md describes the written files. The script fails if two implementations disagree or if a
deliberate mistake (see `mistakes.py`) would go unnoticed.
"""

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import warnings
from collections import OrderedDict
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import checkpoints
import mistakes
import networks
import pack

HERE = Path(__file__).resolve().parent
COMMITS = {
    "openai/CLIP": "d05afc436d78f1c48dc0dbf8e5980a9d471f35f6",
    "beichenzbc/Long-CLIP": "3966af9ae9331666309a22128468b734db4672a7",
}
# The files used, by git blob hash, so that a checkout of another commit is noticed.
BLOBS = {
    "openai_clip/clip/model.py": "232b7792eb97440642547bd462cf128df9243933",
    "openai_clip/clip/clip.py": "398a6282cc243e449430d91c2562491fc799929d",
    "openai_clip/clip/simple_tokenizer.py": "0a66286b7d5019c6e221932a813768038f839c91",
    "long_clip/model/model_longclip.py": "9045ac614db11deb69521b67085d39355162d705",
}
AGREEMENT = 4e-6  # tolerance between two implementations

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
    """Words of the paragraph from the `start`th on that give exactly `tokens` tokens, including start and end."""
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
    """[{"text", "token_ids"}]: lengths around every limit, and texts that only OpenAI's cleaning handles right."""
    texts = ["cat", "a photo of a dog."]
    texts += [paragraph_text(encode, tokens, start) for tokens, start in [(20, 40), (21, 70), (60, 0), (77, 100)]]
    texts += ["It\u2019s the cat\u2019s \u201cpyjamas\u201d", "fish &amp;amp; chips &lt;3 caf\u00e9", "  A CUP of\ttea,\n1984!"]
    texts += [paragraph_text(encode, tokens, start) for tokens, start in [(78, 130), (200, 20), (248, 9)]]
    return [{"text": text, "token_ids": [49406, *encode(text), 49407]} for text in texts]


def padded(texts, context):
    """The texts that fit: their indices in the list, and their ids padded with zeros as by OpenAI."""
    places = [i for i, entry in enumerate(texts) if len(entry["token_ids"]) <= context]
    ids = torch.zeros(len(places), context, dtype=torch.int32)
    for row, place in enumerate(places):
        tokens = texts[place]["token_ids"]
        ids[row, : len(tokens)] = torch.tensor(tokens)
    return places, ids


def pictures():
    return [Image.open(HERE / "pictures" / name) for name in PICTURES]


def make_pixels(size, transform):
    """[2 + images, 3, size, size]: two of noise, then the images after OpenAI's own preprocessing."""
    noise = checkpoints.draw(f"pixels{size}", (2, 3, size, size), 1.0)
    return torch.cat([noise, torch.stack([transform(picture) for picture in pictures()])])


def run(case, state, pixels, ids):
    """The reference implementation for a case, and those it must agree with."""
    reference = networks.long_clip if case.tables == 2 else networks.openai
    others = [networks.hugging_face, networks.open_clip]
    if case.name.startswith("hf"):
        reference, others = networks.hugging_face, [networks.openai, networks.open_clip]
    if case.tables == 2:
        others.append(networks.openai)
    result = reference(case, state, pixels, ids)
    differences = {}
    for other in [*others, networks.double]:
        differences[other.__name__] = mistakes.difference(result, other(case, state, pixels, ids))
        assert max(differences[other.__name__]) < AGREEMENT, (case.name, other.__name__, differences)
    return reference.__name__, result, differences


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
    """Every checkpoint file; returns the list for `expected/index.json`."""
    cases = {case.name: case for case in checkpoints.CASES}
    entries = []

    def entry(path, layout, case, **more):
        entries.append({"path": path, "layout": layout, "expected": case} | more)

    for name in ("hf-patch16", "hf-gelu-patch32", "hf-248-patch8"):
        networks.hugging_face_network(cases[name], states[name]).save_pretrained(root / name)
        entry(name, "hugging-face", name)
    config = root / "hf-248-patch8/config.json"
    stale = json.loads(config.read_text())
    # Old long checkpoints kept the short length in their config: the tensor must win.
    stale["text_config"]["max_position_embeddings"] = 77
    stale["text_config"]["eos_token_id"] = 2
    config.write_text(json.dumps(stale, indent=2) + "\n")
    weights = root / "hf-248-patch8/model.safetensors"
    # And buffers that later versions of transformers omit.
    positions = {f"{tower}_model.embeddings.position_ids": n for tower, n in (("text", 248), ("vision", 17))}
    buffers = {buffer: torch.arange(n).unsqueeze(0) for buffer, n in positions.items()}
    save_file(load_file(weights) | buffers, weights, metadata={"format": "pt"})
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
    # Some trainers store the scale as a vector of length 1.
    module["module.logit_scale"] = module["module.logit_scale"].reshape(1)
    torch.save({"epoch": 3, "name": "run", "state_dict": module, "optimizer": {"lr": 1e-6}}, root / f"{name}.pt")
    entry(f"{name}.pt", "training", name)
    return entries


def write_torchscript(case, state, path):
    """OpenAI's own files are TorchScript archives of the network in half precision, with three
    integers."""
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


def read_back(root, states):
    """Loads the files with their own libraries and compares every number with the original weights."""
    from transformers import CLIPModel

    def equal(found, name):
        missing = states[name].keys() - found.keys()
        assert not missing, (name, missing)
        for key, tensor in states[name].items():
            assert torch.equal(found[key].float().reshape(tensor.shape), tensor), (name, key)

    for folder, name in [("hf-patch16",) * 2, ("hf-gelu-patch32",) * 2, ("hf-sharded", "hf-gelu-patch32")]:
        expected = checkpoints.hugging_face_state(states[name])
        found = CLIPModel.from_pretrained(root / folder).state_dict()
        assert all(torch.equal(found[key], tensor) for key, tensor in expected.items()), folder
    equal(load_file(root / "openai-patch14.safetensors"), "openai-patch14")
    equal(torch.jit.load(root / "openai-patch14.pt").state_dict(), "openai-patch14")
    equal(load_file(root / "open-clip/open_clip_model.safetensors"), "hf-gelu-patch32")
    equal(torch.load(root / "longclip-patch16.pt"), "longclip-patch16")
    module = torch.load(root / "training-patch14.pt")["state_dict"]
    equal({key.removeprefix("module."): tensor for key, tensor in module.items()}, "training-patch14")


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
    warnings.filterwarnings("ignore", category=FutureWarning, module="torch.jit")
    networks.load_sources(options.openai_clip, options.long_clip)
    from clip.clip import _transform
    from clip.simple_tokenizer import SimpleTokenizer

    (HERE / "expected").mkdir(exist_ok=True)
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
            "mistakes": mistakes.of_weights(case, state, pixels, ids, result),
            "resize": mistakes.of_pixels(case, state, pixels, ids, result, pictures()),
        } | spread
        if case.tables == 2:
            rounded = networks.long_clip_rounded(case, state, pixels, ids)
            report[case.name]["long_clip_with_its_own_rounding"] = mistakes.difference(result, rounded)
    with tempfile.TemporaryDirectory() as scratch:
        root = options.keep or Path(scratch) / "files"
        clean(root)
        entries = write_layouts(root, states)
        read_back(root, states)
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
