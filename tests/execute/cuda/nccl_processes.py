"""Ranks that meet over NCCL, each on a GPU of its own: what they get, and how long DEP's traffic takes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import torch
import torch.multiprocessing
from meeting_processes import Now, Report, take_part
from torch import Tensor

from dwdp_lab.execute.cuda.meetings.meeting import Gathering, Meeting, Sums, Swap
from dwdp_lab.execute.cuda.start import join
from dwdp_lab.execute.rank_session import RankSession

TOKENS, HIDDEN, TOP_K = 16384, 2048, 8
"""A rank's tokens of Qwen3-30B-A3B, in bf16."""
TRIES = 10
Rates = dict[str, tuple[float, float]]
"""By exchange: microseconds, and the bytes that this rank receives from others."""


def token_tensors(tokens: int) -> list[Tensor]:
    """What DEP sends of a token: its row, its experts, their weights."""
    row = torch.randn(tokens, HIDDEN, device="cuda").bfloat16()
    ids = torch.randint(128, (tokens, TOP_K), device="cuda", dtype=torch.int32)
    return [row, ids, torch.rand(tokens, TOP_K, device="cuda").bfloat16()]


def nbytes(tensors: list[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def rates(meeting: Meeting, rank: int, ranks: int, stream: Any = None) -> Rates:
    """DEP's exchanges of one layer, with as many tokens on all ranks, with different numbers, and each to some; and the
    sum of `tensor`. On torch's current stream, which `stream` is where a meeting has to know."""
    now: Any = stream or Now()
    found: Rates = {}
    apart = [TOKENS * (4 + 2 * (each % 2)) // 5 for each in range(ranks)]
    for name, sizes in (("even", [TOKENS] * ranks), ("uneven", apart)):
        own, everyone = token_tensors(sizes[rank]), token_tensors(sum(sizes))
        gatherings = [Gathering(*pair, sizes) for pair in zip(own, everyone, strict=True)]
        found[f"gather, {name}"] = (
            timed_us(lambda parts=gatherings: meeting.gather(now, lambda: parts)),  # type: ignore[misc]
            nbytes(everyone) - nbytes(own),
        )
        sums = Sums(everyone[0], own[0], sizes)
        found[f"sums, {name}"] = (
            timed_us(lambda sums=sums: meeting.scatter_sums(now, lambda: sums)),  # type: ignore[misc]
            (ranks - 1) * nbytes(own[:1]),
        )
    each = [TOKENS // ranks] * ranks
    swaps = [Swap(*pair, each, each) for pair in zip(token_tensors(sum(each)), token_tensors(sum(each)), strict=True)]
    received = nbytes([swap.incoming for swap in swaps]) * (ranks - 1) // ranks
    found["swap"] = timed_us(lambda: meeting.swap(now, lambda: swaps)), received
    if meeting.leaves_rows_out:
        found |= _rates_by_kernel(meeting, ranks, now)
    part = token_tensors(TOKENS)[0]
    found["add up"] = timed_us(lambda: meeting.add_up(now, lambda: part)), 2 * nbytes([part]) * (ranks - 1) // ranks
    return found


def _rates_by_kernel(meeting: Meeting, ranks: int, now: Any) -> Rates:
    """The same of rows that a kernel writes: all of them, and every other one."""
    found: Rates = {}
    sizes = [TOKENS] * ranks
    (own, *_), (everyone, *_) = token_tensors(TOKENS), token_tensors(sum(sizes))
    for name, step in (("all", 1), ("half", 2)):
        mask = torch.zeros(ranks, sum(sizes), dtype=torch.bool, device="cuda")
        mask[:, ::step] = True
        gathering = Gathering(own, everyone, sizes, mask[:, :TOKENS].contiguous())
        sums = Sums(everyone, own, sizes, mask)
        received = (ranks - 1) * nbytes([own]) // step
        found[f"gather of {name} rows by a kernel"] = (
            timed_us(lambda one=gathering: meeting.gather(now, lambda: [one])),  # type: ignore[misc]
            received,
        )
        found[f"sums of {name} rows by a kernel"] = (
            timed_us(lambda one=sums: meeting.scatter_sums(now, lambda: one)),  # type: ignore[misc]
            received,
        )
    return found


def timed_us(run: Callable[[], None]) -> float:
    """The median time of one call, which all ranks make."""
    times = []
    for _ in range(TRIES):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda._sleep(2_000_000)  # type: ignore[no-untyped-call] # so that all is issued by then
        begin.record()
        run()
        end.record()
        end.synchronize()
        times.append(1e3 * begin.elapsed_time(end))
    return median(times[2:])


def _rank(rank: int, folder: str, ranks: int) -> None:
    torch.cuda.set_device(rank)
    session = SimpleNamespace(rank=rank, ranks=ranks, folder=Path(folder))
    meeting = join(torch.cuda.device_count(), cast(RankSession, session))
    with torch.inference_mode(), torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        got = take_part(meeting, rank, ranks, "cuda"), rates(meeting, rank, ranks)
    torch.save(got, Path(folder) / f"rank {rank}")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def reports_over_nccl(folder: Path, ranks: int) -> list[tuple[Report, Rates]]:
    torch.multiprocessing.spawn(_rank, (str(folder), ranks), ranks)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"rank {rank}") for rank in range(ranks)]
