"""Gradients of Long-CLIP's own loss and twenty training steps, from PyTorch.

    python training.py --openai-clip CLIP --long-clip LONGCLIP   # makes its expected file

CLIP and LONGCLIP are checkouts at the commits of reference.py. The model is `longclip-patch16.pt`,
the batch is drawn by a formula that the Rust test repeats (`numbers` below), the loss is the one
returned by the network's own `forward`: both terms, its SVD not detached, gathered over one
process. Twenty steps are PyTorch's AdamW over everything except `positional_embedding`, which
Long-CLIP freezes, with open_clip's schedule and clipped gradients. Gradients are stored as 16-bit
integers with a scale per tensor (1.5e-5 of the largest entry; the test allows 1e-4).

The script fails if a mistake would go unnoticed: a detached SVD, no label smoothing, gradients of
the wrong term.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

import networks
import pack

HERE = Path(__file__).resolve().parent
N, STEPS = 48, 20
# Far more weight decay than usual: Long-CLIP's 1e-2 would not change the loss in twenty steps.
RATE, WARM_UP, DECAY, CLIP = 1e-4, 4, 10.0, 1.0
START, END = 49406, 49407
MASK = (1 << 64) - 1


def numbers(seed, count):
    """Integers below 2^24 from a 64-bit xorshift."""
    state = (seed * 0x9E3779B97F4A7C15) & MASK | 1
    out = np.empty(count, np.int64)
    for i in range(count):
        state ^= (state << 13) & MASK
        state ^= state >> 7
        state ^= (state << 17) & MASK
        out[i] = state >> 40
    return out


def batch(size):
    """Pixels in [-2, 2) and captions: long ones of 60 to 247 tokens, short ones of 4 to 19."""
    pixels = numbers(1, N * 3 * size * size).astype(np.float64) / (1 << 24) * 4 - 2
    pixels = torch.from_numpy(pixels.astype(np.float32)).reshape(N, 3, size, size)
    lengths, short_lengths = 60 + numbers(2, N) % 188, 4 + numbers(3, N) % 16
    captions = []
    for which, counts in enumerate([lengths, short_lengths]):
        rows = torch.zeros(N, 248, dtype=torch.long)
        for i, count in enumerate(counts):
            words = 1 + numbers(100 + which * N + i, int(count) - 2) % 300
            rows[i, : int(count)] = torch.tensor([START, *words.tolist(), END])
        captions.append(rows)
    return pixels, *captions


def canonical(gradients):
    """openai/CLIP's names to Hugging Face's, as in src/checkpoint/layout."""
    out = {}
    for name, g in gradients.items():
        for old, new in [
            ("visual.transformer.resblocks.", "vision_model.encoder.layers."),
            ("transformer.resblocks.", "text_model.encoder.layers."),
            (".attn.out_proj.", ".self_attn.out_proj."),
            (".ln_1.", ".layer_norm1."),
            (".ln_2.", ".layer_norm2."),
            (".mlp.c_fc.", ".mlp.fc1."),
            (".mlp.c_proj.", ".mlp.fc2."),
            ("visual.ln_pre.", "vision_model.pre_layrnorm."),
            ("visual.ln_post.", "vision_model.post_layernorm."),
            ("visual.conv1.", "vision_model.embeddings.patch_embedding."),
        ]:
            name = name.replace(old, new)
        if ".attn.in_proj_" in name:
            path, kind = name.split(".attn.in_proj_")
            for part, value in zip("qkv", g.chunk(3)):
                out[f"{path}.self_attn.{part}_proj.{kind}"] = value
            continue
        name = {
            "visual.class_embedding": "vision_model.embeddings.class_embedding",
            "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
            "visual.proj": "visual_projection.weight",
            "text_projection": "text_projection.weight",
            "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
            "positional_embedding_res": "text_model.embeddings.position_embedding.weight",
            "ln_final.weight": "text_model.final_layer_norm.weight",
            "ln_final.bias": "text_model.final_layer_norm.bias",
        }.get(name, name)
        out[name] = g.t() if name in ("visual_projection.weight", "text_projection.weight") else g
    return out


def network(module, path):
    state = torch.load(path, map_location="cpu", weights_only=True)
    state = {name: tensor.float() for name, tensor in state.items() if tensor.ndim > 0 or name == "logit_scale"}
    model = module.build_model(dict(state), load_from_clip=False).float()
    model.load_state_dict(state)
    model.positional_embedding.requires_grad_(False)
    return model


def gradients_of(model, data):
    model.zero_grad()
    long, short = model(*data, 0)
    (long + short).backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    return long.item(), short.item(), found


def worst(found, expected):
    """The largest error of each tensor relative to its largest entry, and the worst of them."""
    largest = max(g.abs().max().item() for g in expected.values())
    shares = [
        (found[n] - g).abs().max().item() / (g.abs().max().item() + 1e-3 * largest) for n, g in expected.items()
    ]
    return max(shares)


def share(step):
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    return 0.5 * (1 + np.cos(np.pi * (step - WARM_UP) / (STEPS - WARM_UP)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--openai-clip", required=True, type=Path)
    parser.add_argument("--long-clip", required=True, type=Path)
    args = parser.parse_args()
    networks.load_sources(args.openai_clip, args.long_clip)
    module = networks.long_clip_model
    torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:29517", rank=0, world_size=1)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        pack.unpack(HERE / "checkpoints", Path(folder))
        path = Path(folder) / "longclip-patch16.pt"
        model = network(module, path)
        data = batch(model.visual.input_resolution)
        long, short, found = gradients_of(model, data)
        check_mistakes(module, path, data, found)
        losses = [list(step) for step in train(network(module, path), data, DECAY)]
        without = list(train(network(module, path), data, 0.0))[-1]
        print(f"no weight decay: {without[0] - losses[-1][0]:.1e}")
        assert abs(without[0] - losses[-1][0]) > 1e-2
    tensors = {"loss": torch.tensor([long, short], dtype=torch.float64), "steps": torch.tensor(losses)}
    for name, g in canonical(found).items():
        g = g.contiguous()
        if name.endswith("position_embedding.weight") and name.startswith("text"):
            g[:20] = 0
        if name.endswith("token_embedding.weight"):
            assert not g[301:START].any()
            g = torch.cat([g[:301], g[START:]])
        scale = g.abs().max() / 32767
        tensors[f"scale:{name}"] = scale.reshape(1)
        tensors[name] = (g / scale).round().to(torch.int16)
    save_file(tensors, HERE / "expected" / "training.safetensors")
    print(json.dumps({"long": long, "short": short, "last": losses[-1]}))


def train(model, data, decay):
    """Loss of both terms before each step, and the norm of its gradients."""
    optimizer = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=decay, betas=(0.9, 0.999), eps=1e-8
    )
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * share(step)
        long, short, _ = gradients_of(model, data)
        # Rows 0..20 of the second table are masked, so their gradient is zero.
        norm = torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], CLIP)
        optimizer.step()
        yield long, short, norm.item()


def check_mistakes(module, path, data, right):
    """Each mistake must move some gradient by far more than the tolerance."""
    pca, entropy = module.CLIP.PCA, module.F.cross_entropy
    mistakes = {
        "a detached SVD": ("PCA", lambda self, x, k: detached(x, k)),
        "components of unit length": ("PCA", lambda self, x, k: torch.nn.functional.normalize(pca(self, x, k))),
        "31 components": ("PCA", lambda self, x, k: pca(self, x, 31)),
    }
    for name, (method, wrong) in mistakes.items():
        setattr(module.CLIP, method, wrong)
        moved = worst(gradients_of(network(module, path), data)[2], right)
        setattr(module.CLIP, method, pca)
        print(f"{name}: {moved:.1e}")
        assert moved > 1e-3, name
    module.F.cross_entropy = lambda x, y, label_smoothing: entropy(x, y)
    moved = worst(gradients_of(network(module, path), data)[2], right)
    module.F.cross_entropy = entropy
    print(f"no label smoothing: {moved:.1e}")
    assert moved > 1e-3


def detached(x, k):
    mean = x.mean(0)
    centred = x - mean
    v = torch.linalg.svd(centred, full_matrices=False)[2].T[:, :k].detach()
    return centred @ v @ v.T + mean


if __name__ == "__main__":
    main()
