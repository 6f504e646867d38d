"""Packs a trained model into assets/tiny/model.bin.

    pack.py WORK

The format is specified in FORMAT.md next to the model. Every figure in the README is for the unpacked
weights, so it includes the loss due to packing.
"""

import hashlib
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import torch

import network
import train

MAGIC, VERSION = b"TINYCLIP", 1
BITS = 6  # per weight of a large matrix; positions use 8
HERE = Path(__file__).resolve().parents[1]


def hugging_face(model, vocabulary):
    """The tensors under Hugging Face's names, f32, with all 49,408 token rows."""
    state = {name: value.detach().float() for name, value in model.state_dict().items()}
    table = torch.zeros(49408, network.TEXT_WIDTH)
    table[torch.as_tensor(vocabulary)] = state["token_embedding.weight"][1:]
    tensors = {
        "logit_scale": state["logit_scale"],
        "text_model.embeddings.token_embedding.weight": table,
        "text_model.embeddings.position_embedding.weight": state["positional_embedding"],
        "text_projection.weight": state["text_projection"].T,
        "visual_projection.weight": state["visual.proj"].T,
        "vision_model.embeddings.class_embedding": state["visual.class_embedding"],
        "vision_model.embeddings.patch_embedding.weight": state["visual.conv1.weight"],
        "vision_model.embeddings.position_embedding.weight": state["visual.positional_embedding"],
    }
    norms = {"text_model.final_layer_norm": "ln_final", "vision_model.pre_layrnorm": "visual.ln_pre",
             "vision_model.post_layernorm": "visual.ln_post"}  # fmt: skip
    for name, ours in norms.items():
        for part in ("weight", "bias"):
            tensors[f"{name}.{part}"] = state[f"{ours}.{part}"]
    tensors |= blocks(state, "text_model", "", network.TEXT_LAYERS)
    tensors |= blocks(state, "vision_model", "visual.", network.VISION_LAYERS)
    return {name: value.contiguous() for name, value in tensors.items()}


BLOCK = {"self_attn.out_proj": "attn.out_proj", "layer_norm1": "ln_1", "mlp.fc1": "mlp.c_fc",
         "mlp.fc2": "mlp.c_proj", "layer_norm2": "ln_2"}  # fmt: skip


def blocks(state, tower, prefix, layers):
    """The tensors of a tower's blocks; OpenAI stacks the three projections, Hugging Face keeps them separate."""
    tensors = {}
    for layer in range(layers):
        theirs, ours = f"{tower}.encoder.layers.{layer}", f"{prefix}transformer.resblocks.{layer}"
        for part in ("weight", "bias"):
            stacked = state[f"{ours}.attn.in_proj_{part}"].chunk(3)
            for name, value in zip(("q_proj", "k_proj", "v_proj"), stacked):
                tensors[f"{theirs}.self_attn.{name}.{part}"] = value
            for name, own in BLOCK.items():
                tensors[f"{theirs}.{name}.{part}"] = state[f"{ours}.{own}.{part}"]
    return tensors


def quantised(rows, bits):
    """f16 scales [rows] and int8 codes [rows, columns]; `scale * code` in f32 is the weight.

    The scale is rounded to f16 and kept above zero *before* the division: a row of zeros gets codes
    of zero, not 0/0, and the codes compensate for the rounding.
    """
    most = 2 ** (bits - 1) - 1
    scales = (np.abs(rows).max(1) / most).astype(np.float16)
    scales = np.maximum(scales, np.float16(6e-8))
    codes = np.rint(rows / scales.astype(np.float32)[:, None])
    return scales, np.clip(codes, -most, most).astype(np.int8)


def encode(name, value, vocabulary):
    """(table entry, bytes) of a tensor."""
    array = value.numpy().astype(np.float32)
    entry = {"name": name, "shape": list(array.shape)}
    if name == "logit_scale":
        return entry | {"encoding": "f32"}, array.astype("<f4").tobytes()
    if array.ndim == 1:
        return entry | {"encoding": "f16"}, array.astype("<f2").tobytes()
    rows = array.reshape(len(array), -1)
    ids = b""
    if "token_embedding" in name:
        rows, ids = rows[vocabulary], np.array(vocabulary, "<u2").tobytes()
        entry |= {"encoding": "i8-rows", "rows": len(vocabulary)}
    else:
        entry |= {"encoding": "i8"}
    scales, codes = quantised(rows, 8 if "position" in name else BITS)
    return entry, ids + scales.astype("<f2").tobytes() + codes.tobytes()


def packed(tensors, vocabulary, about):
    """Builds the bytes of model.bin."""
    table, body = [], b""
    for name, value in sorted(tensors.items()):
        entry, data = encode(name, value, vocabulary)
        table.append(entry | {"offset": len(body), "bytes": len(data)})
        body += data
    header = json.dumps(about | {"tensors": table}, separators=(",", ":")).encode()
    payload = struct.pack("<I", len(header)) + header + body
    return (
        MAGIC + struct.pack("<II", VERSION, len(payload)) + hashlib.sha256(payload).digest()
        + zlib.compress(payload, 9)
    )  # fmt: skip


