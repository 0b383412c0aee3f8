"""The lesson on judging: would DWDP help this model, on this machine, for these requests?"""

from __future__ import annotations

from typing import Any

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.crossover import crossover
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.predict import physics_for
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.teach.customers import DECISIONS
from dwdp_lab.teach.lesson import lesson_of
from dwdp_lab.teach.prediction import Prediction, Revealed
from dwdp_lab.teach.queueing import TTFT_MS
from dwdp_lab.teach.redundancy import MOST_LOCAL
from dwdp_lab.timeline.metrics import metrics

PCIE_GBPS = 32e9 * 16 / 8 * 128 / 130 / 1e9
"""PCIe 5.0, 16 lanes: 32e9 transfers/s per lane, 128 bits of data in 130 (PCI Express Base Specification 5.0)."""


def decoding() -> Scenario:
    """One decode step of Qwen3-30B-A3B on four H100s: 64 requests per rank with 2,047 tokens of context each."""
    return Scenario.create(
        model="qwen3-30b-a3b",
        group={"ranks": 4},
        workload={"kind": "explicit", "lengths": [[2048] * 64] * 4, "prefix_hit": 0.9999},
        hardware="h100",
    )


def prefilling(**more: Any) -> Scenario:
    """Passes of the same model and machine: prompts of 2,048 tokens, CV 10 %, pulled in slices."""
    return Scenario.create(
        model="qwen3-30b-a3b",
        group={"ranks": 4},
        strategy={"peer_order": "interleaved", "slice_bytes": "8MiB"},
        workload={"kind": "cv", "cv": 0.1, "tokens_per_rank": 16384, "isl_tokens": 2048},
        hardware="h100",
        **more,
    )


def _decode() -> Revealed:
    scenario = decoding()
    physics = physics_for(load_hardware(scenario.hardware))
    dep, dwdp = (metrics(run_sim(scenario.with_strategy(name), physics=physics)) for name in ("dep", "dwdp"))
    pulled = sum(span.nbytes for span in run_sim(scenario).spans if span.kind == "pull" and span.rank == 0)
    return Revealed(
        100 * dwdp.tokens_per_s / dep.tokens_per_s,
        f"A step takes {dep.step_ms:.1f} ms under DEP and {dwdp.step_ms:.1f} ms under DWDP: a rank pulls "
        f"{pulled / 1e9:.0f} GB to make {scenario.batches.tokens(0)} tokens, and "
        f"{dwdp.share(dwdp.exposed_copy_ms):.0f} % of its step is exposed copy.",
    )


def _slow_link() -> Revealed:
    hardware = load_hardware("h100")
    physics = physics_for(hardware)
    fast = crossover(prefilling(), hardware, physics) or 0
    slow = crossover(prefilling(link_gbps=PCIE_GBPS), hardware, physics) or 0
    return Revealed(
        slow / fast,
        f"From {slow:,} tokens per rank instead of {fast:,}. The pull takes seven times as long, but so does DEP's "
        "exchange, which nothing hides.",
    )


LESSON = lesson_of(
    "judging",
    "09_would_it_help_you.ipynb",
    "Would it help you?",
    [MOST_LOCAL, TTFT_MS, DECISIONS],
    [
        Prediction(
            "judging.slow_link",
            "The GPUs are joined by PCIe 5.0 (63 GB/s each way) instead of NVLink (450 GB/s): a seventh. How many "
            "times as many tokens per rank does DWDP need to be as fast as DEP?",
            "times",
            0.5,
            _slow_link,
        ),
        Prediction(
            "judging.decode",
            "Decode: each of four ranks has 64 requests with 2,047 tokens of context and makes one new token for each. "
            "What per cent of DEP's tokens per second does DWDP reach?",
            "%",
            10.0,
            _decode,
        ),
    ],
)
