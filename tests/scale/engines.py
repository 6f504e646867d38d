"""longclip under GNU parallel, Ray Data and Daft, and the command of kubernetes.yaml in as many
processes as it has pods; with poison in the list.

    python tests/scale/engines.py target/release/longclip [parallel ray daft kubernetes]

Needs GNU parallel, and `pip install "ray[data]" daft pyarrow pyyaml`. Runs on loopback. Ends with 1
if a row is lost, doubled or other than that of one process.
"""

import argparse
import json
import os
import shlex
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from scene import Scene, check_rows, digest


class Worker:
    """A process that answers lines of `--files-from -`, which keeps its model between blocks."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def answer(self, rows):
        """Records of rows, in order; raises if the process ends before the last one. Rows are
        written while records are read, since both pipes are short."""
        writing = threading.Thread(target=self.write, args=(rows,))
        writing.start()
        records = [self.process.stdout.readline() for _ in rows]
        writing.join()
        if not all(records):
            raise RuntimeError(f"longclip ended with status {self.process.wait()}")
        return [record.rstrip("\n") for record in records]

    def write(self, rows):
        try:
            for row in rows:
                self.process.stdin.write(json.dumps(row) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass


def gnu_parallel(scene):
    """Blocks of lines from stdin; `--keep-order` prints their records in the list's order."""
    command = ["parallel", "--pipe", "-N", "250", "-j", "2", "--keep-order", "--halt", "now,fail=1"]
    text = "\n".join(scene.lines).encode() + b"\n"
    done = subprocess.run([*command, shlex.join(scene.worker)], input=text, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-500:]
    return done.stdout.decode().splitlines()


def ray_data(scene):
    """One actor fewer than CPUs: actors that take every CPU leave none for the tasks that read, and
    Ray Data then waits for ever."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    class Classify(Worker):
        def __init__(self):
            super().__init__(scene.worker)

        def __call__(self, batch):
            rows = [{"id": int(i), "path": str(p)} for i, p in zip(batch["id"], batch["path"])]
            return {"id": batch["id"], "record": self.answer(rows)}

    lines = ray.data.from_items([json.loads(line) for line in scene.lines])
    found = lines.map_batches(Classify, batch_size=256, compute=ray.data.ActorPoolStrategy(size=1))
    rows = sorted(found.take_all(), key=lambda row: row["id"])
    ray.shutdown()
    return [row["record"] for row in rows]


def daft_frame(scene):
    import daft

    @daft.cls
    class Classify(Worker):
        def __init__(self):
            super().__init__(scene.worker)

        @daft.method.batch(return_dtype=daft.DataType.string())
        def __call__(self, ids, paths):
            rows = [{"id": i, "path": p} for i, p in zip(ids.to_pylist(), paths.to_pylist())]
            return self.answer(rows)

    lines = [json.loads(line) for line in scene.lines]
    columns = {key: [line[key] for line in lines] for key in ("id", "path")}
    frame = daft.from_pydict(columns)
    classify = Classify()
    frame = frame.with_column("record", classify(daft.col("id"), daft.col("path")))
    return frame.sort("id").to_pydict()["record"]


def kubernetes(scene):
    """One pod after another is killed at once and started again, as an eviction would."""
    import yaml

    job = yaml.safe_load(Path(__file__).with_name("kubernetes.yaml").read_text())["spec"]
    data = scene.work / "data"
    data.mkdir()
    (data / "list.jsonl").write_text("\n".join(scene.lines) + "\n")
    (data / "labels.safetensors").write_bytes(scene.labels.read_bytes())
    command = job["template"]["spec"]["containers"][0]["command"]
    command = [part.replace("/data/model.safetensors", "tiny") for part in command]
    command = [scene.longclip, *(part.replace("/data", str(data)) for part in command[1:])]
    command += ["--part-size", "50", "-q"]
    pods = [dict(os.environ, JOB_COMPLETION_INDEX=str(index)) for index in range(job["completions"])]
    for index, environment in enumerate(pods):
        if index % 2:
            started = subprocess.Popen(command, env=environment)
            time.sleep(0.1 + 0.05 * index)
            started.kill()
            started.wait()
        subprocess.run(command, env=environment, check=True)
    return scene.run(["merge", str(data / "records")]).decode().splitlines()


ENGINES = {"parallel": gnu_parallel, "ray": ray_data, "daft": daft_frame, "kubernetes": kubernetes}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("longclip")
    parser.add_argument("engines", nargs="*", default=list(ENGINES))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        scene = Scene(arguments.longclip, Path(work) / "scene")
        expected = scene.expected()
        for name in arguments.engines:
            began = time.monotonic()
            rows = ENGINES[name](scene)
            seconds = time.monotonic() - began
            check_rows(rows, scene.ids, name)
            assert rows == expected, f"{name}: other rows"
            print(f"  the bytes of one process, {digest(rows)}, {seconds:.1f} s")


if __name__ == "__main__":
    main()
