"""Cases l…, m… and t…: label files, templates, lists, names of models, search."""

import json

import numpy as np

from bench import DRAWING

BIRDS = {"penguin", "owl"}


def classify(bench, name, content, *arguments):
    """Classifies the drawing with the labels of a file."""
    path = bench.write(name, content)
    return bench.run("classify", DRAWING, "--labels-file", path, "--model", "tiny", "--format", "jsonl", *arguments)


def expect_labels(bench, files, labels):
    for name, content in files.items():
        answer = classify(bench, name, content)
        seen = ", ".join(answer.labels) or answer.said
        bench.note(name, answer.status == 0 and set(answer.labels) == labels, seen)


def labels_by_index(bench):
    index = {"0": ["n02056570", "penguin"], "1": ["n01622779", "owl"]}
    config = {"model_type": "vit", "id2label": {"0": "penguin", "1": "owl"}, "label2id": {"penguin": 0, "owl": 1}}
    files = {
        "imagenet_class_index.json": index,
        "id2label.json": {"0": "penguin", "1": "owl"},
        "label2id.json": {"penguin": 0, "owl": 1},
        "config.json": config,
        "list_of_objects.json": [{"id": 0, "name": "penguin"}, {"id": 1, "name": "owl"}],
        "coco.json": {"categories": [{"id": 1, "name": "penguin"}, {"id": 2, "name": "owl"}]},
    }
    expect_labels(bench, {name: json.dumps(content) for name, content in files.items()}, BIRDS)


def other_separators(bench):
    rows = [["label", "prompt"], ["penguin", "a penguin, black"], ["owl", "an owl"]]
    table = lambda between: "".join(between.join(row) + "\r\n" for row in rows)
    files = {
        "semicolon.csv": "\ufeff" + table(";"),
        "tab.csv": table("\t"),
        "pipe.csv": table("|"),
        "excel.csv": "sep=;\r\n" + table(";"),
        "utf16.csv": table(";").encode("utf-16"),
        "utf16_without_mark.csv": table("\t").encode("utf-16-le"),
        "utf16.tsv": table("\t").encode("utf-16-be"),
        "table.txt": table("\t"),
        "quoted.csv": '"label";"prompt"\n"penguin";"a penguin; black"\n"owl";"an owl"\n',
        "empty_rows.csv": "label,prompt\npenguin,a penguin\n,\n\nowl,an owl\n,,\n",
    }
    expect_labels(bench, files, BIRDS)
    answer = classify(bench, "slash.csv", "label/prompt\npenguin/a penguin\nowl/an owl\n", "--delimiter", "/")
    bench.note("--delimiter /", set(answer.labels) == BIRDS, ", ".join(answer.labels) or answer.said)


def headers(bench):
    names = "label labels class class_name classname category name species title text".split() + ["Class Name", "CATEGORY"]
    files = {f"{name}.csv": f"{name}\npenguin\nowl\n" for name in names}
    files |= {f"{name}.txt": f"{name}\npenguin\nowl\n" for name in ("class_name", "labels")}
    expect_labels(bench, files, BIRDS)


def not_plain_lines(bench):
    files = {
        "colon_index.txt": "0:penguin\n1:owl\n",
        "space_index.txt": "0 penguin\n1 owl\n",
        "dot_index.txt": "1. penguin\n2. owl\n",
        "labels.jsonl": '{"label":"penguin"}\n{"label":"owl"}\n',
        "json_lines.txt": '{"label":"penguin"}\n{"label":"owl"}\n',
        "json_list.txt": '["penguin", "owl"]',
        "quoted.txt": '"penguin",\n"owl",\n',
        "python_dict.txt": "{0: 'penguin',\n 1: 'owl'}\n",
        "data.yaml": "names:\n  0: penguin\n  1: owl\n",
        "list.yaml": "names:\n- penguin\n- owl\n",
    }
    for name, content in files.items():
        answer = classify(bench, name, content)
        read = answer.status == 0 and set(answer.labels) == BIRDS
        bench.note(name, read or answer.status == 2, ", ".join(answer.labels) or answer.said)
    synsets = "n02056570 king penguin, Aptenodytes patagonica\nn01622779 great grey owl, Strix nebulosa\n"
    answer = classify(bench, "synset_words.txt", synsets)
    clean = answer.labels and not any(label.startswith("n0") for label in answer.labels)
    bench.note("synset_words.txt", clean or answer.status == 2, ", ".join(answer.labels) or answer.said)
    for name, content in {"seven.txt": "7 up\n3d printer\n", "years.txt": "1984\n2001: a space odyssey\n"}.items():
        answer = classify(bench, name, content)
        bench.note(f"{name} stays as written", set(answer.labels) == set(content.split("\n")) - {""}, ", ".join(answer.labels))


def templates_json(bench):
    two = ["a photo of a {}.", "a blurry photo of a {}."]
    common = ["classify", DRAWING, "--labels", "penguin", "owl", "--model", "tiny", "--format", "jsonl"]
    want = bench.run(*common, "--template", *two).labels["penguin"]
    files = {
        "list.json": json.dumps(two),
        "list.txt": json.dumps(two),
        "quoted.txt": "".join(f"'{template}',\n" for template in two),
        "python.txt": "templates = [\n" + "".join(f"    '{template}',\n" for template in two) + "]\n",
        "c.txt": "\n".join(two).replace("{}", "{c}"),
        "utf16.txt": "\n".join(two).encode("utf-16"),
    }
    for name, content in files.items():
        answer = bench.run(*common, "--templates", bench.write(name, content))
        same = answer.labels.get("penguin") == want
        bench.note(name, same or answer.status == 2, str(answer.labels.get("penguin", answer.said)))
    several = {"birds": [two[0].replace("{}", "{c}")], "cars": ["a photo of my {c}."]}
    answer = bench.run(*common, "--templates", bench.write("clip_benchmark.json", json.dumps(several)))
    bench.refused("clip_benchmark.json of two datasets", answer, "birds")


