"""Whether runs on GPUs lasted long enough to tell of what lasts. No torch."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.measure.runs.recorded_runs import Run

LASTS_MS = 300.0
"""On an H200 under full load steps grow longer after 80 ms, by a tenth, and once more after 800 ms: in a run of so many
milliseconds they are 4 to 6 % shorter than in the second second (replicated, data/measured/h200-pair-lasting.json)."""


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
