"""Runs one peer in this process and prints one JSON object; compare.py starts it.

  peers.py steady PEER CHECKPOINT TOKENS     medians of a warm process
  peers.py whole  PEER CHECKPOINT IMAGE      one image, two labels, from start to answer
  peers.py folder PEER CHECKPOINT FOLDER     a folder of images, with one process per core

A peer is LIBRARY-PRECISION. Texts reach transformers, onnxruntime and OpenVINO in whichever way is
faster for them: in one batch padded to its longest, or sorted into batches of one length with no
padding at all. open_clip and Long-CLIP's own code always pad to the context.
"""

import argparse
import functools
import importlib.util
import json
import os
import statistics
import sys
import time
from pathlib import Path

from material import END_OF_TEXT, MEAN, STD

TEXT_BATCH = 256
LABELS = ["a cat jumping", "a cat sleeping"]


# ------------------------------------------- the peers: (pixels -> y, ids -> y)

def transformers(precision, folder, threads):
    import torch
    from transformers import CLIPModel

    torch.set_num_threads(threads)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    model = CLIPModel.from_pretrained(folder, attn_implementation="sdpa", dtype=dtype).eval()

    def image(pixels):
        with torch.inference_mode():
            pooled = model.vision_model(pixel_values=torch.from_numpy(pixels).to(dtype)).pooler_output
            return model.visual_projection(pooled).float().numpy()

    def text(ids):
        with torch.inference_mode():
            pooled = model.text_model(input_ids=torch.from_numpy(ids)).pooler_output
            return model.text_projection(pooled).float().numpy()

    return image, text


def open_clip(precision, folder, threads):
    import torch
    from open_clip.model import CLIP

    torch.set_num_threads(threads)
    config = json.loads((folder / "config.json").read_text())
    vision, words = config["vision_config"], config["text_config"]
    heads = vision["hidden_size"] // vision["num_attention_heads"]
    model = CLIP(
        embed_dim=config["projection_dim"], quick_gelu=vision["hidden_act"] == "quick_gelu",
        vision_cfg=dict(
            layers=vision["num_hidden_layers"], width=vision["hidden_size"], head_width=heads,
            patch_size=vision["patch_size"], image_size=vision["image_size"],
            mlp_ratio=vision["intermediate_size"] / vision["hidden_size"],
        ),
        text_cfg=dict(
            layers=words["num_hidden_layers"], width=words["hidden_size"],
            heads=words["num_attention_heads"], context_length=words["max_position_embeddings"],
        ),
    )
    return torch_towers(model, torch.bfloat16 if precision == "bf16" else torch.float32)


def longclip_code(precision, folder, threads):
    """The model of a checkout of Long-CLIP at $LONGCLIP_CODE, in PyTorch f32."""
    import torch

    path = Path(os.environ["LONGCLIP_CODE"]) / "model" / "model_longclip.py"
    spec = importlib.util.spec_from_file_location("model_longclip", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.set_num_threads(threads)
    config = json.loads((folder / "config.json").read_text())
    vision, words = config["vision_config"], config["text_config"]
    model = module.CLIP(
        embed_dim=config["projection_dim"], image_resolution=vision["image_size"],
        vision_layers=vision["num_hidden_layers"], vision_width=vision["hidden_size"],
        vision_patch_size=vision["patch_size"], context_length=words["max_position_embeddings"],
        vocab_size=words["vocab_size"], transformer_width=words["hidden_size"],
        transformer_heads=words["num_attention_heads"],
        transformer_layers=words["num_hidden_layers"], load_from_clip=False,
    )
    for table in (model.positional_embedding, model.positional_embedding_res):
        torch.nn.init.normal_(table, std=0.01)
    return torch_towers(model, torch.float32)


def torch_towers(model, dtype):
    import torch

    model = model.eval().to(dtype)

    def image(pixels):
        with torch.inference_mode():
            return model.encode_image(torch.from_numpy(pixels).to(dtype)).float().numpy()

    def text(ids):
        with torch.inference_mode():
            return model.encode_text(torch.from_numpy(ids)).float().numpy()

    return image, text


def onnxruntime(precision, folder, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    ending = ".int8.onnx" if precision == "int8" else ".onnx"

    def tower(name):
        session = ort.InferenceSession(
            str(folder / (name + ending)), options, providers=["CPUExecutionProvider"]
        )
        return lambda x: session.run(None, {"x": x})[0]

    return tower("vision"), tower("text")


def openvino(precision, folder, threads):
    import openvino as ov

    core = ov.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32" if precision == "f32" else "bf16",
    }
    ending = ".nncf.xml" if precision == "int8" else ".onnx"

    def tower(name):
        model = core.compile_model(core.read_model(folder / (name + ending)), "CPU", settings)
        return lambda x: model([x])[0]

    return tower("vision"), tower("text")


LIBRARIES = {
    "transformers": transformers,
    "open_clip": open_clip,
    "longclip_code": longclip_code,
    "onnxruntime": onnxruntime,
    "openvino": openvino,
}
PAD_TO_CONTEXT = ("open_clip", "longclip_code")


def load(peer, folder, threads):
    library, _, precision = peer.partition("-")
    return LIBRARIES[library](precision, Path(folder), threads)


# ------------------------------------------------------------------------------------ warm medians

def padded(lists, length):
    """Token lists -> ids [texts, length]; CLIP ignores everything after the first end of text."""
    import numpy as np

    ids = np.full((len(lists), length), END_OF_TEXT, np.int64)
    for row, tokens in zip(ids, lists):
        row[: len(tokens)] = tokens
    return ids


def batches(lists, length=None):
    """Ids in batches padded to `length` or to the longest of all."""
    length = length or max(map(len, lists))
    return [padded(lists[at : at + TEXT_BATCH], length) for at in range(0, len(lists), TEXT_BATCH)]


def exact_batches(lists):
    """Ids in batches of equal length."""
    lengths = sorted({len(tokens) for tokens in lists})
    groups = [[tokens for tokens in lists if len(tokens) == length] for length in lengths]
    return [batch for group in groups for batch in batches(group)]


def median_ms(call, budget):
    call()
    times, begin = [], time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - begin < budget and len(times) < 50):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e3


