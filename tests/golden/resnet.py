"""A tiny CLIP with a ResNet, and the results of openai/CLIP's own network for it.

    python resnet.py --openai-clip CLIP   # writes resnet/; CLIP at the commit of reference.py

The text tower, the texts and the tools are those of `checkpoints.py` and `reference.py`; the pixels are
`hf-gelu-patch32`'s, which are of the same size. Batch norm statistics are far from 0 and 1, there are
two blocks in one stage, channel counts are odd and the attention has three heads. Fails if open_clip or
f64 disagree or if a mistake would go unnoticed.
"""

import argparse
import copy
import json
import sys
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import checkpoints
import mistakes
import networks
import pack
import reference
from checkpoints import draw

HERE = Path(__file__).resolve().parent
LAYERS, WIDTH, IMAGE, EMBED, CONTEXT = (1, 2, 1, 1), 6, 64, 40, 77
TEXT, TEXT_LAYERS = 64, 1
LOGIT_SCALE = 3.2


def batch_norm(name, channels):
    return {
        name + "weight": draw(name + "g", (channels,), 0.25, short=False).exp(),
        name + "bias": draw(name + "b", (channels,), 0.2, short=False),
        name + "running_mean": draw(name + "m", (channels,), 0.4, short=False),
        name + "running_var": draw(name + "v", (channels,), 0.5, short=False).exp().clamp(0.5, 2),
        name + "num_batches_tracked": torch.tensor(1000),
    }


def image_state(model):
    """Weights for every tensor of the image tower, with the shapes of openai/CLIP's class."""
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items() if name.startswith("visual.")}
    state = {}
    for name, shape in shapes.items():
        if name.endswith("running_mean"):
            state |= batch_norm(name.removesuffix("running_mean"), shape[0])
    for name, shape in shapes.items():
        if name in state:
            continue
        if len(shape) == 1:
            state[name] = draw(name, shape, 0.1, short=False)
        elif name.endswith("positional_embedding"):
            state[name] = draw(name, shape, 0.3)
        else:
            # Twice the inputs' standard deviation, because half of them are zeroed before; few
            # bits, which compress well.
            state[name] = draw(name, shape, (2 / shape[1:].numel()) ** 0.5)
    return state


def text_state(used):
    tokens = torch.zeros(checkpoints.VOCABULARY, TEXT)
    tokens[used] = draw("Rtokens", (len(used), TEXT), 0.5)
    state = {
        "positional_embedding": draw("Rpos", (CONTEXT, TEXT), 0.3),
        "text_projection": draw("Rtextproj", (TEXT, EMBED), TEXT**-0.5, short=False),
        "logit_scale": torch.tensor(LOGIT_SCALE),
        "token_embedding.weight": tokens,
    }
    state |= checkpoints.norm("ln_final", "Rfinal", TEXT)
    return state | checkpoints.tower_blocks("transformer", "Rt", TEXT, TEXT_LAYERS)


def network(code):
    return code.CLIP(
        embed_dim=EMBED, image_resolution=IMAGE, vision_layers=LAYERS, vision_width=WIDTH, vision_patch_size=None,
        context_length=CONTEXT, vocab_size=checkpoints.VOCABULARY,
        transformer_width=TEXT, transformer_heads=TEXT // 64, transformer_layers=TEXT_LAYERS,
    ).eval()


def open_clip_config():
    return {
        "embed_dim": EMBED,
        "quick_gelu": True,
        "vision_cfg": {"image_size": IMAGE, "layers": list(LAYERS), "width": WIDTH, "patch_size": None},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": checkpoints.VOCABULARY,
            "width": TEXT,
            "heads": TEXT // 64,
            "layers": TEXT_LAYERS,
        },
    }


