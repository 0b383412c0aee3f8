"""The exercise on who keeps what: windows of experts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dwdp_lab.program.placement import Placement
from dwdp_lab.teach import moving_weights_answers as answers
from dwdp_lab.teach.attempt import attempt, call_text, shown
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.shown import Shown, table

Case = tuple[int, int, int]
"""experts, ranks, local experts"""

LARGE: tuple[Case, ...] = ((128, 2, 64), (128, 3, 43), (256, 4, 64), (128, 4, 64), (256, 3, 86))


def cases() -> Iterator[Case]:
    """From the smallest up: all of up to six experts on up to four ranks, then some of real models."""
    for experts in range(1, 7):
        for ranks in range(1, min(4, experts) + 1):
            for local in range(-(-experts // ranks), experts + 1):
                yield experts, ranks, local
    yield from LARGE


def lab_windows(case: Case) -> list[range]:
    """As the lab places experts."""
    experts, ranks, local = case
    where = Placement(experts, ranks, local)
    return [where.local(rank) for rank in range(ranks)]


def _as_windows(value: Any) -> list[list[int]] | None:
    try:
        return [[int(expert) for expert in window] for window in value]
    except (TypeError, ValueError):
        return None


def _on_each(test: Any) -> Any:
    def violation(answer: Any) -> str | None:
        for case in cases():
            called = attempt(answer, case)
            if called.error:
                return f"{call_text('windows', case)} {called.error}"
            found = _as_windows(called.value)
            if found is None:
                return f"{call_text('windows', case)} gives {shown(called.value)}; a range per rank is wanted."
            if wrong := test(found, case):
                return f"{call_text('windows', case)} gives {shown(called.value)}: {wrong}"
        return None

    return violation


def _one_each(found: list[list[int]], case: Case) -> str | None:
    return None if len(found) == case[1] else f"{len(found)} windows for {case[1]} ranks."


def _as_long_as_local(found: list[list[int]], case: Case) -> str | None:
    for rank, window in enumerate(found):
        if len(window) != case[2] or window != list(range(window[0], window[0] + len(window))):
            return f"rank {rank} keeps {shown(window)}, not {case[2]} experts in a row."
    return None


def _there(found: list[list[int]], case: Case) -> str | None:
    for rank, window in enumerate(found):
        if window[0] < 0 or window[-1] >= case[0]:
            return f"rank {rank}'s window is {window[0]} to {window[-1]}; there are experts 0 to {case[0] - 1}."
    return None


def _all_owned(found: list[list[int]], case: Case) -> str | None:
    owned = {expert for window in found for expert in window}
    missing = next((expert for expert in range(case[0]) if expert not in owned), None)
    return None if missing is None else f"nobody keeps expert {missing}, so nobody can pull it."


def _show_windows(answer: Any) -> Shown:
    rows = []
    for case in ((8, 4, 2), (8, 4, 3), (8, 3, 3), (8, 3, 4)):
        called = attempt(answer, case)
        found = _as_windows(called.value)
        if found is None:
            return Shown(f"{call_text('windows', case)}: {called}")
        for rank, window in enumerate(found):
            line = "".join("#" if expert in window else "." for expert in range(case[0]))
            name = "E = {}, N = {}, L = {}".format(*case) if rank == 0 else ""
            rows.append((name, f"rank {rank}", line, shown(called.value[rank])))
    return Shown("# is an expert that the rank keeps\n" + table(("", "", "experts", "your window"), rows))


WINDOWS = Exercise(
    key="moving_weights.windows",
    number="4.2",
    title="who keeps what?",
    difficulty=1,
    minutes=5,
    name="windows",
    spec="""\
Every rank keeps `local` experts in a row. Write `windows(experts, ranks, local)`: a `range` for each rank, so that
every expert is kept somewhere. The number of ranks need not divide the number of experts, and `local` may be larger
than needed: windows then overlap. It is never too small.""",
    stub='''\
def windows(experts: int, ranks: int, local: int) -> list[range]:
    """The experts that each rank keeps."""''',
    hints=(
        "The first window begins at expert 0. Where must the last one begin, so that it ends with the last expert?",
        "At experts - local. The windows between begin at equal distances: rank r at r (experts - local) / (ranks - "
        "1).",
        "Round down: rank * (experts - local) // (ranks - 1). A rank alone (ranks = 1) begins at 0.",
    ),
    reference=answers.windows,
    view=_show_windows,
    example=lambda: (1, 1, 1),
    properties=(
        Property("a window for every rank", _on_each(_one_each)),
        Property("each window is `local` experts in a row", _on_each(_as_long_as_local)),
        Property("no expert that does not exist", _on_each(_there)),
        Property("every expert is kept somewhere", _on_each(_all_owned)),
    ),
)