def steady(peer, folder, tokens, threads, budget, towers):
    import numpy as np

    start = time.perf_counter()
    image, text = load(peer, folder, threads)
    report = {"load_ms": (time.perf_counter() - start) * 1e3}
    draw = np.random.default_rng(0)
    size = image_size(folder)
    for count in (1, 16) if "images" in towers else ():
        pixels = draw.standard_normal((count, 3, size, size)).astype(np.float32)
        report[f"image_b{count}_ms"] = median_ms(functools.partial(image, pixels), budget)
    if "texts" not in towers:
        return report
    tokens = json.loads(Path(tokens).read_text())
    config = json.loads((Path(folder) / "config.json").read_text())
    context = config["text_config"]["max_position_embeddings"]
    sets = {f"labels{count}": tokens["labels"][:count] for count in (2, 10, 100, 1000)}
    if max(map(len, tokens["captions"])) <= context:
        sets["captions10"] = tokens["captions"]
    if peer.partition("-")[0] in PAD_TO_CONTEXT:
        # A thousand padded labels take minutes and show nothing that a hundred do not.
        sets.pop("labels1000")
        for name, lists in sets.items():
            report[f"{name}_ms"] = time_batches(text, batches(lists, context), budget)
    else:
        for name, lists in sets.items():
            ways = (batches(lists), exact_batches(lists))
            report[f"{name}_ms"] = min(time_batches(text, way, budget) for way in ways)
        full = batches(tokens["labels"][:10], context)
        report["labels10_full_context_ms"] = time_batches(text, full, budget)
    return report


def time_batches(text, ids, budget):
    return median_ms(lambda: [text(batch) for batch in ids], budget)


# ------------------------------------------------------------------------------- whole processes

def image_size(folder):
    return json.loads((Path(folder) / "config.json").read_text())["vision_config"]["image_size"]


def pixels_of(path, side):
    """Decode, resize, crop and normalise, as in CLIP -> [3, side, side]."""
    import numpy as np
    from PIL import Image

    image = Image.open(path).convert("RGB")
    scale = side / min(image.size)
    size = [max(side, int(length * scale)) for length in image.size]
    image = image.resize(size, Image.BICUBIC)
    left, top = (size[0] - side) // 2, (size[1] - side) // 2
    image = image.crop((left, top, left + side, top + side))
    values = np.asarray(image, np.float32) / 255
    values = (values - np.float32(MEAN)) / np.float32(STD)
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def label_ids(folder):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
    return batches([encoded.ids for encoded in tokenizer.encode_batch(LABELS)])[0]


def probabilities(image, labels):
    import numpy as np

    image = image / np.linalg.norm(image)
    labels = labels / np.linalg.norm(labels, axis=1, keepdims=True)
    logits = 100 * labels @ image
    powers = np.exp(logits - logits.max())
    return (powers / powers.sum()).tolist()


def whole(peer, folder, image_path, threads):
    image, text = load(peer, folder, threads)
    embedding = image(pixels_of(image_path, image_size(folder))[None])[0]
    return {"probabilities": probabilities(embedding, text(label_ids(folder)))}


def share(arguments):
    """One process's images -> their embeddings."""
    peer, folder, paths = arguments
    image, _ = load(peer, folder, 1)
    side = image_size(folder)
    return [image(pixels_of(path, side)[None])[0] for path in paths]


def folder_of_pictures(peer, folder, pictures, processes):
    from multiprocessing import get_context

    paths = sorted(map(str, Path(pictures).iterdir()))
    shares = [(peer, folder, paths[start::processes]) for start in range(processes)]
    with get_context("spawn").Pool(processes) as pool:
        answers = pool.map_async(share, shares)
        _, text = load(peer, folder, 1)
        labels = text(label_ids(folder))
        embeddings = [one for share_of in answers.get() for one in share_of]
    results = [probabilities(embedding, labels) for embedding in embeddings]
    return {"images": len(results), "first": results[0]}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=["steady", "whole", "folder"])
    parser.add_argument("peer")
    parser.add_argument("checkpoint")
    parser.add_argument("input")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--budget", type=float, default=1.5, help="seconds for each figure")
    parser.add_argument("--towers", default="images,texts", help="what the mode steady measures")
    options = parser.parse_args()
    common = (options.peer, options.checkpoint, options.input, options.threads)
    if options.mode == "steady":
        report = steady(*common, options.budget, options.towers.split(","))
    else:
        report = {"whole": whole, "folder": folder_of_pictures}[options.mode](*common)
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
