"""Compares `longclip explain` with captum and with a forward pass of transformers in f64.

    pip install torch transformers safetensors pillow numpy captum
    python tests/explain/reference.py target/release/longclip

The models are random CLIPs of three layers, with either activation. Words: captum's ShapleyValues,
which goes through all orders, on the cosines that `longclip embed` gives for the image and for
every subset of the label. Regions: transformers in f64, on images that are covered here. Words with
patches: its hidden states and attentions, in f64. Fails if a number is off by more than 1e-5,
or if another layer, head or norm would go unnoticed.
"""

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from captum.attr import ShapleyValues
from PIL import Image
from transformers import CLIPConfig, CLIPModel
from transformers.utils import logging

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "golden"))
from randomise import randomise

logging.set_verbosity_error()
logging.disable_progress_bar()
TOLERANCE = 1e-5
# What is compared must be larger, or the comparison shows nothing.
LEAST = 1e-3
SIZE, PATCH = 64, 16
MEAN = np.array([0.48145466, 0.4578275, 0.40821073])
STD = np.array([0.26862954, 0.26130258, 0.27577711])
worst = {}


def random_model(folder, activation, seed):
    torch.manual_seed(seed)
    tower = {
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 2,
        "hidden_act": activation,
        "projection_dim": 48,
        "attn_implementation": "eager",
    }
    text = tower | {
        "max_position_embeddings": 77,
        "vocab_size": 49408,
        "bos_token_id": 49406,
        "eos_token_id": 49407,
        "pad_token_id": 49407,
    }
    vision = tower | {"image_size": SIZE, "patch_size": PATCH}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=48)
    config._attn_implementation = "eager"
    model = CLIPModel(config).eval()
    randomise(model)
    model.save_pretrained(folder)
    return model.double()


def run(*arguments):
    command = [*map(str, arguments), "--precision", "f32", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command}: {done.stderr}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def embedded(longclip, model, *inputs):
    rows = run(longclip, "embed", *inputs, "--model", model)
    return np.array([row["embedding"] for row in rows], dtype=np.float64)


def check(what, found, expected):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if found.shape != expected.shape:
        sys.exit(f"{what}: {found.shape}, not {expected.shape}")
    apart, size = np.abs(found - expected).max(), np.abs(expected).max()
    worst[what] = max(worst.get(what, 0), apart)
    if apart > TOLERANCE or size < LEAST:
        sys.exit(f"{what}: off by {apart:.2e}, of {size:.2e}\n{found}\n{expected}")


def words(longclip, model, folder, image, label, found):
    split = label.split()
    subsets = list(itertools.product([0, 1], repeat=len(split)))
    texts = [" ".join(itertools.compress(split, subset)) for subset in subsets]
    (folder / "texts.txt").write_text("\n".join(texts) + "\n")
    image = embedded(longclip, model, image)[0]
    # The first line is the empty text.
    rows = embedded(longclip, model, "--texts", folder / "texts.txt")
    cosines = {subset: row @ image for subset, row in zip(subsets, rows)}

    def score(there):
        values = [cosines[tuple(int(one) for one in row)] for row in there.round()]
        return torch.tensor(values, dtype=torch.float64)

    ones = torch.ones(1, len(split), dtype=torch.float64)
    values = ShapleyValues(score).attribute(ones, perturbations_per_eval=1)[0].numpy()
    check("words, captum", [word["value"] for word in found["words"]], values)
    check("score", found["score"], cosines[(1,) * len(split)])
    check("empty text", found["empty"], cosines[(0,) * len(split)])
    check("sum", found["sum"], found["score"] - found["empty"])
    without = [tuple(int(at != part) for at in range(len(split))) for part in range(len(split))]
    losses = [found["score"] - cosines[subset] for subset in without]
    check("loss", [word["loss"] for word in found["words"]], losses)