def unpacked(blob):
    """(about, tensors as f32 arrays) of model.bin: a reader written after FORMAT.md."""
    version, length = struct.unpack_from("<II", blob, 8)
    assert blob[:8] == MAGIC and version == VERSION, "not a packed model"
    payload = zlib.decompress(blob[48:])
    assert len(payload) == length and hashlib.sha256(payload).digest() == blob[16:48], "damaged"
    (size,) = struct.unpack_from("<I", payload)
    about, body = json.loads(payload[4 : 4 + size]), payload[4 + size :]
    return about, {e["name"]: decode(e, body[e["offset"] :][: e["bytes"]]) for e in about["tensors"]}


def decode(entry, data):
    """Decodes a tensor from its table entry and bytes."""
    shape, encoding = entry["shape"], entry["encoding"]
    if encoding in ("f16", "f32"):
        return np.frombuffer(data, "<f2" if encoding == "f16" else "<f4").astype(np.float32).reshape(shape)
    rows, columns = entry.get("rows", shape[0]), int(np.prod(shape[1:]))
    at = 2 * rows if encoding == "i8-rows" else 0
    scales = np.frombuffer(data, "<f2", rows, at).astype(np.float32)
    values = scales[:, None] * np.frombuffer(data, "i1", rows * columns, at + 2 * rows).reshape(rows, columns)
    if encoding == "i8-rows":
        whole = np.zeros((shape[0], columns), np.float32)
        whole[np.frombuffer(data, "<u2", rows)] = values
        values = whole
    return values.astype(np.float32).reshape(shape)


def openai(tensors):
    """The same tensors in OpenAI's and Long-CLIP's layout."""
    state = {
        "logit_scale": tensors["logit_scale"],
        "token_embedding.weight": tensors["text_model.embeddings.token_embedding.weight"],
        "text_projection": tensors["text_projection.weight"].T,
        "visual.proj": tensors["visual_projection.weight"].T,
        "visual.class_embedding": tensors["vision_model.embeddings.class_embedding"],
        "visual.conv1.weight": tensors["vision_model.embeddings.patch_embedding.weight"],
        "visual.positional_embedding": tensors["vision_model.embeddings.position_embedding.weight"],
    }
    positions = tensors["text_model.embeddings.position_embedding.weight"]
    state["positional_embedding"] = positions
    if len(positions) == network.LONG_CONTEXT:
        # Long-CLIP keeps two tables and combines the first 20 rows of one with the rest of the
        # other.
        state["positional_embedding_res"] = positions.clone()
    norms = {"text_model.final_layer_norm": "ln_final", "vision_model.pre_layrnorm": "visual.ln_pre",
             "vision_model.post_layernorm": "visual.ln_post"}  # fmt: skip
    for theirs, ours in norms.items():
        for part in ("weight", "bias"):
            state[f"{ours}.{part}"] = tensors[f"{theirs}.{part}"]
    for tower, prefix, layers in (("text_model", "", network.TEXT_LAYERS),
                                  ("vision_model", "visual.", network.VISION_LAYERS)):  # fmt: skip
        for layer in range(layers):
            theirs, ours = f"{tower}.encoder.layers.{layer}", f"{prefix}transformer.resblocks.{layer}"
            for part in ("weight", "bias"):
                projections = [tensors[f"{theirs}.self_attn.{p}_proj.{part}"] for p in "qkv"]
                state[f"{ours}.attn.in_proj_{part}"] = torch.cat(projections)
                for name, own in BLOCK.items():
                    state[f"{ours}.{own}.{part}"] = tensors[f"{theirs}.{name}.{part}"]
    return {name: value.contiguous() for name, value in state.items()}


def restored(tensors):
    """The network of this folder with unpacked tensors."""
    vocabulary = list(range(49408))
    state = openai(tensors)
    state.pop("positional_embedding_res", None)
    table = state["token_embedding.weight"]
    state["token_embedding.weight"] = torch.cat([torch.zeros(1, table.shape[1]), table])
    model = network.Clip(vocabulary, len(state["positional_embedding"]))
    model.load_state_dict(state)
    return model.eval()


def pack(model, vocabulary, about, target=HERE / "model.bin"):
    """Writes model.bin and returns the unpacked tensors."""
    blob = packed(hugging_face(model, vocabulary), vocabulary, about)
    target.write_bytes(blob)
    _, arrays = unpacked(blob)
    return {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}


def main(work):
    model, state = train.load(Path(work) / "tune.pt")
    base = torch.load(Path(work) / "base.pt", weights_only=True)
    about = {
        "name": "tiny", "image_size": network.IMAGE, "patch_size": network.PATCH,
        "context_length": len(state["model"]["positional_embedding"]), "activation": "quick_gelu",
        "samples": base["samples"] + state["samples"],
    }  # fmt: skip
    pack(model, state["vocabulary"], about)
    print(f"model.bin: {(HERE / 'model.bin').stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1])
