"""Material for the comparison: generated checkpoints, exported graphs, labels, captions, images.

The checkpoints have real shapes and random weights: they take the time of real ones, but their
answers mean nothing. Everything is generated once into a folder and reused.
"""

import gzip
import importlib.util
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

IMAGE_SIZE = 224


@dataclass(frozen=True)
class Shape:
    #: Width, layers, heads, patch.
    vision: tuple
    #: Width, layers, heads, context.
    text: tuple
    embed: int
    image: int = IMAGE_SIZE
    #: Width of the image tower's MLP; None: four times the tower's.
    mlp: int | None = None
    activation: str = "quick_gelu"
    #: Type of the weights in the file.
    dtype: str = "float32"
    #: What the peers get: graphs, and graphs in int8.
    graphs: bool = True
    int8: bool = True

    @property
    def hidden(self):
        return self.mlp or 4 * self.vision[0]


MODELS = {
    "longclip-b16": Shape((768, 12, 12, 16), (512, 12, 8, 248), 512),
    "b32": Shape((768, 12, 12, 32), (512, 12, 8, 77), 512),
    "l14": Shape((1024, 24, 16, 14), (768, 12, 12, 77), 768),
    "l14-336": Shape((1024, 24, 16, 14), (768, 12, 12, 77), 768, image=336),
    # Heads of 80, 88 and 104 columns. The last has 10 GB in f32, too much for a peer's graph and
    # its copy in 24 GiB: the peers are compared on 8 of its 48 and 32 layers.
    "h14": Shape((1280, 32, 16, 14), (1024, 24, 16, 77), 1024, activation="gelu", int8=False),
    "g14": Shape((1408, 40, 16, 14), (1024, 24, 16, 77), 1024, mlp=6144, activation="gelu", int8=False),
    "bigg14": Shape(
        (1664, 48, 16, 14), (1280, 32, 20, 77), 1280, mlp=8192, activation="gelu", dtype="bfloat16",
        graphs=False, int8=False,
    ),
    "bigg14-8-layers": Shape(
        (1664, 8, 16, 14), (1280, 8, 20, 77), 1280, mlp=8192, activation="gelu", int8=False
    ),
}
#: Compared unless others are named: the rest takes up to 14 GB of disk each.
USUAL = ["longclip-b16", "b32", "l14"]
START_OF_TEXT, END_OF_TEXT = 49406, 49407
MEAN = [0.48145466, 0.4578275, 0.40821073]
STD = [0.26862954, 0.26130258, 0.27577711]

ADJECTIVES = (
    "red green blue old new small large wooden metal happy sad wet dry bright dark white black yellow "
    "broken clean dirty heavy light round square tall short soft hard fast slow hot cold quiet"
).split()
NOUNS = (
    "cat dog car tree house boat plane bird horse sheep cow bear zebra lamp chair table cup fork knife "
    "spoon bowl pizza cake apple orange bed sofa clock vase book"
).split()
CAPTION_WORDS = (
    "the a of and with in on near under behind beside while old young wooden golden distant river "
    "street market window mountain garden child woman man dog bicycle bridge tower cloud rain evening "
    "light shadow standing walking holding carrying watching running painted broken quiet crowded "
    "green blue narrow tall two three several many few smiling reading colorful empty sunlit snow"
).split()
# Tokens, including start and end.
CAPTION_LENGTHS = [20, 44, 69, 93, 118, 142, 167, 191, 216, 240]


