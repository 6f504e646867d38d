"""longclip under Apache Spark: the recipes, and what becomes of rows when something breaks.

    python tests/scale/spark.py target/release/longclip [PART…]

Parts: pipe shards bad paths bytes executor worker disk (all by default). Needs Java 17 and
`pip install pyspark pyarrow pandas`; `disk` needs the right to mount a tmpfs. Runs on loopback, for
about three minutes. Ends with 1 at the first row that is lost, doubled or different.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from pyspark.sql import SparkSession

from scene import Scene, check_rows, digest, tar_of

PARTS = ["pipe", "shards", "bad", "paths", "bytes", "executor", "worker", "disk"]


def session(master, work):
    os.environ["PYSPARK_PYTHON"] = sys.executable
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    return (
        SparkSession.builder.master(master)
        .appName("longclip")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.local.dir", str(work / "spark"))
        # Where musl is installed too, snappy takes it for the system's own library and fails.
        .config("spark.sql.parquet.compression.codec", "zstd")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "256")
        .getOrCreate()
    )


# The recipes. `command` is the worker's command line.


def classify_lines(context, lines, command, partitions):
    """Lines of --files-from -> records, in order. `checkCode` makes a worker that dies fail its
    task, which Spark then repeats; without it, rows vanish."""
    return context.parallelize(lines, partitions).pipe(shlex.join(command), checkCode=True)


def classify_paths(frame, command):
    """A frame with the columns `id` and `path` -> one with `record` too, in JSON."""
    import pyarrow

    def work(batches):
        for batch in batches:
            lines = [json.dumps(row) for row in batch.select(["id", "path"]).to_pylist()]
            done = subprocess.run(
                command, input="\n".join(lines).encode() + b"\n", stdout=subprocess.PIPE, check=True
            )
            records = done.stdout.decode().splitlines()
            assert len(records) == batch.num_rows, "a worker lost rows"
            yield pyarrow.RecordBatch.from_arrays(
                [batch.column("id"), batch.column("path"), pyarrow.array(records)],
                ["id", "path", "record"],
            )

    return frame.mapInArrow(work, "id long, path string, record string")


def classify_bytes(frame, command):
    """A frame with the columns `id` and `image` (binary) -> `id` and `record`: the bytes go through
    a pipe as a tar, and no file is written."""
    import pyarrow

    def work(batches):
        for batch in batches:
            ids, images = batch.column("id").to_pylist(), batch.column("image").to_pylist()
            stream = tar_of((f"{name}.png", image) for name, image in zip(ids, images))
            done = subprocess.run(command, input=stream, stdout=subprocess.PIPE, check=True)
            records = done.stdout.decode().splitlines()
            assert len(records) == batch.num_rows, "a worker lost rows"
            yield pyarrow.RecordBatch.from_arrays(
                [batch.column("id"), pyarrow.array(records)], ["id", "record"]
            )

    return frame.mapInArrow(work, "id long, record string")


# What is tried with them.


def without(row, *keys):
    return {key: value for key, value in json.loads(row).items() if key not in keys}


def local_parts(parts, scene, expected):
    began = time.monotonic()
    spark = session("local[2,4]", scene.work)
    context = spark.sparkContext
    context.setLogLevel("OFF")
    # Its workers import what is pickled by reference.
    context.addPyFile(str(Path(__file__).with_name("scene.py")))
    print(f"Spark {spark.version}: start {time.monotonic() - began:.1f} s", flush=True)
    if "pipe" in parts:
        began = time.monotonic()
        rows = classify_lines(context, scene.lines, scene.worker, 8).collect()
        seconds = time.monotonic() - began
        assert rows == expected, "pipe: the rows are not those of one process"
        check_rows(rows, scene.ids, "pipe")
        print(f"  the bytes of one process, {digest(rows)}, 8 partitions, {seconds:.1f} s")
    if "shards" in parts:
        rows = classify_lines(context, map(str, scene.shards), scene.worker, 4).collect()
        alone = scene.expected_of_shards()
        assert rows == alone, "shards: the rows are not those of one process"
        print(f"shards: {len(rows)} rows of 4 tars, the bytes of one process, {digest(rows)}")
    if "bad" in parts:
        lines = [json.dumps({"id": index, "path": str(p)}) for index, p in enumerate(scene.bad)]
        rows = classify_lines(context, lines, scene.worker, 1).collect()
        assert all("error_kind" in json.loads(row) for row in rows)
        check_rows(rows, list(range(len(lines))), "bad: a partition of bad images only")
    if "paths" in parts:
        rows = [(line["id"], line["path"]) for line in map(json.loads, scene.lines)]
        frame = spark.createDataFrame(rows, "id long, path string").repartition(8)
        out = scene.work / "paths.parquet"
        classify_paths(frame, scene.worker).write.parquet(str(out))
        found = spark.read.parquet(str(out)).orderBy("id").select("record").collect()
        assert [row.record for row in found] == expected, "paths: other rows"
        check_rows([row.record for row in found], scene.ids, "paths: mapInArrow to Parquet")
    if "bytes" in parts:
        table = scene.work / "images.parquet"
        rows = [
            (index, bytearray(Path(path).read_bytes()))
            for index, path in enumerate(map(str, scene.images))
        ]
        spark.createDataFrame(rows, "id long, image binary").repartition(4).write.parquet(str(table))
        command = [*scene.command, "--tar", "-"]
        found = classify_bytes(spark.read.parquet(str(table)), command).orderBy("id").collect()
        by_path = {without(row)["path"]: row for row in expected}
        assert [row.id for row in found] == list(range(len(scene.images)))
        for row, path in zip(found, scene.images):
            same = without(row.record, "image"), without(by_path[str(path)], "image", "id", "path")
            assert same[0] == same[1], f"bytes: {same}"
        print(f"bytes: {len(found)} images from Parquet through a pipe, the answers of their files")
    if "worker" in parts:
        # The first worker that finds the mark kills itself in the middle of its rows.
        mark = scene.work / "kill-me"
        mark.touch()
        killing = scene.work / "killing.sh"
        killing.write_text(
            f"#!/bin/bash\nif rm {mark} 2> /dev/null; then\n"
            f"  {shlex.join(scene.worker)} | (head -n 20; kill -KILL $$)\nfi\n"
            f"exec {shlex.join(scene.worker)}\n"
        )
        killing.chmod(0o755)
        rows = classify_lines(context, scene.lines, [str(killing)], 8).collect()
        assert not mark.exists()
        assert rows == expected, "worker: other rows"
        check_rows(rows, scene.ids, "worker: one was killed with SIGKILL after 20 rows")
    if "disk" in parts:
        full_disk(context, scene)
    spark.stop()


def full_disk(context, scene):
    """A job whose target is full fails loudly; the same job with room has every row."""
    disk = scene.work / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96k", "tmpfs", str(disk)], check=True)
    try:
        rows = classify_lines(context, scene.lines, scene.worker, 8)
        try:
            rows.saveAsTextFile(str(disk / "out"))
            raise AssertionError("disk: a job with a full disk succeeded")
        except AssertionError:
            raise
        except Exception as error:
            assert "space" in str(error), error
        assert not (disk / "out/_SUCCESS").exists()
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        subprocess.run(["rm", "-r", str(disk / "out")], check=True)
        rows.saveAsTextFile(str(disk / "out"))
        check_rows(text_rows(disk / "out"), scene.ids, "disk: full, then with room")
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def text_rows(folder):
    assert (folder / "_SUCCESS").exists()
    parts = sorted(folder.glob("part-*"))
    return [row for part in parts for row in part.read_text().splitlines()]


def killed_executor(scene):
    """Two executors, one of which is killed while it works."""
    spark = session("local-cluster[2,1,1024]", scene.work)
    context = spark.sparkContext
    context.setLogLevel("OFF")
    context.addPyFile(str(Path(__file__).with_name("scene.py")))
    starts = scene.work / "starts"
    slow = scene.work / "slow.sh"
    # A row takes 10 ms, so that the job is still under way.
    slow.write_text(
        f"#!/bin/bash\necho >> {starts}\n"
        f'while read -r line; do sleep 0.01; printf "%s\\n" "$line"; done | {shlex.join(scene.worker)}\n'
    )
    slow.chmod(0o755)
    killed = []

    def kill():
        while not starts.exists() or starts.stat().st_size < 4:
            time.sleep(0.1)
        time.sleep(1)
        found = subprocess.run(["pgrep", "-f", "CoarseGrainedExecutorBackend"], capture_output=True)
        mine = [pid for pid in map(int, found.stdout.split()) if is_below(pid, os.getpid())]
        os.kill(mine[0], signal.SIGKILL)
        killed.append(mine[0])

    killer = threading.Thread(target=kill)
    killer.start()
    out = scene.work / "executor"
    classify_lines(context, scene.lines, [str(slow)], 16).saveAsTextFile(str(out))
    killer.join()
    rows = text_rows(out)
    assert killed
    times = starts.stat().st_size
    assert times > 16, "executor: no partition was repeated"
    check_rows(rows, scene.ids, f"executor: one of two killed, {times} starts for 16 partitions")
    spark.stop()


def is_below(pid, ancestor):
    while pid > 1:
        if pid == ancestor:
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            return False
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("longclip")
    parser.add_argument("parts", nargs="*", default=PARTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        scene = Scene(arguments.longclip, Path(work) / "scene")
        expected = scene.expected()
        if set(arguments.parts) - {"executor"}:
            local_parts(arguments.parts, scene, expected)
        if "executor" in arguments.parts:
            killed_executor(scene)


if __name__ == "__main__":
    main()
