"""Findings on the computer itself."""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.doctor.facts import Facts
from dwdp_lab.doctor.finding import FORMS, Finding, Level
from dwdp_lab.doctor.probes.host import HostFacts

GB = 1e9
TWO_RANKS_BYTES = 0.6e9
"""Two rank processes with the tiny model (dwdp_lab/execute/cpu/memory_need.py)."""

NCCL_SHM_BYTES = 1 << 30
NCCL_LOCKED_BYTES = 64 << 20
FEW_FILES = 1024
LITTLE_DISK_BYTES = 1e9
IN_DOCKER = "start the container with --shm-size=1g --ulimit memlock=-1 (NCCL user guide, troubleshooting)"


def judge(facts: Facts) -> Iterator[Finding]:
    host = facts.host
    assert host is not None
    yield _python(host)
    yield _system(host)
    yield _cores(host)
    yield _memory(host)
    yield _shared_files(host)
    if host.shm_bytes is not None:
        yield _shm(host.shm_bytes, facts.gpus_here)
    yield _locked(host.locked_memory_bytes, facts.gpus_here)
    yield _open_files(host.open_files)
    yield from _places(host)


def _python(host: HostFacts) -> Finding:
    found = f"{host.python}, {host.processor}"
    if host.free_threaded:
        return Finding(
            "Python",
            "warn",
            f"{found}, free-threaded",
            "the lab is tested with the ordinary build only: lanes are threads, and their timing would differ",
            "make clean setup PYTHON=python3.11 (or any ordinary Python from 3.11 on)",
        )
    from packaging.specifiers import SpecifierSet

    if host.python_wanted and not SpecifierSet(host.python_wanted).contains(host.python, prereleases=True):
        return Finding(
            "Python",
            "fail",
            f"{found}; {host.python_wanted} is needed",
            "the lab uses what older versions lack",
            "install a newer Python, then: make clean setup PYTHON=/path/to/python3.11",
            FORMS,
        )
    return Finding("Python", "ok", found, "new enough for everything")


def _system(host: HostFacts) -> Finding:
    if host.system == "Windows":
        return Finding(
            "system",
            "fail",
            "Windows",
            "ranks need Unix sockets that carry file descriptors",
            "install WSL2 and set the lab up inside it: https://learn.microsoft.com/windows/wsl/install",
            ("CPU ranks", "GPU kernels", "GPU ranks"),
        )
    if host.system != "Linux":
        return Finding(
            "system",
            "warn",
            host.system,
            "simulator, notebooks and CPU ranks run; Triton and CUDA have no build for this system",
            "use a Linux machine for what needs them",
            ("GPU kernels", "GPU ranks"),
        )
    return Finding("system", "ok", "Linux", "everything of the lab has a build for it")


def _cores(host: HostFacts) -> Finding:
    found = f"{host.cores:g} for this process"
    if host.cores < 2:
        return Finding(
            "CPU cores",
            "warn",
            found,
            "CPU ranks take turns: outputs stay right, their timelines show the sharing of one core",
            "give the container or the virtual machine two cores or more",
        )
    return Finding("CPU cores", "ok", found, "two CPU ranks compute at the same time")


def _memory(host: HostFacts) -> Finding:
    free = host.memory_free_bytes
    if free is None:
        return Finding("memory", "ok", "this system does not tell", "a run that needs too much is refused beforehand")
    found = f"{free / GB:.1f} GB free"
    if free < TWO_RANKS_BYTES:
        return Finding(
            "memory",
            "fail",
            found,
            f"two CPU ranks of the tiny model need {TWO_RANKS_BYTES / GB:g} GB",
            "end what holds the memory, or raise the container's limit",
            ("CPU ranks",),
        )
    return Finding("memory", "ok", found, "enough for two CPU ranks of the tiny model; larger ones are checked before")


def _shared_files(host: HostFacts) -> Finding:
    if host.shared_file_trouble:
        return Finding(
            "shared memory files",
            "fail",
            host.shared_file_trouble,
            "CPU ranks share their experts by such files (memfd), and cannot without",
            "allow memfd_create (a seccomp profile may forbid it), and free memory or disk for temporary files",
            ("CPU ranks",),
        )
    return Finding(
        "shared memory files", "ok", "made, mapped twice, written and read", "this is how CPU ranks share experts"
    )


def _shm(nbytes: int, gpus: int) -> Finding:
    found = f"{nbytes / GB:.2g} GB"
    if gpus >= 2 and nbytes < NCCL_SHM_BYTES:
        return Finding(
            "/dev/shm", "warn", found, "NCCL shares buffers there: with little room DEP may fail to start", IN_DOCKER
        )
    return Finding("/dev/shm", "ok", found, "NCCL uses it between GPUs; CPU ranks do not")


def _locked(nbytes: int | None, gpus: int) -> Finding:
    found = "no limit" if nbytes is None else f"{nbytes / 2**20:g} MiB"
    if gpus >= 2 and nbytes is not None and nbytes < NCCL_LOCKED_BYTES:
        return Finding(
            "locked memory",
            "warn",
            found,
            "NCCL over network cards needs more; between the GPUs of one machine it does not",
            f"ulimit -l unlimited before the lab, or {IN_DOCKER}",
        )
    return Finding("locked memory", "ok", found, "only NCCL over network cards asks for much")


def _open_files(limit: int | None) -> Finding:
    found = "no limit" if limit is None else f"at most {limit}"
    if limit is not None and limit < FEW_FILES:
        return Finding(
            "open files",
            "warn",
            found,
            "each rank, log and shared block takes some; many ranks may run out",
            f"ulimit -n {FEW_FILES * 4} in the shell that starts the lab",
        )
    return Finding("open files", "ok", found, "enough for ranks, logs and shared blocks")


def _places(host: HostFacts) -> Iterator[Finding]:
    meanings = {
        "where you are": "notebooks are saved there",
        "temporary files": "ranks meet there and write their logs",
        "your progress": "what you have solved is kept there",
    }
    fixes = {
        "where you are": "start the lab in a folder that you may write to",
        "temporary files": "export TMPDIR=/a/folder/that/you/may/write/to",
        "your progress": "export DWDP_LAB_PROGRESS=/a/file/that/you/may/write/progress.json",
    }
    for place in host.places:
        name = f"disk: {place.name}"
        if place.trouble:
            level: Level = "fail" if place.name == "temporary files" else "warn"
            yield Finding(
                name,
                level,
                place.trouble,
                f"{meanings[place.name]}, and they cannot be",
                fixes[place.name],
                ("CPU ranks", "GPU ranks") if place.name == "temporary files" else (),
            )
        elif place.free_bytes < LITTLE_DISK_BYTES:
            yield Finding(
                name, "warn", f"{place.free_bytes / GB:.2g} GB free", meanings[place.name], "free some of the disk"
            )
        else:
            yield Finding(name, "ok", f"{place.free_bytes / GB:.0f} GB free", meanings[place.name])