def labels(count):
    """Distinct labels of one template; both words change from one to the next."""
    made = []
    for number in range(count):
        adjective = number % len(ADJECTIVES)
        noun = (adjective + number // len(ADJECTIVES)) % len(NOUNS)
        made.append(f"a photo of a {ADJECTIVES[adjective]} {NOUNS[noun]}")
    return made


def captions(tokens_of):
    """Free captions of CAPTION_LENGTHS tokens that share no prefix."""
    draw, made = random.Random(7), []
    for place, length in enumerate(CAPTION_LENGTHS):
        words = [NOUNS[place]]
        while len(tokens_of(" ".join(words))) < length:
            words.append(draw.choice(CAPTION_WORDS))
        made.append(" ".join(words))
    return made


def byte_pairs():
    """CLIP's vocabulary and merges, from the copy inside open_clip."""
    folder = Path(importlib.util.find_spec("open_clip").origin).parent
    lines = gzip.open(folder / "bpe_simple_vocab_16e6.txt.gz").read().decode("utf-8").split("\n")
    merges = lines[1 : 49152 - 256 - 2 + 1]
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    characters = [chr(byte) for byte in printable]
    characters += [chr(256 + place) for place in range(256 - len(printable))]
    vocabulary = characters + [character + "</w>" for character in characters]
    vocabulary += ["".join(merge.split()) for merge in merges]
    vocabulary += ["<|startoftext|>", "<|endoftext|>"]
    return {token: number for number, token in enumerate(vocabulary)}, merges


def make(folder, models):
    """Writes everything that is missing."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    make_texts(folder)
    for name in models:
        if not (folder / name / "complete").exists():
            make_checkpoint(folder / name, MODELS[name])
            if MODELS[name].graphs:
                export(folder / name, MODELS[name].int8)
            if MODELS[name].int8:
                export_int8(folder / name, folder / "tokens.json")
            (folder / name / "complete").touch()
    make_pictures(folder / "pictures")


def make_texts(folder):
    """labels.txt and captions.txt, and both as token ids in tokens.json."""
    from open_clip import SimpleTokenizer

    tokenizer = SimpleTokenizer()
    tokens_of = lambda text: [START_OF_TEXT, *tokenizer.encode(text), END_OF_TEXT]
    texts = {"labels": labels(1000), "captions": captions(tokens_of)}
    for name, lines in texts.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    tokens = {name: [tokens_of(text) for text in lines] for name, lines in texts.items()}
    (folder / "tokens.json").write_text(json.dumps(tokens))


def make_network(folder, shape):
    """config.json and model.safetensors."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    width, layers, heads, patch = shape.vision
    text_width, text_layers, text_heads, context = shape.text
    config = CLIPConfig(
        vision_config=dict(
            hidden_size=width, intermediate_size=shape.hidden, num_hidden_layers=layers,
            num_attention_heads=heads, patch_size=patch, image_size=shape.image,
            projection_dim=shape.embed, hidden_act=shape.activation,
        ),
        text_config=dict(
            hidden_size=text_width, intermediate_size=4 * text_width, num_hidden_layers=text_layers,
            num_attention_heads=text_heads, max_position_embeddings=context, vocab_size=49408,
            projection_dim=shape.embed, hidden_act=shape.activation, bos_token_id=START_OF_TEXT,
            eos_token_id=END_OF_TEXT, pad_token_id=END_OF_TEXT,
        ),
        projection_dim=shape.embed,
    )
    folder.mkdir(exist_ok=True)
    config.save_pretrained(folder)
    with torch.device("meta"):
        tensors = CLIPModel(config).state_dict()
    write_weights(folder / "model.safetensors", tensors, getattr(torch, shape.dtype))


def make_checkpoint(folder, shape):
    """A Hugging Face folder: config, weights, tokenizer, preprocessor."""
    from transformers import CLIPTokenizer

    make_network(folder, shape)
    vocabulary, merges = byte_pairs()
    pairs = [tuple(merge.split()) for merge in merges]
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=pairs, model_max_length=shape.text[3])
    tokenizer.save_pretrained(folder)
    preprocessor = dict(
        image_processor_type="CLIPImageProcessor", do_convert_rgb=True, do_resize=True,
        size=dict(shortest_edge=shape.image), resample=3, do_center_crop=True,
        crop_size=dict(height=shape.image, width=shape.image), do_rescale=True,
        rescale_factor=1 / 255, do_normalize=True, image_mean=MEAN, image_std=STD,
    )
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))


