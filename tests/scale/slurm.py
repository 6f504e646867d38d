"""longclip in a Slurm array: four tasks, one of them put back in the queue while it works.

    python tests/scale/slurm.py target/release/longclip

Needs Debian's slurmctld, slurmd and slurm-client, and root, since slurmd does. Both daemons listen
on loopback, without authentication, and are ended at the end. Ends with 1 if the merged records are
not the bytes of one process.
"""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from scene import Scene, check_rows, digest

JOB = """#!/bin/bash
#SBATCH --job-name=longclip
#SBATCH --requeue
#SBATCH --output=task-%a.log
# This line is in the README; what precedes it makes the first run of task 2 slow.
[ "$SLURM_ARRAY_TASK_ID" = 2 ] && [ -z "$SLURM_RESTART_COUNT" ] && sleep 60
exec {longclip} classify --files-from list.jsonl -m tiny --probe labels.safetensors \\
    --threads 1 --max-errors 100% --shard auto --part-size 100 -o records/
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def configuration(work, node):
    cpus = os.cpu_count()
    return f"""
ClusterName=longclip
SlurmctldHost={node}(127.0.0.1)
SlurmctldPort={free_port()}
SlurmdPort={free_port()}
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={work}/state
SlurmdSpoolDir={work}/spool
SlurmctldPidFile={work}/slurmctld.pid
SlurmdPidFile={work}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
RebootProgram=/bin/true
NodeName={node} NodeAddr=127.0.0.1 CPUs={cpus}
PartitionName=main Nodes={node} Default=YES MaxTime=INFINITE State=UP
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("longclip")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder).resolve()
        scene = Scene(arguments.longclip, work / "scene")
        (work / "list.jsonl").write_text("\n".join(scene.lines) + "\n")
        shutil.copy(scene.labels, work / "labels.safetensors")
        (work / "job.sh").write_text(JOB.format(longclip=scene.longclip))
        (work / "state").mkdir()
        (work / "spool").mkdir()
        node = socket.gethostname()
        (work / "slurm.conf").write_text(configuration(work, node))
        environment = dict(os.environ, SLURM_CONF=str(work / "slurm.conf"))

        def slurm(*command):
            done = subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, (command, done.stdout, done.stderr)
            return done.stdout

        daemons = [
            subprocess.Popen(
                [name, "-D", *more], env=environment, cwd=work, stdout=log, stderr=log
            )
            for name, more, log in [
                ("slurmctld", ["-c"], open(work / "slurmctld.log", "w")),
                ("slurmd", ["-N", node], open(work / "slurmd.log", "w")),
            ]
        ]
        try:
            wait_for(lambda: "idle" in slurm("sinfo", "-h", "-o", "%T"), "the node", work)
            began = time.monotonic()
            job = slurm("sbatch", "--parsable", "--array=0-3", "job.sh").split(";")[0].strip()
            wait_for(lambda: f"{job}_2 RUNNING" in queue(slurm, job), "task 2", work)
            slurm("scontrol", "requeue", f"{job}_2")
            # Slurm waits two minutes before it starts a task again.
            time.sleep(1)
            slurm("scontrol", "update", f"JobId={job}_2", "StartTime=now")
            wait_for(lambda: not queue(slurm, job).strip(), "the array", work, 300)
            seconds = time.monotonic() - began
            log = "".join(path.read_text() for path in sorted(work.glob("task-*.log")))
            merged = scene.run(["merge", str(work / "records")]).decode().splitlines()
            assert merged == scene.expected(), f"other records; {log[-2000:]}"
            check_rows(merged, scene.ids, "Slurm: an array of 4, one task requeued")
            parts = len(list((work / "records").glob("part-*.jsonl")))
            print(f"  the bytes of one process, {digest(merged)}, {parts} parts, {seconds:.0f} s")
        finally:
            for daemon in daemons:
                daemon.send_signal(signal.SIGTERM)
            for daemon in daemons:
                daemon.wait(20)


def queue(slurm, job):
    return slurm("squeue", "-h", "-r", "-j", job, "-o", "%i %T") if job_is_known(slurm, job) else ""


def job_is_known(slurm, job):
    return job in slurm("squeue", "-h", "-r", "-o", "%A %F")


def wait_for(is_so, what, work, seconds=60):
    deadline = time.monotonic() + seconds
    while True:
        try:
            if is_so():
                return
        except AssertionError as error:
            last = error
        else:
            last = None
        if time.monotonic() > deadline:
            logs = "".join((work / f"{name}.log").read_text()[-1500:] for name in ("slurmctld", "slurmd"))
            raise SystemExit(f"{what} is not ready: {last}\n{logs}")
        time.sleep(0.3)


if __name__ == "__main__":
    main()
