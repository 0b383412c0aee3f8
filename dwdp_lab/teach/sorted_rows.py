"""The exercise on sorting: rows by expert, and where each expert's rows begin."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

from dwdp_lab.teach import split_weights_answers as answers
from dwdp_lab.teach.attempt import attempt, shown
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.shown import Shown, table

Case = tuple[list[list[int]], int]
"""the experts that each token visits, and how many experts there are"""

CASES: tuple[Case, ...] = (
    ([[0]], 1),
    ([[0], [0]], 1),
    ([[1], [0]], 2),
    ([[0]], 2),
    ([[1]], 2),
    ([[2], [0]], 4),
    ([[1, 0]], 2),
    ([[1, 0], [0, 1]], 2),
    ([[2, 0], [0, 3], [2, 1]], 5),
)
SHOWN: Case = ([[2, 0], [0, 3], [2, 0]], 5)


def _long() -> Case:
    """Enough tokens for a sort that is not stable to show it."""
    return [[(7 * token + 3 * place) % 5 for place in range(2)] for token in range(40)], 8


def _given(case: Case) -> tuple[Any, ...]:
    import torch

    return torch.tensor(case[0]), case[1]


def _lists(value: Any) -> tuple[list[int], list[int]] | None:
    """token_of_row and offsets as lists, from tensors or lists."""
    try:
        parts = [part.tolist() if hasattr(part, "tolist") else list(part) for part in value]
        tokens, offsets = ([int(number) for number in part] for part in parts)
    except (TypeError, ValueError):
        return None
    return tokens, offsets


def _on_each(test: Callable[[list[int], list[int], Case], str | None]) -> Callable[[Any], str | None]:
    def violation(answer: Any) -> str | None:
        for case in (*CASES, _long()):
            called = attempt(answer, _given(case))
            where = f"sort_rows(tensor({shown(case[0])}), {case[1]})"
            if called.error:
                return f"{where} {called.error}"
            found = _lists(called.value)
            if found is None:
                return f"{where} gives {shown(called.value)}; a pair (token_of_row, offsets) is wanted."
            if (wrong := test(*found, case)) and len(case[0]) > len(SHOWN[0]):
                return f"sort_rows of the visits of {len(case[0])} tokens to {case[1]} experts: {wrong}"
            if wrong:
                return f"{where} gives token_of_row {shown(found[0])} and offsets {shown(found[1])}: {wrong}"
        return None

    return violation


def _wanted(case: Case) -> tuple[list[int], list[int]]:
    """By counting: expert after expert, its tokens in order."""
    rows: list[int] = []
    offsets = [0]
    for expert in range(case[1]):
        rows += [token for token, visits in enumerate(case[0]) for visit in visits if visit == expert]
        offsets.append(len(rows))
    return rows, offsets


def _offsets_bound(tokens: list[int], offsets: list[int], case: Case) -> str | None:
    del tokens
    rows = sum(map(len, case[0]))
    if len(offsets) != case[1] + 1:
        return f"{len(offsets)} offsets for {case[1]} experts: one more than experts, the last being the end."
    if offsets[0] != 0 or offsets[-1] != rows:
        return f"offsets go from 0 to the number of rows, {rows}."
    return None


def _offsets_count(tokens: list[int], offsets: list[int], case: Case) -> str | None:
    del tokens
    wanted = _wanted(case)[1]
    wrong = next((e for e in range(case[1]) if offsets[e : e + 2] != wanted[e : e + 2]), None)
    if wrong is None:
        return None
    said = f"{offsets[wrong]} to {offsets[wrong + 1]}"
    return f"expert {wrong} has the rows {wanted[wrong]} to {wanted[wrong + 1]}, not {said}."


def _every_visit(tokens: list[int], offsets: list[int], case: Case) -> str | None:
    del offsets
    wanted = sorted(_wanted(case)[0])
    return (
        None
        if sorted(tokens) == wanted
        else f"every token comes once for each of its experts, so {shown(wanted)} in some order."
    )


def _right_rows(tokens: list[int], offsets: list[int], case: Case) -> str | None:
    for expert in range(case[1]):
        rows = tokens[offsets[expert] : offsets[expert + 1]]
        stranger = next((token for token in rows if expert not in case[0][token]), None)
        if stranger is not None:
            return f"token {stranger} stands among the rows of expert {expert}, which it does not visit."
    return None


def _in_order(tokens: list[int], offsets: list[int], case: Case) -> str | None:
    for expert in range(case[1]):
        rows = tokens[offsets[expert] : offsets[expert + 1]]
        if rows != sorted(rows):
            return f"the tokens of expert {expert} come as {shown(rows)}: keep their order."
    return None


def _show(answer: Any) -> Shown:
    called = attempt(answer, _given(SHOWN))
    found = _lists(called.value)
    if found is None:
        return Shown(f"sort_rows(tensor({SHOWN[0]}), {SHOWN[1]}): {called}")
    tokens, offsets = found
    rows = [
        (f"expert {expert}", f"{first} to {end}", ", ".join(map(str, tokens[first:end])) or "-")
        for expert, (first, end) in enumerate(pairwise(offsets))
    ]
    visits = "; ".join(f"token {token} visits {visited}" for token, visited in enumerate(SHOWN[0]))
    return Shown(f"{visits}; {SHOWN[1]} experts\n" + table(("", "rows", "their tokens"), rows))


SORT_ROWS = Exercise(
    key="split_weights.sort_rows",
    number="6.3",
    title="sort by expert",
    difficulty=1,
    minutes=5,
    name="sort_rows",
    spec="""\
`ids` is [T, k]: the experts that each token visits. Write `sort_rows(ids, experts)` in torch. It returns two tensors:
`token_of_row` [T k], the token of each row when all visits are sorted by expert; and `offsets` [E + 1], the first row
of each expert, and the end. Some experts have no visitor. Of one expert's tokens, lower ones come first, so that sums
come out the same in every run.""",
    stub='''\
def sort_rows(ids: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    """(token_of_row [T k], offsets [E + 1])"""''',
    hints=(
        "Visit number v of ids.flatten() is token v // k. In which order do the visits stand when sorted by expert?",
        "ids.flatten().argsort(stable=True) is that order; divided by k it is token_of_row.",
        "torch.bincount(..., minlength=experts) counts, also those that nobody visits. The offsets are its "
        "cumsum(0) with a 0 before it.",
    ),
    reference=answers.sort_rows,
    view=_show,
    example=lambda: _given(CASES[0]),
    properties=(
        Property("every visit is a row", _on_each(_every_visit)),
        Property("an offset for every expert, and the end", _on_each(_offsets_bound)),
        Property("offsets count each expert's rows", _on_each(_offsets_count)),
        Property("rows stand with their expert", _on_each(_right_rows)),
        Property("tokens keep their order", _on_each(_in_order)),
    ),
)
