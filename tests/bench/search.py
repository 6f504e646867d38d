"""Times `longclip search` over many embeddings, along with numpy and faiss on the same file.

    python tests/bench/search.py --longclip target/release/longclip --model MODEL [--rows 1000000]

Creates a .npy file of random directions as `longclip embed` would write it: about 2 GB, plus 300 MB
of names, for a million rows of 512 numbers. The first search loads it into the page cache; medians
are over the five after it. `search` is the whole process: loading the model, encoding the query,
hashing the weights. `product` is the time that the process takes beyond a search over one row.
numpy and faiss (if it is installed) are timed in a process that has loaded everything, over the
same mapped file.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import tempfile
import time
import zlib

import numpy as np


def run(binary: str, *arguments: str) -> tuple:
    start = time.perf_counter()
    done = subprocess.run([binary, *arguments], check=True, capture_output=True)
    return time.perf_counter() - start, done.stdout


def median(work, times: int = 5) -> float:
    work()
    return statistics.median(work() for _ in range(times))


def timed(work) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def make(folder: pathlib.Path, binary: str, model: str, rows: int) -> pathlib.Path:
    seed = folder / "one.npy"
    run(binary, "embed", "--model", model, "--text", "x", "-o", str(seed))
    line = json.loads((folder / "one.paths.jsonl").read_text())
    line.pop("text")
    dim = np.load(seed).shape[1]
    path = folder / "many.npy"
    numbers = np.lib.format.open_memmap(path, mode="w+", dtype="<f4", shape=(rows, dim))
    rng = np.random.default_rng(0)
    with open(folder / "many.paths.jsonl", "w") as names:
        for start in range(0, rows, 10000):
            block = rng.standard_normal((min(10000, rows - start), dim), dtype=np.float32)
            block /= np.linalg.norm(block, axis=1, keepdims=True)
            numbers[start:start + len(block)] = block
            for at, row in enumerate(block):
                entry = {"text": f"row {start + at}", **line, "crc32": zlib.crc32(row.tobytes())}
                names.write(json.dumps(entry) + "\n")
    numbers.flush()
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--longclip", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", type=pathlib.Path, help="where to make the file, if not in the temporary folder")
    arguments = parser.parse_args()
    binary, model = arguments.longclip, arguments.model
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = pathlib.Path(name)
        path = make(folder, binary, model, arguments.rows)
        query = "a photo of something"
        search = [binary, "search", "--model", model, "--format", "jsonl"]
        whole = median(lambda: run(*search, str(path), query)[0])
        least = median(lambda: run(*search, str(folder / "one.npy"), query)[0])
        print(f"search over {arguments.rows} rows: {whole:.3f} s; over 1 row: {least:.3f} s; product: {whole - least:.3f} s")

        cached = [*search, "--cache", str(folder / "cache")]
        again = median(lambda: run(*cached, str(path), query)[0])
        print(f"the same with --cache, which knows the query and the weights' digest: {again:.3f} s")

        run(binary, "embed", "--model", model, "--text", query, "-o", str(folder / "query.npy"))
        row = np.load(folder / "query.npy")[0]
        vectors = np.load(path, mmap_mode="r")
        best = np.argsort(-(vectors @ row), kind="stable")[:10]
        print(f"numpy: {median(lambda: timed(lambda: np.argpartition(-(vectors @ row), 10))):.3f} s")
        found = json.loads(run(*search, str(path), query)[1])
        assert [hit["text"] for hit in found["hits"]] == [f"row {at}" for at in best], "not the rows of numpy"
        try:
            import faiss
        except ImportError:
            return
        index = faiss.IndexFlatIP(vectors.shape[1])
        index.add(np.ascontiguousarray(vectors))
        print(f"faiss IndexFlatIP: {median(lambda: timed(lambda: index.search(row[None], 10))):.3f} s")


if __name__ == "__main__":
    main()
