"""Compares `longclip explain --regions legrad|grad-eclip` with the authors' code.

    pip install torch torchvision timm einops "open_clip_torch<=2.23.0" opencv-python-headless \\
        matplotlib ftfy regex
    python maps.py target/release/longclip LEGRAD GRAD_ECLIP CLIP

The last three are checkouts of WalBouss/LeGrad, Cyang-Zhao/Grad-Eclip and openai/CLIP. The models
are openai/CLIP's network with random weights. LeGrad runs on open_clip's network with the same
weights; of Grad-ECLIP, the functions of generate_emap.py run on openai/CLIP's (in f32, not f16; its
other imports are not needed). LeGrad's map is as large as the image, as its code gives it; all are
compared after stretching from 0 to 1. Fails above 1e-5.
"""

import ast
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

PROGRAM, LEGRAD, GRAD_ECLIP, CLIP = (str(Path(path).resolve()) for path in sys.argv[1:])
sys.path += [LEGRAD, CLIP, str(Path(__file__).resolve().parents[1] / "golden")]
TOLERANCE = 1e-5
TEXTS = ["a photo of a cat", "two dogs in the snow, seen from above"]
MEAN, DEVIATION = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]

from clip.model import CLIP as Network
from clip.simple_tokenizer import SimpleTokenizer
from randomise import randomise


def random_network(seed, layers, width, size):
    torch.manual_seed(seed)
    network = Network(80, size, layers, width, 16, 77, 49408, 64, 1, 2).float().eval()
    randomise(network, 1.5)
    return network


def tokens(text):
    coder = SimpleTokenizer()
    ids = [49406, *coder.encode(text), 49407]
    return torch.tensor([ids + [0] * (77 - len(ids))])


def stretched(grid):
    return (grid - grid.min()) / (grid.max() - grid.min())


def legrad(network, layers, width, size, pixels, text, count):
    import open_clip
    from legrad import LeWrapper

    model = open_clip.CLIP(
        80,
        {"image_size": size, "layers": layers, "width": width, "patch_size": 16},
        {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
        quick_gelu=True,
    )
    model.load_state_dict({name: t for name, t in network.state_dict().items()}, strict=False)
    wrapped = LeWrapper(model.float().eval(), layer_index=-count)
    return wrapped.compute_legrad_clip(text, pixels)[0, 0].detach()


def grad_eclip(network, pixels, text):
    source = Path(GRAD_ECLIP, "generate_emap.py").read_text().replace(".half()", ".float()")
    wanted = {"attention_layer", "clip_encode_dense", "grad_eclip"}
    tree = ast.parse(source)
    tree.body = [part for part in tree.body if isinstance(part, ast.FunctionDef) and part.name in wanted]
    assert len(tree.body) == len(wanted)
    scope = {"torch": torch, "F": F, "clipmodel": network}
    exec(compile(tree, "generate_emap.py", "exec"), scope)
    outputs, _, _, v, q_out, k_out, _, att_output, map_size = scope["clip_encode_dense"](pixels)
    cosine = (F.normalize(outputs[:, 0], dim=-1) @ text.T)[0]
    return scope["grad_eclip"](cosine, q_out, k_out, v, att_output, map_size).detach()


def main():
    worst = {"legrad": 0.0, "grad-eclip": 0.0}
    rng, count = np.random.default_rng(7), 0
    with tempfile.TemporaryDirectory() as room:
        room = Path(room)
        for seed, layers, width, size in [(1, 3, 128, 64), (2, 4, 64, 96), (3, 2, 192, 64)]:
            network = random_network(seed, layers, width, size)
            torch.save(network.state_dict(), room / "m.pt")
            for text in TEXTS:
                image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
                Image.fromarray(image).save(room / "i.png")
                pixels = (torch.tensor(image).float() / 255 - torch.tensor(MEAN)) / torch.tensor(DEVIATION)
                pixels = pixels.permute(2, 0, 1)[None]
                unit = F.normalize(network.encode_text(tokens(text)), dim=-1).detach()

                def ours(method, text=text):
                    arguments = ["explain", "i.png", "--label", text, "--words", "none", "--regions", method, "-f", "jsonl"]
                    fixed = ["-m", "m.pt", "--precision", "f32", "--device", "cpu", "-q"]
                    ran = subprocess.run([PROGRAM, *arguments, *fixed], check=True, cwd=room, stdout=subprocess.PIPE)
                    return torch.tensor(json.loads(ran.stdout)["regions"]["map"])

                found = F.interpolate(ours("legrad")[None, None], scale_factor=16, mode="bilinear")[0, 0]
                expected = legrad(network, layers, width, size, pixels, unit, 2)
                other = stretched(legrad(network, layers, width, size, pixels, unit, 1))
                off = (stretched(found) - expected).abs().max().item()
                worst["legrad"] = max(worst["legrad"], off)
                # Another number of layers must not go unnoticed.
                assert (expected - other).abs().max() > 1e-2
                expected = stretched(grad_eclip(network, pixels, unit))
                found = stretched(ours("grad-eclip"))
                worst["grad-eclip"] = max(worst["grad-eclip"], (found - expected).abs().max().item())
                count += 1
    print(f"{count} maps of each method; the worst number is off by")
    print(", ".join(f"{name} {off:.1e}" for name, off in worst.items()))
    assert max(worst.values()) <= TOLERANCE


main()
