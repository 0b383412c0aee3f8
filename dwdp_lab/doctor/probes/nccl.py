"""The first collective of NCCL, with one process per GPU, as DEP needs it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

FLOATS = 1 << 18  # 1 MB
WAIT_S = 60  # whoever asks has a shorter limit


class NcclFacts(NamedTuple):
    """`troubles` is what each rank said that failed; empty when all got the right sum."""

    ranks: int
    troubles: dict[int, str]
    took_s: float


def probe() -> NcclFacts:
    import torch

    return first_collective("nccl", torch.cuda.device_count())


def first_collective(backend: str, ranks: int) -> NcclFacts:
    """An all-reduce of 1 MB by so many processes. Times include starting them and joining."""
    with tempfile.TemporaryDirectory(prefix="dwdp-doctor-") as folder:
        began = time.monotonic()
        logs = [Path(folder) / f"rank-{rank}.log" for rank in range(ranks)]
        processes = []
        for rank, log in enumerate(logs):
            with log.open("wb") as output:
                arguments = [backend, str(rank), str(ranks), f"{folder}/meeting"]
                command = [sys.executable, "-P", "-m", "dwdp_lab.doctor.probes.nccl", *arguments]
                # no session of its own: it ends with us
                processes.append(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
        troubles = _troubles(processes, logs)
        return NcclFacts(ranks, troubles, time.monotonic() - began)


def _troubles(processes: Sequence[subprocess.Popen[bytes]], logs: Sequence[Path]) -> dict[int, str]:
    """Wait for all, or for the first that fails: the others would wait for it."""
    while any(process.poll() is None for process in processes):
        if any(process.poll() not in (None, 0) for process in processes):
            for process in processes:
                process.kill()
            break
        time.sleep(0.02)
    codes = [process.wait() for process in processes]
    first = [rank for rank, code in enumerate(codes) if code > 0] or [rank for rank, code in enumerate(codes) if code]
    return {rank: _last_line(logs[rank]) or f"ended with {codes[rank]}" for rank in first}


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else ""


def _join(backend: str, rank: int, ranks: int, meeting: str) -> None:
    import torch
    from torch import distributed

    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    distributed.init_process_group(
        backend,
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=WAIT_S),
        device_id=device if device.type == "cuda" else None,
    )
    values = torch.full((FLOATS,), float(rank + 1), device=device)
    distributed.all_reduce(values)
    if not bool((values == ranks * (ranks + 1) / 2).all()):
        sys.exit("the sum over all ranks is wrong")
    distributed.destroy_process_group()


if __name__ == "__main__":
    _join(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
