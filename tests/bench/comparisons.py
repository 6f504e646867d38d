"""Which of our figures is compared with which of the peers', and the target ratio.

A ratio is peer / ours: above 1 we are faster, or smaller. If several peers are named, the best of
them counts. A target of None is shown but not judged.
"""

from dataclasses import dataclass


@dataclass
class Comparison:
    what: str
    ours: str
    peers: list
    figure: str
    part: str = "steady"
    target: float | None = 1.0
    #: Models it applies to; none means all.
    models: tuple = ()


# Ours in a precision, and the peers that compute in it.
SAME_PRECISION = {
    "f32": ["onnxruntime-f32", "openvino-f32"],
    "bf16": ["openvino-bf16"],
    "int8": ["onnxruntime-int8"],
    "int8-fast": ["onnxruntime-int8"],
}
FIGURES = {
    "image, batch of 1": "image_b1_ms",
    "image, batch of 16": "image_b16_ms",
    "1000 labels of one template, unpadded": "labels1000_ms",
    "10 captions of 20 to 240 tokens, unpadded": "captions10_ms",
}

#: Target ratios on two cores: batch of 1, batch of 16.
IMAGE_TARGETS = {"f32": (1.1, 1.1), "bf16": (1.2, 1.1), "int8": (1.1, 1.15), "int8-fast": (1.25, 1.55)}
#: The same without AVX-512: nothing multiplies bf16, and the peer of that name computes in f32.
NARROW_TARGETS = {"f32": (1.1, 1.1), "bf16": (None, None), "int8": (1.0, 1.0), "int8-fast": (1.15, 1.15)}


def target(precision, figure, narrow):
    one, sixteen = (NARROW_TARGETS if narrow else IMAGE_TARGETS)[precision]
    return {"image_b1_ms": one, "image_b16_ms": sixteen, "labels1000_ms": 2.2, "captions10_ms": 1.2}[figure]


def comparisons(isa):
    """All comparisons, with the targets of `isa`; None: of AVX-512."""
    narrow = isa in ("avx2", "avx-vnni")
    same = [
        Comparison(f"{precision}: {what}", f"ours-{precision}", peers, figure, target=target(precision, figure, narrow))
        for precision, peers in SAME_PRECISION.items()
        for what, figure in FIGURES.items()
    ]
    return same + COMPARISONS


COMPARISONS = [
    Comparison("f32: 10 labels, they pad to 248", "ours-f32", [peer], "labels10_ms", target=60.0, models=("longclip-b16",))
    for peer in ("longclip_code-f32", "open_clip-f32")
]
COMPARISONS += [
    Comparison(f"{precision}: process, one image, 2 labels", f"ours-{precision}", [peer], "process_ms", "whole", least)
    for precision in ("f32", "bf16")
    for peer, least in (("onnxruntime-f32", 4.0), ("transformers-f32", 20.0))
]
COMPARISONS += [
    Comparison("bf16: process, folder of 12 megapixels", "ours-bf16", ["openvino-bf16"], "process_ms", "folder", least, models)
    for models, least in ((("longclip-b16", "l14"), 1.35), (("b32",), 1.7))
]
COMPARISONS += [
    Comparison("bf16: peak MiB, one image", "ours-bf16", ["openvino-bf16"], "process_peak_mib", "whole", 2.0),
    Comparison("bf16: peak MiB, all figures", "ours-bf16", ["openvino-bf16"], "process_peak_mib"),
]
# Shown for orientation: other programs and precisions against the nearest of ours.
COMPARISONS += [
    Comparison(f"{precision}: {what}", f"ours-{precision}", [peer], figure, target=None)
    for precision, peer in (
        ("f32", "transformers-f32"),
        ("bf16", "transformers-bf16"),
        ("f32", "candle-f32"),
        ("int8", "openvino-int8"),
        ("int8-fast", "openvino-int8"),
    )
    for what, figure in FIGURES.items()
]


def ratio_rows(medians, comparisons):
    """medians[model][part][program][figure] -> a row for each comparison that has both sides."""
    rows = []
    for model, parts in medians.items():
        for comparison in comparisons:
            if comparison.models and model not in comparison.models:
                continue
            programs = parts.get(comparison.part, {})
            figures = {name: of.get(comparison.figure) for name, of in programs.items()}
            ours = figures.get(comparison.ours)
            peers = [(figures.get(name), name) for name in comparison.peers]
            peers = [(figure, name) for figure, name in peers if figure is not None]
            if ours is None or not peers:
                continue
            peer, name = min(peers)
            rows.append({
                "model": model,
                "what": comparison.what,
                "ours": ours,
                "peer": peer,
                "peer_name": name,
                "ratio": peer / ours,
                "target": comparison.target,
            })
    return rows
