"""The computer: Python, cores, memory, limits, places to write, variables that change how CUDA behaves."""

from __future__ import annotations

import contextlib
import importlib.metadata
import mmap
import os
import platform
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import NamedTuple

SAID = ("CUDA_", "NCCL_", "NVSHMEM_", "PYTORCH_", "TORCH_NCCL_", "TORCH_SYMM_MEM_", "TRITON_")
"""Variables whose names begin like this are reported."""

SHARED_FILE_BYTES = 16 << 20


class Place(NamedTuple):
    """A folder the lab writes to. `trouble` says why it cannot."""

    name: str
    free_bytes: int
    trouble: str


class HostFacts(NamedTuple):
    """None stands for what this system does not tell, and for no limit."""

    python: str
    python_wanted: str
    free_threaded: bool
    system: str
    processor: str
    cores: float
    memory_free_bytes: int | None
    shm_bytes: int | None
    shared_file_trouble: str
    locked_memory_bytes: int | None
    open_files: int | None
    places: tuple[Place, ...]
    environment: dict[str, str]


def probe() -> HostFacts:
    locked_memory, open_files = _limits()
    return HostFacts(
        python=platform.python_version(),
        python_wanted=_python_wanted(),
        free_threaded=bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
        system=platform.system(),
        processor=platform.machine(),
        cores=_cores(),
        memory_free_bytes=_memory_free(),
        shm_bytes=shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else None,
        shared_file_trouble=_shared_file(),
        locked_memory_bytes=locked_memory,
        open_files=open_files,
        places=_places(),
        environment={name: value for name, value in sorted(os.environ.items()) if name.startswith(SAID)},
    )


def _python_wanted() -> str:
    try:
        return importlib.metadata.metadata("dwdp-lab")["Requires-Python"] or ""
    except importlib.metadata.PackageNotFoundError:
        return ""


def _cores() -> float:
    """Cores this process may use: its affinity, and the quota of its container."""
    cores: float = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = min(cores, int(quota) / int(period))  # "max" is no number: no quota
    return cores


def _memory_free() -> int | None:
    """What the system has available, and what is left of the container's limit."""
    free: list[int] = []
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        free.append(1024 * int(next(line.split()[1] for line in lines if line.startswith("MemAvailable"))))
    with contextlib.suppress(OSError, ValueError):
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        free.append(limit - int(Path("/sys/fs/cgroup/memory.current").read_text()))
    if not free:
        with contextlib.suppress(ImportError):
            import psutil

            free.append(psutil.virtual_memory().available)
    return min(free, default=None)


def _shared_file() -> str:
    """Why ranks could not share memory by descriptor; empty when they can: made, mapped, written, read."""
    try:
        if hasattr(os, "memfd_create"):
            fd = os.memfd_create("dwdp-doctor", os.MFD_CLOEXEC)
        else:
            fd, path = tempfile.mkstemp(prefix="dwdp-doctor-")
            os.unlink(path)
        try:
            os.ftruncate(fd, SHARED_FILE_BYTES)
            with mmap.mmap(fd, SHARED_FILE_BYTES) as first, mmap.mmap(fd, SHARED_FILE_BYTES) as second:
                first[-1:] = b"x"
                return "" if second[-1:] == b"x" else "what one mapping wrote the other does not read"
        finally:
            os.close(fd)
    except OSError as error:
        return str(error)


def _limits() -> tuple[int | None, int | None]:
    """Locked memory in bytes and open files; None for no limit."""
    if sys.platform == "win32":
        return None, None
    import resource

    soft = (resource.getrlimit(which)[0] for which in (resource.RLIMIT_MEMLOCK, resource.RLIMIT_NOFILE))
    locked_memory, open_files = (None if limit == resource.RLIM_INFINITY else limit for limit in soft)
    return locked_memory, open_files


def _places() -> tuple[Place, ...]:
    places = [("where you are", Path.cwd()), ("temporary files", Path(tempfile.gettempdir()))]
    with contextlib.suppress(ImportError):
        from dwdp_lab.teach.progress import progress_file

        places.append(("your progress", progress_file().parent))
    return tuple(_place(name, folder) for name, folder in places)


def _place(name: str, folder: Path) -> Place:
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    try:
        with tempfile.NamedTemporaryFile(dir=there, prefix="dwdp-doctor-"):
            return Place(name, shutil.disk_usage(there).free, "")
    except OSError as error:
        return Place(name, 0, error.strerror or str(error))
