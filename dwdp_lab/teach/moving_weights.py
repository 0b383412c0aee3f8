"""The lesson on moving weights: what a copy costs, who keeps what, from whom it comes, and which bytes."""

from __future__ import annotations

from dwdp_lab.program.placement import placement
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.teach.copy_line import FIT_COPY
from dwdp_lab.teach.lesson import lesson_of
from dwdp_lab.teach.owner_shares import SHARES
from dwdp_lab.teach.owners import WINDOWS
from dwdp_lab.teach.prediction import Prediction, Revealed
from dwdp_lab.teach.pull_bytes import PULL_SLICES
from dwdp_lab.teach.recorded import COPIES, recorded


def pulled_bytes(local: int, ranks: int = 4, model: str = "qwen3-30b-a3b") -> int:
    """What rank 0 pulls for one layer when every rank keeps `local` experts."""
    scenario = Scenario.create(model=model, group={"ranks": ranks, "local_experts": local})
    return sum(len(share) for _, share in placement(scenario).pulled(0)) * scenario.model.expert_bytes


def _redundancy() -> Revealed:
    least, more = pulled_bytes(32), pulled_bytes(64)
    return Revealed(
        100 * (1 - more / least),
        f"A rank lacks 96 of 128 experts with L = 32 and 64 with L = 64: {least / 1e6:,.1f} MB and {more / 1e6:,.1f} "
        "MB per layer. The memory for local experts doubles, the pull shrinks by a third.",
    )


def _one_by_one() -> Revealed:
    sliced = recorded(COPIES)["sliced"]
    found = dict(zip(sliced["slice_bytes"], sliced["one_by_one_gbps"], strict=True))
    batched = dict(zip(sliced["slice_bytes"], sliced["batched_gbps"], strict=True))
    issue_us = sliced["issue_us"]["value"]
    return Revealed(
        found[1 << 20],
        f"Recorded: {found[4 << 20]} GB/s in slices of 4 MiB, {found[1 << 20]} in 1 MiB, {found[256 << 10]} in 256 "
        f"KiB. Each copy takes the host about {issue_us} us to issue, so copies of 1 MiB cannot pass "
        f"{(1 << 20) / issue_us / 1e3:.0f} GB/s, however fast the link: the host is the limit. All 256 copies of 1 MiB "
        f"in one cudaMemcpyBatchAsync reach {batched[1 << 20]} GB/s.",
    )


LESSON = lesson_of(
    "moving_weights",
    "04_moving_weights.ipynb",
    "Moving weights",
    [FIT_COPY, WINDOWS, SHARES, PULL_SLICES],
    [
        Prediction(
            "moving_weights.one_by_one",
            "One copy of 256 MiB between two H100s runs at 386 GB/s (recorded). Now the same 256 MiB go in **256 "
            "slices of 1 MiB**, each a `cudaMemcpyAsync` of its own, issued from a loop in Python. How many GB/s?",
            "GB/s",
            40.0,
            _one_by_one,
        ),
        Prediction(
            "moving_weights.redundancy",
            "Four ranks share the 128 experts of Qwen3-30B-A3B. Each has to keep at least 32. You find memory for "
            "**64**. By how many per cent does a rank pull less?",
            "%",
            2.0,
            _redundancy,
        ),
    ],
)
