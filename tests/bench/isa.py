"""Restricts programs to an instruction set that is older than the processor's.

onnxruntime has no setting for that, and with ONEDNN_MAX_CPU_ISA=AVX2 OpenVINO computes f32 partly
with AVX-512 and fails in int8. All of them look with `cpuid`; hide.c answers it without the newer
instructions.
"""

import importlib.util
import subprocess
from pathlib import Path

HERE = Path(__file__).resolve().parent
AVX512 = ["7.0.ebx:dc230000", "7.0.ecx:5842", "7.0.edx:80010c", "7.1.eax:20", "7.1.edx:80000"]
AVX_VNNI = ["7.1.eax:800010", "7.1.edx:430"]
AMX = ["7.0.edx:3400000", "7.1.eax:200000", "7.1.edx:100"]
#: What to hide so that an instruction set is the newest: bits as leaf.subleaf.register:bits.
HIDDEN = {"avx2": [*AVX512, *AVX_VNNI, *AMX], "avx-vnni": [*AVX512, *AMX], "avx512": AMX}
#: The packages of the peers that look at the processor.
PACKAGES = ["onnxruntime", "openvino", "torch", "numpy"]


class Isa:
    """What starts programs that see the instructions up to `name`; `folder` keeps its files."""

    def __init__(self, name, folder, programs):
        folder.mkdir(parents=True, exist_ok=True)
        self.name, self.folder = name, folder
        objects = {Path(program).resolve() for program in programs}
        for package in PACKAGES:
            spec = importlib.util.find_spec(package)
            if spec:
                objects.update(path.resolve() for path in Path(spec.origin).parent.rglob("*.so*"))
        # Libraries for GPUs are not loaded, and half a gigabyte each.
        objects = [path for path in sorted(objects) if "cuda" not in path.name and is_elf(path)]
        self.places = {str(path): self.addresses(path) for path in objects}

    def variables(self):
        """The environment that hides the rest."""
        listed = self.folder / "cpuid.txt"
        lines = [f"{address} {path}\n" for path, places in self.places.items() for address in places]
        listed.write_text("".join(lines))
        built = self.folder / "hide.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", HERE / "hide.c", "-o", built], check=True)
        hidden = " ".join(HIDDEN[self.name])
        return {"LD_AUDIT": str(built), "HIDE_SITES": str(listed), "HIDE_BITS": hidden}

    def addresses(self, path):
        """Where an object executes cpuid; kept, because disassembling PyTorch takes a minute."""
        about = path.stat()
        kept = self.folder / f"{path.name}-{about.st_size}-{int(about.st_mtime)}"
        if not kept.exists():
            command = ["objdump", "-d", "--no-show-raw-insn", path]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as process:
                found = [line.split(":")[0].strip() for line in process.stdout if line.endswith("\tcpuid\n")]
            if process.returncode != 0:
                raise SystemExit(f"objdump cannot disassemble {path}")
            kept.write_text("\n".join(found))
        return kept.read_text().split()

    def report(self):
        """What was hidden, from which objects, and what was not."""
        return {
            "newest": self.name,
            "hidden_cpuid_bits": HIDDEN[self.name],
            "cpuid_places": {Path(path).name: len(places) for path, places in self.places.items() if places},
            "not_hidden": "libc, other libraries, xgetbv; the core keeps its own vector units",
        }


def is_elf(path):
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