def cross_check(model, state, pixels, ids, result):
    """open_clip and f64 must agree with the reference."""
    from open_clip.model import CLIP

    other = CLIP(**open_clip_config()).eval()
    other.load_state_dict(state)
    differences = {"open_clip": mistakes.difference(result, networks.encode(other, pixels, ids))}
    # Only the image tower: the text tower's LayerNorms always compute in f32.
    with torch.no_grad():
        double = networks.unit(copy.deepcopy(model.visual).double()(pixels.double())).float()
    differences["double"] = mistakes.difference(result[:1], [double])
    assert max(max(pair) for pair in differences.values()) < reference.AGREEMENT, differences
    return differences


def check_mistakes(model, state, pixels, ids, result):
    """How far each mistake moves the least affected image; all must be noticed."""
    pool, bn = "visual.attnpool.", "visual.layer4.0.bn3."
    swap = lambda a, b: {a: state[b], b: state[a]}
    changes = {
        "no running mean": {bn + "running_mean": torch.zeros(32 * WIDTH)},
        "no running variance": {bn + "running_var": torch.ones(32 * WIDTH)},
        "query and key swapped": swap(pool + "q_proj.weight", pool + "k_proj.weight"),
        "key and value swapped": swap(pool + "k_proj.weight", pool + "v_proj.weight"),
        "no bias of the values": {pool + "v_proj.bias": torch.zeros(32 * WIDTH)},
        "positions in another order": {pool + "positional_embedding": state[pool + "positional_embedding"].flip(0)},
        "filters transposed": {"visual.conv2.weight": state["visual.conv2.weight"].transpose(2, 3)},
    }
    moved = {}
    for name, change in changes.items():
        other = copy.deepcopy(model)
        other.load_state_dict(state | change)
        moved[name] = mistakes.least_change(result, networks.encode(other, pixels, ids))[0]
    heads = copy.deepcopy(model)
    heads.visual.attnpool.num_heads = 2
    moved["two heads"] = mistakes.least_change(result, networks.encode(heads, pixels, ids))[0]
    assert min(moved.values()) > mistakes.VISIBLE, moved
    return moved


def write_expected(texts, places, result):
    ids = [torch.tensor(texts[i]["token_ids"], dtype=torch.int32) for i in places]
    images, words = result
    logits = torch.tensor(LOGIT_SCALE).exp() * images @ words.T
    tensors = {
        "token_ids": torch.cat(ids),
        "token_offsets": torch.tensor([0, *[len(x) for x in ids]]).cumsum(0),
        "text_index": torch.tensor(places),
        "image_embeddings": images,
        "text_embeddings": words,
        "logit_scale": torch.tensor([LOGIT_SCALE]),
        "logits": logits,
        "probabilities": logits.softmax(-1),
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, HERE / "resnet/expected.safetensors")
    return {"cosine_spread": float((images @ words.T).std()), "top": [round(float(p), 3) for p in logits.softmax(-1).amax(-1)]}


def write_layouts(root, state):
    torch.save(state, root / "resnet.pt")
    folder = root / "resnet-open-clip"
    folder.mkdir()
    save_file(state, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": open_clip_config()}, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--openai-clip", type=Path, required=True, help="checkout of openai/CLIP")
    options = parser.parse_args()
    sys.path.insert(0, str(options.openai_clip))
    from clip import model as code

    torch.set_num_threads(1)
    texts = json.loads((HERE / "expected/texts.json").read_text())
    places, ids = reference.padded(texts, CONTEXT)
    pixels = load_file(HERE / "expected/hf-gelu-patch32.safetensors")["pixels"]
    model = network(code)
    used = sorted({token for place in places for token in texts[place]["token_ids"]})
    state = image_state(model) | text_state(used)
    model.load_state_dict(state)
    state = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    result = networks.encode(model, pixels, ids)
    report = {"differences": cross_check(model, state, pixels, ids, result)}
    report["mistakes"] = check_mistakes(model, state, pixels, ids, result)
    (HERE / "resnet").mkdir(exist_ok=True)
    report |= write_expected(texts, places, result)
    with tempfile.TemporaryDirectory() as scratch:
        write_layouts(Path(scratch), state)
        report["sizes"] = pack.pack(checkpoints.read_files(Path(scratch)), HERE / "resnet")
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
