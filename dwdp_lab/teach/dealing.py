"""Dealing requests to ranks: what a dealing has to be, and how long DEP's ranks then wait."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.traces import read_trace
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.teach import barriers_answers as answers
from dwdp_lab.teach.agrees import is_number
from dwdp_lab.teach.attempt import attempt, call_text, shown
from dwdp_lab.teach.exercise import Exercise, Property, Target
from dwdp_lab.teach.shown import Shown, table
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.view.picture import timeline_picture

TRACE = "azure-2023-conv-64"
DEALT_TO = 4


def trace_lengths() -> list[int]:
    """The 64 prompt lengths of the lab's own list."""
    return [request[0] for request in read_trace(Path(TRACE))]


def dealt(batches: list[list[int]]) -> Timeline:
    """DEP on these batches in virtual time: 8 layers of Qwen3-30B-A3B on H100s."""
    return run_sim(
        Scenario.create(
            model={"preset": "qwen3-30b-a3b", "layers": 8},
            group={"ranks": len(batches)},
            strategy={"name": "dep"},
            workload={"kind": "explicit", "lengths": batches},
            hardware="h100",
        )
    )


def in_turn(lengths: list[int], ranks: int) -> list[list[int]]:
    """What a scheduler does that does not look: the first to rank 0, the second to rank 1, ..."""
    return [lengths[rank::ranks] for rank in range(ranks)]


def _as_batches(value: Any) -> list[list[Any]] | None:
    """Lists of lists, tuples or arrays, one per rank."""
    try:
        return [list(batch.tolist() if hasattr(batch, "tolist") else batch) for batch in value]
    except TypeError:
        return None


def _wait_pct(answer: Any) -> float:
    batches = _as_batches(answer(trace_lengths(), DEALT_TO)) or []
    return metrics(dealt([[int(length) for length in batch] for batch in batches])).wait_pct


def _show_deal(answer: Any) -> Shown:
    lengths = trace_lengths()
    made = attempt(answer, (lengths, DEALT_TO))
    if made.error or (wrong := _not_dealt(made.value, lengths, DEALT_TO)):
        return Shown(made.error or f"Not the 64 requests on {DEALT_TO} ranks: {wrong}")
    batches = [[int(length) for length in batch] for batch in _as_batches(made.value) or []]
    rows = [(f"rank {rank}", len(batch), f"{sum(batch):,}") for rank, batch in enumerate(batches)]
    return Shown(
        table(("", "requests", "tokens"), rows),
        timeline_picture(dealt(batches), title="64 requests as you deal them, DEP"),
    )


def _not_dealt(value: Any, lengths: list[int], ranks: int) -> str | None:
    batches = _as_batches(value)
    if batches is None or isinstance(value, dict):
        return f"{shown(value)} is not a list of lists."
    if not all(is_number(length) for batch in batches for length in batch):
        return f"{shown(value)}: the batches hold something else than lengths."
    if len(batches) != ranks:
        return f"{shown(batches)} has {len(batches)} batches for {ranks} ranks."
    found, wanted = Counter(length for batch in batches for length in batch), Counter(lengths)
    if found != wanted:
        lost, more = list((wanted - found).elements()), list((found - wanted).elements())
        parts = [f"{shown(lost)} missing"] * bool(lost) + [f"{shown(more)} too many"] * bool(more)
        return f"{shown(batches)}: {', '.join(parts)}."
    return None


def _every_request_once(answer: Any) -> str | None:
    for lengths, ranks in (([], 2), ([5], 2), ([5, 3], 2), ([5, 3, 3], 2), ([7, 1, 5, 3], 1), (trace_lengths(), 4)):
        called = attempt(answer, (lengths, ranks))
        if wrong := called.error or _not_dealt(called.value, lengths, ranks):
            return f"{call_text('deal', (lengths, ranks))}: {wrong}"
    return None


DEAL = Exercise(
    key="barriers.deal",
    number="1.4",
    title="deal the requests",
    difficulty=2,
    minutes=15,
    name="deal",
    spec="""\
Perhaps the ranks can be made equal before they start. Write `deal(lengths, ranks)`: one list of lengths per rank, every
request on one rank. That is *correct*. It is *good* when four DEP ranks with the lab's 64 Azure prompts wait little:
the first target is what dealing in turn gives (request i to rank i mod N), the second what you get by always giving
the longest that is left to the rank with the fewest tokens.""",
    stub='''\
def deal(lengths: list[int], ranks: int) -> list[list[int]]:
    """One list of lengths per rank."""''',
    hints=(
        "Correct first: an empty list per rank, then each length appended to one of them.",
        "min(batches, key=sum) is the rank with the fewest tokens so far. In which order should the lengths come?",
        "With the longest first, the short ones fill up what is uneven. If you want less waiting still: the time of "
        "attention grows with the square of each prompt's length, so equal tokens are not quite equal times.",
    ),
    reference=answers.deal,
    view=_show_deal,
    example=lambda: ([5], 1),
    properties=(Property("every request on one rank", _every_request_once),),
    targets=(
        Target("waiting, against dealing in turn", _wait_pct, lambda: _wait_pct(in_turn), "% of the step"),
        Target("waiting, against longest first", _wait_pct, lambda: 1.05 * _wait_pct(answers.deal), "% of the step"),
    ),
)
