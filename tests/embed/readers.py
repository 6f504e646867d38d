"""Checks that numpy, pandas, pyarrow, safetensors and faiss read what `longclip embed` writes, and that
`longclip search` reads their files.

    cargo build && python tests/embed/readers.py target/debug/longclip IMAGE...

Needs numpy, pandas, pyarrow, safetensors and faiss-cpu. Every number must be the same in every
format, to the bit, and faiss must find the same nearest neighbours as `longclip search`.
"""

import json
import os
import subprocess
import sys
import tempfile

import faiss
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from safetensors import safe_open
from safetensors.numpy import save_file

program, pictures = os.path.abspath(sys.argv[1]), [os.path.abspath(p) for p in sys.argv[2:]]
os.chdir(tempfile.mkdtemp())


def run(*arguments):
    command = [program, *arguments, "--model", "tiny", "--quiet"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


for name in ["a.npy", "a.safetensors", "a.parquet", "a.jsonl"]:
    run("embed", *pictures, "-o", name)
run("embed", *pictures, "-o", "half.npy", "--dtype", "f16")

vectors = np.load("a.npy", mmap_mode="r")
names = [json.loads(line) for line in open("a.paths.jsonl")]
print(f"numpy        {vectors.shape} {vectors.dtype}, first row is {names[0]['image']}")
assert vectors.shape[0] == len(pictures) == len(names)
assert [row["image"] for row in names] == pictures
assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)

half = np.load("half.npy")
print(f"numpy        {half.shape} {half.dtype}")
assert np.array_equal(half, vectors.astype(np.float16))

with safe_open("a.safetensors", "np") as file:
    rows = [json.loads(line) for line in file.get_tensor("rows").tobytes().splitlines()]
    print(f"safetensors  {file.metadata()['model']}, {len(rows)} rows")
    assert np.array_equal(file.get_tensor("embeddings"), vectors)
    assert [row["image"] for row in rows] == pictures

table = pq.read_table("a.parquet")
print(f"pyarrow      {table.schema.field('embedding').type}, columns {table.column_names}")
flat = table["embedding"].combine_chunks().flatten().to_numpy()
assert np.array_equal(flat.reshape(vectors.shape), vectors)

frame = pd.read_parquet("a.parquet")
print(frame[["path", "width", "height", "bytes"]].head(2).to_string())
assert np.array_equal(np.stack(frame.embedding.to_numpy()), vectors)
assert list(frame.path) == pictures and list(frame.bytes) == [os.path.getsize(p) for p in pictures]
assert list(frame.mtime_ns) == [os.stat(p).st_mtime_ns for p in pictures]

frame = pd.read_json("a.jsonl", lines=True)
print(f"pandas jsonl {len(frame)} rows, model {frame.model[0][:17]}…")
assert np.array_equal(np.array(frame.embedding.tolist(), dtype=np.float32), vectors)

index = faiss.IndexFlatIP(vectors.shape[1])
index.add(np.ascontiguousarray(vectors))
query = np.array([json.loads(run("embed", "--text", "a cat"))["embedding"]], dtype=np.float32)
scores, found = index.search(query, 3)
hits = json.loads(run("search", "a.npy", "a cat", "-k", "3"))["hits"]
print(f"faiss        {[os.path.basename(pictures[row]) for row in found[0]]} {scores[0]}")
print(f"search       {[os.path.basename(hit['image']) for hit in hits]} {[hit['cosine'] for hit in hits]}")
assert [pictures[row] for row in found[0]] == [hit["image"] for hit in hits]
assert np.allclose(scores[0], [hit["cosine"] for hit in hits], atol=1e-6)

# The reverse: matrices from these programs, with the model given by --model and rows by number.
doubles = 3 * vectors.astype(np.float64)
np.save("f16.npy", doubles.astype(np.float16))
np.save("big.npy", doubles.astype(">f8"))
np.save("fortran.npy", np.asfortranarray(doubles.astype(np.float32)))
np.savez("two.npz", images=doubles, ids=np.arange(len(pictures)))
np.savez_compressed("packed.npz", np.asfortranarray(doubles))
save_file({"images": doubles.astype(np.float16), "texts": doubles[:1]}, "two.safetensors")
lists = pd.DataFrame({"path": pictures, "vector": list(doubles)})
lists.to_parquet("lists.parquet", compression=None)
for name in ["f16.npy", "big.npy", "fortran.npy", "two.npz", "packed.npz", "two.safetensors:images", "lists.parquet"]:
    foreign = json.loads(run("search", name, "a cat", "-k", "3"))["hits"]
    print(f"search       {name}: {foreign[0]}")
    rows = [hit["row"] if "row" in hit else pictures.index(hit["image"]) for hit in foreign]
    assert rows == list(found[0])
    assert np.allclose(scores[0], [hit["cosine"] for hit in foreign], atol=1e-3)
