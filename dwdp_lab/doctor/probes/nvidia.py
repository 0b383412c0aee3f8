"""What NVIDIA's driver says of the GPUs and of who uses them. Asked through nvidia-smi: this makes no CUDA context."""

from __future__ import annotations

import csv
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

GPU_FIELDS = (
    "index",
    "uuid",
    "name",
    "driver_version",
    "memory.total",
    "memory.free",
    "compute_mode",
    "mig.mode.current",
)
HOLDER_FIELDS = ("gpu_uuid", "pid", "process_name", "used_gpu_memory")
BESIDE_THE_PATH = "/usr/lib/wsl/lib"  # where WSL2 has it


class Gpu(NamedTuple):
    number: int
    uuid: str
    name: str
    driver: str
    memory_mib: int
    free_mib: int
    compute_mode: str
    mig: str


class Holder(NamedTuple):
    """A process that holds memory on a GPU. `used_mib` is None where the driver does not say."""

    uuid: str
    pid: int
    process: str
    used_mib: int | None


class NvidiaFacts(NamedTuple):
    """`devices` are the device files that are here; `trouble` is why nvidia-smi gave nothing (empty: it did)."""

    devices: int
    gpus: tuple[Gpu, ...]
    holders: tuple[Holder, ...]
    trouble: str

    @property
    def gpu_count(self) -> int:
        """GPUs here, by the driver's word or by their device files."""
        return len(self.gpus) or self.devices


def probe() -> NvidiaFacts:
    devices = len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdigit()])
    devices = devices or int(Path("/dev/dxg").exists() and Path(BESIDE_THE_PATH).is_dir())
    command = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=BESIDE_THE_PATH)
    if command is None:
        return NvidiaFacts(devices, (), (), "nvidia-smi is not here")
    status, output = _run(command, f"--query-gpu={','.join(GPU_FIELDS)}")
    if status:
        return NvidiaFacts(devices, (), (), output.strip().splitlines()[0] if output.strip() else f"status {status}")
    gpus = tuple(_gpu(row) for row in _rows(output))
    status, output = _run(command, f"--query-compute-apps={','.join(HOLDER_FIELDS)}")
    holders = () if status else tuple(_holder(row) for row in _rows(output) if row[1].isdigit())
    return NvidiaFacts(devices, gpus, holders, "")


def _run(command: str, query: str) -> tuple[int, str]:
    done = subprocess.run(
        [command, query, "--format=csv,noheader,nounits"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, done.stdout


def _rows(output: str) -> list[list[str]]:
    return [row for row in csv.reader(output.splitlines(), skipinitialspace=True) if len(row) > 1]


def _gpu(row: Sequence[str]) -> Gpu:
    index, uuid, name, driver, total, free, mode, mig = row
    return Gpu(int(index), uuid, name, driver, _mib(total) or 0, _mib(free) or 0, mode, mig)


def _holder(row: Sequence[str]) -> Holder:
    uuid, pid, process, used = row
    return Holder(uuid, int(pid), Path(process).name, _mib(used))


def _mib(text: str) -> int | None:
    """`[N/A]` is what some cards and containers answer."""
    return int(text) if text.isdigit() else None
