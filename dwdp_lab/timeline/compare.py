"""Two runs side by side: how much faster, and where the time went."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from dwdp_lab.timeline.metrics import Metrics, metrics
from dwdp_lab.timeline.palette import strategy_name, style
from dwdp_lab.timeline.segments import COPY_KINDS, STATES, TOKEN_KINDS, WAIT_KIND, State
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.timeline.words import figures, wrapped

NOTEWORTHY_PCT = 1.0
"""Differences below this share (of the step, or of a kind's own time) stay out of the sentence."""
LONG_PCT = 100.0
"""From here on a kind's own time is told as a ratio: 17 x as long, not 1,600 % slower."""


@dataclass(frozen=True)
class Comparison:
    """`run` against `baseline`.

    - `speed_up`: ratio of tokens/s per rank; above 1 the run is faster.
    - `state_ms`: per state, how many milliseconds per step the run spends more than the baseline.
    - `kind_ms`: the same per kind of operation, hidden or not.
    - `words`: one sentence.
    """

    run: Metrics
    baseline: Metrics
    speed_up: float
    state_ms: dict[State, float]
    kind_ms: dict[str, float]
    words: str

    def __str__(self) -> str:
        return wrapped(self.words)


def compare(run: Timeline, baseline: Timeline) -> Comparison:
    """How `run` differs from `baseline`; `compare(dwdp, dep).words` is such as

        DWDP is 1.18 x DEP: of the step, 12.3 % less waiting on peers; attention 3 % slower

    Shares of the step are shares of the baseline's. Raises ValueError when the baseline has computed nothing.
    """
    ours, theirs = metrics(run), metrics(baseline)
    if not theirs.tokens_per_s:
        raise ValueError(f"baseline: the {baseline.strategy} timeline has no tokens or no spans")
    state_ms: dict[State, float] = {
        state: getattr(ours, f"{state}_ms") - getattr(theirs, f"{state}_ms") for state in STATES
    }
    before, after = kind_times_ms(baseline), kind_times_ms(run)
    kinds = sorted(before.keys() | after.keys())
    kind_ms = {kind: after.get(kind, 0.0) - before.get(kind, 0.0) for kind in kinds}
    speed_up = ours.tokens_per_s / theirs.tokens_per_s
    subject, other = strategy_name(run), strategy_name(baseline)
    if run.provenance != baseline.provenance:
        subject, other = f"{subject} ({run.provenance})", f"{other} ({baseline.provenance})"
    reasons = _state_words(state_ms, theirs) + _kind_words(before, after)
    words = f"{subject} is {speed_up:.2f} x {other}" + (f": {'; '.join(reasons)}" if reasons else "")
    if run.tokens != baseline.tokens:
        words += " (not the same batches)"
    return Comparison(ours, theirs, speed_up, state_ms, kind_ms, words)


def kind_times_ms(timeline: Timeline) -> dict[str, float]:
    """Milliseconds per step and rank that spans of each kind take, hidden or not."""
    total_us: dict[str, float] = defaultdict(float)
    for span in timeline.spans:
        total_us[span.kind] += span.end_us - span.start_us
    share = 1e3 * max(1, timeline.steps) * max(1, timeline.ranks)
    return {kind: us / share for kind, us in total_us.items()}


def _state_words(state_ms: dict[State, float], baseline: Metrics) -> list[str]:
    named: tuple[tuple[State, str], ...] = (
        ("wait_on_peers", "waiting on peers"),
        ("communication", "communication"),
        ("exposed_copy", "exposed copy"),
        ("idle", "idling"),
    )
    parts = []
    for state, name in named:
        share = baseline.share(state_ms[state])
        if abs(share) >= NOTEWORTHY_PCT:
            parts.append(f"{abs(share):.1f} % {'more' if share > 0 else 'less'} {name}")
    return [f"of the step, {_and(parts)}"] if parts else []


def _kind_words(before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Computation that both runs have and that takes another time in one of them."""
    parts = []
    for kind in sorted(before.keys() & after.keys() - TOKEN_KINDS - COPY_KINDS - {WAIT_KIND}):
        change = 100.0 * (after[kind] / before[kind] - 1.0) if before[kind] else 0.0
        if change >= LONG_PCT:
            parts.append(f"{style(kind).label} {figures(after[kind] / before[kind])} x as long")
        elif abs(change) >= NOTEWORTHY_PCT:
            parts.append(f"{style(kind).label} {abs(change):.0f} % {'slower' if change > 0 else 'faster'}")
    return parts


def _and(parts: list[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)
