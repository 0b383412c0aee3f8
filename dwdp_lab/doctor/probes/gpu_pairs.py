"""1 MB from every GPU to every other and back, and whether the way is direct."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import torch

NBYTES = 1 << 20


class GpuPairFacts(NamedTuple):
    """`alone[i]` is what went wrong with GPU i by itself, `pairs[i, j]` between two (empty: nothing)."""

    alone: tuple[str, ...]
    pairs: dict[tuple[int, int], str]
    direct: dict[tuple[int, int], bool]


def probe() -> GpuPairFacts:
    import torch

    host = torch.device("cpu")
    gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    pairs = list(combinations(range(len(gpus)), 2))
    return GpuPairFacts(
        alone=tuple(round_trip(host, gpu) for gpu in gpus),
        pairs={(one, other): round_trip(gpus[one], gpus[other]) for one, other in pairs},
        direct={
            (one, other): torch.cuda.can_device_access_peer(one, other)
            and torch.cuda.can_device_access_peer(other, one)
            for one, other in pairs
        },
    )


def round_trip(here: torch.device, there: torch.device) -> str:
    """Send random bytes, turn every bit over there, bring them back. What went wrong, or nothing."""
    import torch

    try:
        sent = torch.randint(0, 256, (NBYTES,), dtype=torch.uint8).to(here)
        back = (~sent.to(there)).to(here)
        wrong = int((back != ~sent).sum())
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return f"{wrong} of {NBYTES} bytes came back wrong" if wrong else ""
