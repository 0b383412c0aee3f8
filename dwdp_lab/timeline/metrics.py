"""Where the time of a run went, per rank and on average, from its spans alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate, pairwise
from statistics import fmean

from dwdp_lab.timeline.segments import STATES, Interval, RankActivity, activities, busy_state
from dwdp_lab.timeline.span import Timeline


@dataclass(frozen=True)
class StepTime:
    """Milliseconds per step. The five parts add up to `step_ms`; segments.py says what each is.

    - `overlap_pct`: share of the copy time that computation or an exchange of tokens hides; 100 when nothing
      is copied.
    - `tokens_per_s`: new tokens per second of one rank.
    """

    step_ms: float
    compute_ms: float
    communication_ms: float
    exposed_copy_ms: float
    wait_on_peers_ms: float
    idle_ms: float
    overlap_pct: float
    tokens_per_s: float

    def share(self, part_ms: float) -> float:
        """A part of the step in per cent of it (0 for a run of no length)."""
        return 100.0 * part_ms / self.step_ms if self.step_ms else 0.0

    @property
    def wait_pct(self) -> float:
        """Waiting on peers in per cent of the step."""
        return self.share(self.wait_on_peers_ms)


@dataclass(frozen=True)
class RankMetrics(StepTime):
    """The step time of one rank."""

    rank: int


@dataclass(frozen=True)
class Metrics(StepTime):
    """The mean over ranks of each time, and every rank's own values.

    The two ratios are ratios of sums, so that they agree with the mean times: hidden copy of all ranks over
    their copy, and tokens of all ranks over the time of all ranks. A rank that is done early is free for its
    next batch, so its tokens per second count only the time it took.
    """

    by_rank: tuple[RankMetrics, ...]


def metrics(timeline: Timeline) -> Metrics:
    """Step time, its parts, overlap and tokens/s of a run.

    Linear in the spans apart from sorting what is nearly sorted: 4,000 spans take a few milliseconds.
    """
    runs = activities(timeline)
    steps, tokens = max(1, timeline.steps), timeline.tokens
    by_rank = tuple(
        RankMetrics(**vars(_step_time([run], steps, tokens[rank])), rank=rank) for rank, run in enumerate(runs)
    )
    mean = _step_time(runs, steps * max(1, len(runs)), sum(tokens))
    return Metrics(**vars(mean), by_rank=by_rank)


def step_times_ms(timeline: Timeline) -> tuple[float, ...]:
    """How long each step took, mean over ranks: from the end of the steps before to the end of its own last computation
    or exchange of tokens. Their sum over the number of steps is `step_ms`.

    A step that ends before an earlier one, as steps of a pipeline may on some rank, took no time of its own there.
    """
    ends = [[0.0] * timeline.steps for _ in range(timeline.ranks)]
    for span in timeline.spans:
        if busy_state(span.lane, span.kind) in ("compute", "communication"):
            ends[span.rank][span.step] = max(ends[span.rank][span.step], span.end_us)
    reached = [list(accumulate(of_rank, max, initial=0.0)) for of_rank in ends]
    lengths = [[after - before for before, after in pairwise(of_rank)] for of_rank in reached]
    return tuple(fmean(of_step) / 1e3 for of_step in zip(*lengths, strict=True))


def _step_time(runs: list[RankActivity], steps: int, tokens: int) -> StepTime:
    """The mean step of some ranks that make `steps` steps and compute `tokens` tokens in all."""
    total_us = math.fsum(run.end_us - run.start_us for run in runs)
    parts_us = [math.fsum(_length_us(run.states[state]) for run in runs) for state in STATES]
    copied_us = math.fsum(_length_us(run.copy) for run in runs)
    exposed_us = parts_us[STATES.index("exposed_copy")]
    overlap_pct = 100.0 * (1.0 - exposed_us / copied_us) if copied_us else 100.0
    times_ms = [us / steps / 1e3 for us in (total_us, *parts_us)]
    tokens_per_s = 1e6 * tokens / total_us if total_us else 0.0
    return StepTime(*[*times_ms, min(100.0, max(0.0, overlap_pct)), tokens_per_s])


def _length_us(intervals: list[Interval]) -> float:
    return math.fsum([end - start for start, end in intervals])
