"""Cases x…: other findings of the same round."""

import base64
import csv
import io
import json
import os

from bench import DRAWING, PHOTOGRAPH

SUN_OR_HEART = ["--labels", "sun", "heart", "--model", "tiny"]


def output_suffixes(bench):
    for name in ("out.parquet", "out.html", "out.xlsx", "out.npy"):
        answer = bench.run("classify", DRAWING, *SUN_OR_HEART, "-o", name)
        bench.refused(f"classify -o {name}", answer, name[3:])
        bench.note(f"{name} is not written", not (bench.folder / name).exists(), "")
    answer = bench.run("embed", DRAWING, "--model", "tiny", "-o", "out.xlsx")
    bench.refused("embed -o out.xlsx", answer, "xlsx")
    answer = bench.run("classify", DRAWING, *SUN_OR_HEART, "-o", "out.data", "--format", "csv")
    bench.note("--format csv -o out.data", answer.status == 0 and (bench.folder / "out.data").exists(), answer.said)


def kernels(bench):
    answer = bench.run("classify", DRAWING, *SUN_OR_HEART, env={"LONGCLIP_KERNEL": "sse9"})
    bench.refused("LONGCLIP_KERNEL=sse9", answer, "LONGCLIP_KERNEL", "sse9", "avx2")
    answer = bench.run("classify", DRAWING, *SUN_OR_HEART, env={"LONGCLIP_KERNEL": "scalar"})
    bench.note("LONGCLIP_KERNEL=scalar", answer.status == 0, answer.said)


def names_of_keys(bench):
    record = bench.run("embed", DRAWING, "--model", "tiny").records[0]
    bench.note("embed's JSON lines", record.get("image") == record.get("path") == str(DRAWING), f"{sorted(record)}")


def bytes_of_names(bench):
    name = b"caf\xe9.png"
    (bench.folder / os.fsdecode(name)).write_bytes(DRAWING.read_bytes())
    answer = bench.run("classify", ".", *SUN_OR_HEART, "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    expected = base64.b64encode(b"./" + name).decode()
    bench.note("CSV", rows[0].get("image_bytes") == expected, json.dumps(rows[0]))
    answer = bench.run("classify", DRAWING, *SUN_OR_HEART, "--format", "csv")
    bench.note("CSV of ordinary names", answer.out.startswith("image,label,probability,logit,cosine,rank,error\n"), answer.out[:60])
    answer = bench.run("classify", DRAWING, *SUN_OR_HEART, "--format", "csv", "--bom")
    bench.note("--bom", answer.out.startswith("\ufeffimage,"), answer.out[:40])
    bench.refused("--bom with JSON lines", bench.run("classify", DRAWING, *SUN_OR_HEART, "--format", "jsonl", "--bom"), "--bom")


def lines_of_lists(bench):
    bench.write("a.png", DRAWING.read_bytes())
    path = bench.write("list.txt", b"a.png\n\n\0\na.png\n")
    answer = bench.run("classify", "--files-from", path, *SUN_OR_HEART)
    shown = [(record["image"], record.get("error", "")) for record in answer.records]
    good = len(shown) >= 3 and "-" not in [image for image, _ in shown] and any("line 3" in error for _, error in shown)
    bench.note("an empty line and a NUL", good, json.dumps(shown)[:200])
    answer = bench.run("classify", "--files-from", "-", *SUN_OR_HEART, stdin="a.png\n\na.png\n")
    shown = [record["image"] for record in answer.records]
    bench.note("an empty line on stdin", len(shown) >= 2 and "-" not in shown, json.dumps(shown))


def commas_in_labels(bench):
    answer = bench.run("classify", DRAWING, "--labels", "cat, dog", "sun", "--model", "tiny")
    bench.note("a hint", answer.status == 0 and '"cat" "dog"' in answer.err, answer.err.strip()[-150:])


def crop_corner(bench):
    """transformers floors where torchvision rounds half to even: a shift of one pixel column for
    one size in four."""
    import numpy as np
    from PIL import Image
    from transformers import CLIPImageProcessorPil

    import checkpoints

    folder = bench.folder / "model"
    checkpoints.hugging_face().save_pretrained(folder)
    settings = dict(size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64})
    images = CLIPImageProcessorPil(**settings)
    images.save_pretrained(folder)
    pixels = np.asarray(Image.open(PHOTOGRAPH).convert("RGB"))
    for width in (67, 71, 66, 64):
        path = bench.folder / f"{width}.png"
        image = Image.fromarray(pixels[100:164, 100 : 100 + width])
        image.save(path)
        import torch

        with torch.no_grad():
            seen = images(images=image, return_tensors="pt")["pixel_values"]
            want = checkpoints.unit(checkpoints.image_embeddings(folder, seen))
        answer = bench.run("embed", path, "--model", folder, "--precision", "f32")
        got = np.array(answer.records[0]["embedding"])
        cosine = float((got * want[0]).sum())
        bench.note(f"{width} x 64", cosine >= 0.99999, f"cosine {cosine:.6f}")


CASES = {
    "x01-output-suffixes": output_suffixes,
    "x02-kernels": kernels,
    "x03-image-and-path": names_of_keys,
    "x04-csv": bytes_of_names,
    "x05-lines-of-lists": lines_of_lists,
    "x06-commas-in-labels": commas_in_labels,
    "x07-crop-corner": crop_corner,
}