def write_weights(path, tensors, dtype):
    """Random numbers for these names and shapes, one after the other: all may exceed the memory."""
    import torch

    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * dtype.itemsize
        kind = {torch.float32: "F32", torch.bfloat16: "BF16"}[dtype]
        header[name] = {"dtype": kind, "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    draw = torch.Generator().manual_seed(0)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, tensor in tensors.items():
            values = torch.randn(tensor.numel(), generator=draw) * 0.02
            if "norm" in name and name.endswith("weight"):
                values += 1
            elif name == "logit_scale":
                values += 4.6
            file.write(values.to(dtype).view(torch.uint8).numpy())


def export(folder, int8=True):
    """vision.onnx and text.onnx with free batch and length, and copies in dynamic int8."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(folder, attn_implementation="eager").eval()

    class Vision(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tower, self.projection = model.vision_model, model.visual_projection

        def forward(self, x):
            return self.projection(self.tower(pixel_values=x).pooler_output)

    class Text(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.tower, self.projection = model.text_model, model.text_projection

        def forward(self, x):
            return self.projection(self.tower(input_ids=x).pooler_output)

    size = model.config.vision_config.image_size
    pixels = torch.zeros(2, 3, size, size)
    tokens = torch.tensor([[START_OF_TEXT, *range(320, 327), END_OF_TEXT]] * 2)
    for tower, example, name, free in (
        (Vision(), pixels, "vision", {0: "images"}),
        (Text(), tokens, "text", {0: "texts", 1: "tokens"}),
    ):
        path = folder / f"{name}.onnx"
        with torch.inference_mode():
            export_tower(tower, example, path, free)
        if int8:
            quantize_dynamic(
                path, folder / f"{name}.int8.onnx", weight_type=QuantType.QInt8, per_channel=True,
                op_types_to_quantize=["MatMul", "Gemm"],
            )


def export_tower(tower, example, path, free):
    """One graph with input x and output y; the dimensions `free` of x may have any size."""
    import torch

    common = dict(input_names=["x"], output_names=["y"])
    try:
        torch.onnx.export(
            tower, (example,), path, dynamic_axes={"x": free}, opset_version=17, dynamo=False, **common
        )
    except Exception as error:  # torch without the older exporter
        print(f"older exporter: {error}"[:300])
        shapes = ({place: torch.export.Dim.AUTO for place in free},)
        torch.onnx.export(tower, (example,), path, dynamic_shapes=shapes, dynamo=True, **common)


def export_int8(folder, tokens_file):
    """vision.nncf.xml and text.nncf.xml: OpenVINO's own int8, if NNCF is installed."""
    try:
        import nncf
    except ImportError:
        print("no NNCF: openvino-int8 will fail", file=sys.stderr)
        return
    import numpy as np
    import openvino

    draw = np.random.default_rng(0)
    size = json.loads((folder / "config.json").read_text())["vision_config"]["image_size"]
    lists = json.loads(tokens_file.read_text())["labels"][:64]
    examples = {
        "vision": [
            draw.standard_normal((1, 3, size, size)).astype(np.float32) for _ in range(8)
        ],
        "text": [np.array([tokens], np.int64) for tokens in lists],
    }
    for name, inputs in examples.items():
        model = openvino.Core().read_model(folder / f"{name}.onnx")
        data = nncf.Dataset(inputs)
        transformer = nncf.ModelType.TRANSFORMER
        smaller = nncf.quantize(model, data, model_type=transformer, subset_size=len(inputs))
        openvino.save_model(smaller, folder / f"{name}.nncf.xml")


def make_pictures(folder, distinct=10):
    """one.jpg of an ordinary size, and some of 12 megapixels for `many_pictures`."""
    import numpy as np
    from PIL import Image

    folder.mkdir(exist_ok=True)
    sizes = [("one.jpg", (1280, 960))]
    sizes += [(f"large-{number}.jpg", (4000, 3000)) for number in range(distinct)]
    for number, (name, (width, height)) in enumerate(sizes):
        if (folder / name).exists():
            continue
        draw = np.random.default_rng(number)
        # Shades at several scales plus grain: about as many bytes per pixel as photographs.
        shades = sum(
            np.asarray(
                Image.fromarray(draw.integers(0, 256, (side * 3 // 4, side, 3), np.uint8)).resize(
                    (width, height), Image.BICUBIC
                ),
                np.float32,
            )
            for side in (8, 40, 200)
        )
        grain = draw.normal(0, 4, (height, width, 1)).astype(np.float32)
        pixels = np.clip(shades / 3 + grain, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / name, quality=90)


def many_pictures(folder, count, kind="large"):
    """A folder of `count` JPEGs of which no two have the same pixels, so that no program can skip
    any: those of `kind`, each time with another step for one frequency."""
    sources = [path.read_bytes() for path in sorted((Path(folder) / "pictures").glob(f"{kind}*.jpg"))]
    target = Path(folder) / f"pictures-{kind}-{count}"
    target.mkdir(exist_ok=True)
    for number in range(count):
        name = target / f"{number:05}.jpg"
        if not name.exists():
            which, change = number % len(sources), number // len(sources)
            data = bytearray(sources[which])
            # The first table of steps: marker, length, number, then 64 bytes from the lowest
            # frequency on.
            data[data.index(b"\xff\xdb") + 5 + 1 + change % 30] += change // 30 + 1 if change else 0
            name.write_bytes(data)
    return target


if __name__ == "__main__":
    make(sys.argv[1], sys.argv[2:])
