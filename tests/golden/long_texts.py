"""Texts longer than the context, in a few lines of PyTorch: the chunks, and how they become one
embedding.

    python long_texts.py --openai-clip CLIP     # writes expected/long_texts.json

CLIP is a checkout at the commit of reference.py. The tokenizer and the network are openai/CLIP's
own; a context of 248 is the same network with Long-CLIP's two tables folded into one. The image
embeddings are those of the expected files. Fails if averaging without weights, or without
normalising chunks, would go unnoticed.
"""

import argparse
import json
import sys
import tempfile
from itertools import chain
from pathlib import Path

import torch
from safetensors.torch import load_file

import pack

HERE = Path(__file__).resolve().parent
LONG_1 = (
    "Two small dogs, one brown and one white, don't look at the camera: they are asleep on a striped blanket "
    "beside a half-eaten sandwich; behind them stands an old bicycle without its front wheel. "
)
LONG_2 = "Antidisestablishmentarianism 2024 👍 was debated in an overcrowded, badly lit hall by the harbour. "
SHORT = "a photo of a cat."
CLASSES = [[LONG_1 * 13], [LONG_2 * 17, SHORT, LONG_1 * 8 + LONG_2], [SHORT]]
CASES = [
    ("openai-patch14.safetensors", "openai-patch14", 77, 25),
    ("longclip-patch16.pt", "longclip-patch16", 248, 100),
]


def state_of(path):
    state = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    state = {name: tensor.float() for name, tensor in state.items() if tensor.ndim > 0 or name == "logit_scale"}
    rest = state.pop("positional_embedding_res", None)
    if rest is not None:
        state["positional_embedding"] = torch.cat([state["positional_embedding"][:20], rest[20:]])
    return state


def network(model, state):
    """openai/CLIP's network; its loader rounds matrices to half precision, so the file's numbers
    are loaded again."""
    clip = model.build_model(dict(state)).float()
    clip.load_state_dict(state)
    return clip.eval()


def words_of(tokenizer, clean, text):
    """The token ids of each space-separated word."""
    return [tokenizer.encode(word) for word in clean(text).split(" ")]


def cut(words, room, stride):
    """Chunks of whole words; with a stride, windows that start at least that many tokens apart."""
    chunks, first = [], 0
    while True:
        last, size = first, 0
        while last < len(words) and size + len(words[last]) <= room:
            size += len(words[last])
            last += 1
        chunks.append(list(chain.from_iterable(words[first:last])))
        if last == len(words):
            return chunks
        skipped, begin = 0, first
        while stride and skipped < stride:
            skipped += len(words[begin])
            begin += 1
        first = min(begin, last) if stride else last


@torch.no_grad()
def embed(clip, chunks):
    rows = []
    for chunk in chunks:
        ids = torch.zeros(1, clip.context_length, dtype=torch.long)
        ids[0, : len(chunk) + 2] = torch.tensor([49406, *chunk, 49407])
        row = clip.encode_text(ids)[0].double()
        rows.append(row / row.norm())
    return torch.stack(rows)


def unit(row):
    return row / row.norm()


def weighted(rows, chunks):
    if len(chunks) == 1:
        return rows[0]
    return unit((rows * torch.tensor([len(chunk) for chunk in chunks]).double()[:, None]).sum(0))


def cosines(images, classes, reading):
    """[images][classes]; a class is a list of (rows, chunks), one per prompt."""
    answer = []
    for image in images:
        row = []
        for prompts in classes:
            if reading == "best":
                chosen = [rows[(rows @ image).argmax()] for rows, _ in prompts]
            else:
                chosen = [weighted(rows, chunks) for rows, chunks in prompts]
            row.append(float(unit(torch.stack(chosen).sum(0)) @ image))
        answer.append(row)
    return answer


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--openai-clip", type=Path, required=True)
    options = parser.parse_args()
    sys.path.insert(0, str(options.openai_clip))
    from clip import model, simple_tokenizer

    tokenizer = simple_tokenizer.SimpleTokenizer()

    def clean(text):
        return simple_tokenizer.whitespace_clean(simple_tokenizer.basic_clean(text)).lower()

    written = []
    with tempfile.TemporaryDirectory() as folder:
        pack.unpack(HERE / "checkpoints", folder)
        for path, case, context, stride in CASES:
            clip = network(model, state_of(Path(folder) / path))
            images = load_file(HERE / f"expected/{case}.safetensors")["image_embeddings"].double()
            ways = []
            for policy, step, reading in [
                ("chunk-mean", None, "mean"),
                ("slide", stride, "mean"),
                ("slide", (context - 2) // 2, "mean"),
                ("best-chunk", None, "best"),
            ]:
                fitted = []
                for prompts in CLASSES:
                    chunked = [cut(words_of(tokenizer, clean, text), context - 2, step) for text in prompts]
                    fitted.append([(embed(clip, chunks), chunks) for chunks in chunked])
                answer = cosines(images, fitted, reading)
                if reading == "mean":
                    plain = [[(rows, [[0]] * len(chunks)) for rows, chunks in prompts] for prompts in fitted]
                    moved = torch.tensor(cosines(images, plain, reading)) - torch.tensor(answer)
                    assert moved.abs().max() > 2e-4, "wrong weights would go unnoticed"
                ways.append(
                    {
                        "policy": policy,
                        "stride": step,
                        "chunks": [[chunks for _, chunks in prompts] for prompts in fitted],
                        "cosines": answer,
                    }
                )
            assert max(len(chunks) for way in ways for prompts in way["chunks"] for chunks in prompts) > 2
            written.append({"checkpoint": path, "case": case, "context_length": context, "ways": ways})
    content = {"classes": CLASSES, "cases": written}
    path = HERE / "expected/long_texts.json"
    path.write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