def lists_of_paths(bench):
    names = ["one.png", "two.png"]
    for name in names:
        bench.write(name, DRAWING.read_bytes())
    lines = lambda end: "".join(name + end for name in names)
    files = {
        "crlf.txt": lines("\r\n"),
        "bom.txt": "\ufeff" + lines("\n"),
        "bom_crlf.txt": "\ufeff" + lines("\r\n"),
        "utf16.txt": lines("\r\n").encode("utf-16"),
    }
    for name, content in files.items():
        answer = bench.run("classify", "--files-from", bench.write(name, content), "--labels", "sun", "heart", "--model", "tiny")
        good = answer.status == 0 and len(answer.records) == 2
        bench.note(name, good or (answer.status == 2 and "UTF-16" in answer.err), answer.said if not good else "2 records")
    path = bench.write("long.txt", "one.png\n" + "x" * 100_000 + "\ntwo.png\n")
    answer = bench.run("classify", "--files-from", path, "--labels", "sun", "heart", "--model", "tiny")
    good = [record.get("image") for record in answer.records if "error" not in record]
    bench.note("a line of 100,000 bytes", good == names and len(answer.records) == 3, f"{len(answer.records)} records")
    texts = bench.write("texts_utf16.txt", "a cat\r\na dog\r\n".encode("utf-16"))
    answer = bench.run("embed", "--texts", texts, "--model", "tiny")
    bench.note("texts in UTF-16", [record.get("text") for record in answer.records] == ["a cat", "a dog"], answer.said)


def model_names(bench):
    for typed, word in {
        "ViT-B/32": "clip-vit-b-32",
        "ViT-B-32": "clip-vit-b-32",
        "ViT-L/14@336px": "clip-vit-l-14-336",
        "vit-b-16": "clip-vit-b-16",
        "clip-vit-base-patch32": "clip-vit-b-32",
        "LongCLIP-B": "longclip-b",
        "RN50": "RN50",
    }.items():
        answer = bench.run("classify", DRAWING, "--labels", "a", "b", "--model", typed, env={"HF_HUB_OFFLINE": "1"})
        bench.refused(typed, answer, word)
    for typed in ("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "https://huggingface.co/laion/CLIP-ViT-B-32-laion2B-s34B-b79K"):
        answer = bench.run("classify", DRAWING, "--labels", "a", "b", "--model", typed, env={"HF_HUB_OFFLINE": "1"})
        bench.refused(typed, answer, "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "HF_HUB_OFFLINE")


def transformers_offline(bench):
    for value, status in {"1": 2, "true": 2, "YES": 2, "0": 75}.items():
        env = {"TRANSFORMERS_OFFLINE": value, "HF_HUB_OFFLINE": "", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(bench.folder)}
        answer = bench.run("classify", DRAWING, "--labels", "a", "b", "--model", "longclip-b", env=env)
        bench.note(f"TRANSFORMERS_OFFLINE={value}", answer.status == status, answer.said)


def search(bench):
    rows = []
    for text in ("the sun", "a heart", "a penguin"):
        rows.append(bench.run("embed", "--text", text, "--model", "tiny").records[0]["embedding"])
    matrix = np.array(rows)
    for name, kind in {"half.npy": "<f2", "single.npy": "<f4", "double.npy": "<f8", "big.npy": ">f4"}.items():
        np.save(bench.folder / name, matrix.astype(kind))
    np.save(bench.folder / "fortran.npy", np.asfortranarray(matrix.astype("f4")))
    np.savez(bench.folder / "one.npz", matrix)
    np.savez_compressed(bench.folder / "packed.npz", vectors=matrix.astype("f2"))
    for name in ("half.npy", "single.npy", "double.npy", "big.npy", "fortran.npy", "one.npz", "packed.npz"):
        answer = bench.run("search", name, "the sun", "--model", "tiny", "--format", "jsonl")
        first = answer.records[0] if answer.records else {}
        bench.note(name, answer.status == 0 and first, json.dumps(first)[:150] if first else answer.said)
    index = bench.folder / "index.safetensors"
    bench.run("embed", "--text", "the sun", "a heart", "a penguin", "--model", "tiny", "-o", index)
    everything = bench.run("search", index, "the sun", "--format", "jsonl").out
    few = bench.run("search", index, "the sun", "--threshold", "0.9", "--format", "jsonl")
    bench.note("--threshold 0.9", few.status == 0 and 0 < len(few.out) < len(everything), few.out[:150])


CASES = {
    "l01-labels-by-index": labels_by_index,
    "l02-labels-other-separator": other_separators,
    "l03-labels-header": headers,
    "l04-labels-not-plain-lines": not_plain_lines,
    "l05-templates-json": templates_json,
    "l06-lists-of-paths": lists_of_paths,
    "m01-model-names": model_names,
    "m02-transformers-offline": transformers_offline,
    "t01-search": search,
}
