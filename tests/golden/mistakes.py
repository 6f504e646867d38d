"""Deliberate mistakes, and how far each moves the embeddings: a fixture is good if none goes unnoticed."""

from dataclasses import replace

import torch

import networks

TOLERANCE = 2e-5  # tolerance of the Rust side in a unit embedding
VISIBLE = 10 * TOLERANCE  # minimum change by every mistake


def difference(ours, theirs):
    """Largest absolute difference of two (image, text) pairs of embeddings."""
    return [float((a - b).abs().max()) for a, b in zip(ours, theirs)]


def least_change(ours, theirs):
    """The largest element-wise change of the least affected image and text."""
    return [float((a - b).abs().amax(-1).min()) for a, b in zip(ours, theirs)]


def transposed(name):
    return lambda state: state | {name: state[name].T.contiguous()}


def swapped(pattern, order):
    """Query, key and value in another order."""

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


# mistake: (affected tower: 0 image, 1 text; change of the weights; cases it applies to)
MISTAKES = {
    "text projection transposed": (1, transposed("text_projection"), lambda c: c.embed == 64 and c.blocks == "P"),
    "image projection transposed": (0, transposed("visual.proj"), lambda c: c.embed == 64 and c.blocks == "Q"),
    "image query and key swapped": (0, swapped("visual.transformer.resblocks.1.attn.in_", (1, 0, 2)), lambda c: True),
    "text key and value swapped": (1, swapped("transformer.resblocks.1.attn.in_", (0, 2, 1)), lambda c: True),
    "only the first table": (2, one_table(0), lambda c: c.tables == 2),
    "only the second table": (1, one_table(1), lambda c: c.tables == 2),
    "weights rounded to half": (3, halved, lambda c: not c.name.startswith("openai")),
}


def of_weights(case, state, pixels, ids, result):
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


def of_pixels(case, state, pixels, ids, result, pictures):
    """The same images resized with another filter, or cropped from a corner that is rounded down."""
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

    size, measured = case.image_size, {}
    finish = [ToTensor(), Normalize((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))]
    filters = ("bilinear", "lanczos", "box")
    ways = {way: [Resize(size, InterpolationMode[way.upper()]), CenterCrop(size)] for way in filters}
    ways["corner rounded down"] = [Resize(size, InterpolationMode.BICUBIC), lambda picture: floor_crop(picture, size)]
    for way, steps in ways.items():
        transform = Compose(steps + finish)
        changed = pixels.clone()
        for i, picture in enumerate(pictures):
            changed[2 + i] = transform(picture.convert("RGB"))
        moved = (networks.hugging_face(case, state, changed, ids)[0] - result[0]).abs().amax(-1)
        # The two PNGs were cropped so that the corner differs at every size; the JPEG's does not.
        measured[way] = float(moved[2:4].min() if "corner" in way else moved[2:].min())
        assert measured[way] > VISIBLE, (case.name, measured)
    return measured


def floor_crop(picture, size):
    left, top = (picture.width - size) // 2, (picture.height - size) // 2
    return picture.crop((left, top, left + size, top + size))