def regions(longclip, model, folder, pixels, text, found):
    grid = len(found["regions"]["map"])
    edges = [at * SIZE // grid for at in range(grid + 1)]
    covered = []
    for row, column in itertools.product(range(grid), repeat=2):
        image = pixels.copy()
        image[edges[row] : edges[row + 1], edges[column] : edges[column + 1]] = MEAN
        covered.append(image)
    with torch.no_grad():
        inputs = np.stack([(image - MEAN) / STD for image in [pixels, *covered]])
        inputs = torch.from_numpy(inputs).permute(0, 3, 1, 2)
        images = model.get_image_features(pixel_values=inputs)
        images = getattr(images, "pooler_output", images)
    images = images / images.norm(dim=1, keepdim=True)
    cosines = images.numpy() @ text
    losses = (cosines[0] - cosines[1:]).reshape(grid, grid)
    check("occlusion", found["regions"]["map"], losses)


def direct(tower, states, attentions, pooled, norm, projection):
    """What each token wrote into the row, and the rest, as embeddings."""
    row = states[-1][0, pooled]
    written = torch.zeros_like(states[-1][0])
    for layer, state, shares in zip(tower.encoder.layers, states, attentions):
        normed, mixer = layer.layer_norm1(state[0]), layer.self_attn
        values = mixer.v_proj(normed).view(len(normed), mixer.num_heads, -1)
        mine = torch.einsum("hj,jhd->jhd", shares[0, :, pooled], values).flatten(1)
        written += mine @ mixer.out_proj.weight.T
    rest = row - written.sum(0)
    deviation = (row.var(correction=0) + norm.eps).sqrt()
    project = lambda x: projection((x - x.mean(-1, keepdim=True)) / deviation * norm.weight)
    return project(written), project(rest) + projection(norm.bias)


def pairs(model, label, pixels, found):
    tokens = {"ids": [49406], "words": []}
    for word in label.split():
        ids = encoded[word]
        tokens["words"].append(range(len(tokens["ids"]), len(tokens["ids"]) + len(ids)))
        tokens["ids"] += ids
    ids = torch.tensor([[*tokens["ids"], 49407]])
    inputs = torch.from_numpy((pixels - MEAN) / STD).permute(2, 0, 1)[None]
    more = {"output_hidden_states": True, "output_attentions": True}
    with torch.no_grad():
        text, image = model.text_model, model.vision_model
        seen = text(input_ids=ids, **more)
        parts, text_rest = direct(
            text, seen.hidden_states, seen.attentions, ids.shape[1] - 1,
            text.final_layer_norm, model.text_projection,
        )
        seen = image(pixel_values=inputs, **more)
        patches, image_rest = direct(
            image, seen.hidden_states, seen.attentions, 0,
            image.post_layernorm, model.visual_projection,
        )
    of_words = torch.stack([parts[list(places)].sum(0) for places in tokens["words"]])
    text_rest = text_rest + parts[0] + parts[-1]
    image_rest, patches = image_rest + patches[0], patches[1:]
    whole = (of_words.sum(0) + text_rest).norm() * (patches.sum(0) + image_rest).norm()
    maps = (of_words @ patches.T / whole).reshape(len(of_words), SIZE // PATCH, SIZE // PATCH)
    found = found["pairs"]
    check("pairs", [word["map"] for word in found["words"]], maps)
    rest = found["remainder"]
    check("words alone", rest["words"], (of_words @ image_rest).sum() / whole)
    check("patches alone", rest["patches"], (patches @ text_rest).sum() / whole)
    check("neither", rest["neither"], text_rest @ image_rest / whole)
    check("pairs' sum", sum(rest.values()) + found["sum"], found["cosine"])


def main():
    longclip = Path(sys.argv[1]).resolve()
    random = np.random.default_rng(0)
    labels = ["a small red tricycle parked", "two zebras, running."]
    for text in labels:
        for word in text.split():
            done = subprocess.run(
                [longclip, "tokens", word, "-f", "jsonl"], capture_output=True, text=True, check=True
            )
            encoded[word] = json.loads(done.stdout)["ids"][1:-1]
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        for seed, activation in enumerate(["quick_gelu", "gelu"]):
            name = folder / activation
            model = random_model(name, activation, seed)
            samples = random.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            image = folder / "image.png"
            Image.fromarray(samples).save(image)
            for label in labels:
                [found] = run(
                    longclip, "explain", image, "--label", label, "--model", name, "--pairs",
                    "--regions", "occlusion", "--grid", "5",
                )
                words(longclip, name, folder, image, label, found)
                (folder / "label.txt").write_text(label + "\n")
                text = embedded(longclip, name, "--texts", folder / "label.txt")[0]
                regions(longclip, model, folder, samples / 255, text, found)
                pairs(model, label, samples / 255, found)
                check("pairs' cosine", found["pairs"]["cosine"], found["cosine"])
    for what, apart in worst.items():
        print(f"{what:16} off by at most {apart:.1e}")


encoded = {}
if __name__ == "__main__":
    main()
