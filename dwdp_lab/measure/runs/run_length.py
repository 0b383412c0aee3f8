"""Whether runs on GPUs lasted long enough to tell of what lasts. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.measure.runs.recorded_runs import Run

LASTS_MS = 300.0
"""Under full load an H200's clock falls for some tenths of a second, until the power it draws is what it may draw on
average: 16,384 tokens per rank of Qwen3-30B-A3B's layers at 1,955 MHz in the first 80 ms, at 1,764 in the first 350
(data/measured/h200-pair-tokens.json and h200-pair-distance.json)."""


def about_length(runs: Sequence[Run]) -> tuple[str, ...]:
    """A note for who reads the figures of runs that were short; none when the longest was not."""
    lengths = [run.figures.step_ms * run.read_scenario.batches.steps for run in runs]
    if not lengths or max(lengths) >= LASTS_MS:
        return ()
    shortest, longest = (f"{length:.3g}" for length in (min(lengths), max(lengths)))
    length = shortest if shortest == longest else f"{shortest} to {longest}"
    return (
        f"runs were {length} ms long: GPUs come to their power limit only after some tenths of a second of full load; "
        "more steps (--set workload.steps=N) measure what lasts",
    )
