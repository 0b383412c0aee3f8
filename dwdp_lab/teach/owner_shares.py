"""The exercise on from whom the experts come that a rank lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from dwdp_lab.teach import moving_weights_answers as answers
from dwdp_lab.teach.attempt import attempt, call_text, shown
from dwdp_lab.teach.exercise import Exercise, Property, Target
from dwdp_lab.teach.owners import cases, lab_windows
from dwdp_lab.teach.shown import Shown, table

Shares = dict[int, list[int]]


def _as_shares(value: Any) -> Shares | None:
    try:
        return {int(peer): [int(expert) for expert in given] for peer, given in value.items()}
    except (AttributeError, TypeError, ValueError):
        return None


def _asked(answer: Any, kept: Sequence[range], rank: int) -> tuple[Shares | None, str]:
    """The shares of a rank, or what is wrong with them as such; and the call in words."""
    called = attempt(answer, (list(kept), rank))
    where = call_text("shares", (list(kept), rank))
    found = _as_shares(called.value)
    if called.error:
        return None, f"{where} {called.error}"
    if found is None:
        return None, f"{where} gives {shown(called.value)}; a dict of peer to experts is wanted."
    return found, where


def _of_each(test: Any) -> Any:
    def violation(answer: Any) -> str | None:
        for case in cases():
            kept = lab_windows(case)
            for rank in range(case[1]):
                found, words = _asked(answer, kept, rank)
                if found is None:
                    return words
                if wrong := test(found, kept, rank, case[0]):
                    return f"{words} gives {shown(found)}: {wrong}"
        return None

    return violation


def _from_owners(found: Shares, kept: list[range], rank: int, experts: int) -> str | None:
    del experts
    for peer, given in found.items():
        if given and (peer == rank or not 0 <= peer < len(kept)):
            return f"{peer} is no peer of rank {rank}."
        strange = next((expert for expert in given if expert not in kept[peer]), None)
        if strange is not None:
            return f"rank {peer} does not keep expert {strange}."
    return None


def _none_of_its_own(found: Shares, kept: list[range], rank: int, experts: int) -> str | None:
    del experts
    own = next((expert for given in found.values() for expert in given if expert in kept[rank]), None)
    return None if own is None else f"rank {rank} keeps expert {own} itself."


def _once(found: Shares, kept: list[range], rank: int, experts: int) -> str | None:
    counts = Counter(expert for given in found.values() for expert in given)
    for expert in range(experts):
        if expert not in kept[rank] and counts[expert] != 1:
            return f"expert {expert} comes {counts[expert]} times."
    return None


def _busiest(answer: Any) -> float:
    kept = lab_windows((128, 4, 64))
    given = Counter[int]()
    for rank in range(len(kept)):
        for peer, experts in answer(list(kept), rank).items():
            given[peer] += len(list(experts))
    return float(max(given.values()))


def _show_shares(answer: Any) -> Shown:
    parts = []
    for case in ((8, 4, 3), (128, 4, 64)):
        kept = lab_windows(case)
        rows = []
        for rank in range(len(kept)):
            found, words = _asked(answer, kept, rank)
            if found is None:
                return Shown(words)
            rows.append((f"rank {rank}", *(len(found.get(peer, [])) or "-" for peer in range(len(kept)))))
        header = ("experts pulled", *(f"from {peer}" for peer in range(len(kept))))
        parts.append("E = {}, N = {}, L = {}\n".format(*case) + table(header, rows))
    return Shown("\n\n".join(parts))


SHARES = Exercise(
    key="moving_weights.shares",
    number="4.3",
    title="from whom?",
    difficulty=2,
    minutes=10,
    name="shares",
    spec="""\
Write `shares(windows, rank)`: which experts `rank` pulls from which peer, as `{peer: [experts]}`. `windows` are the
ranges of all ranks, as the lab places them (like yours, if you rounded down). Every expert that the rank does not
keep comes exactly once, from a peer that keeps it. With overlapping windows an expert has several owners, so there is
a choice.

*Correct* is any choice. It is *good* when no rank has to give more than others: with 128 experts on 4 ranks that keep
64 each, the target is what the busiest rank gives in one layer under the lab's own choice.""",
    stub='''\
def shares(windows: list[range], rank: int) -> dict[int, list[int]]:
    """The experts that this rank pulls from each peer."""''',
    hints=(
        "Correct first: for each expert outside windows[rank], take the first peer whose window has it.",
        "That first peer is nearly always a low one. For the target let all N - 1 peers give about as much: windows "
        "move by about P = (E - L) / (N - 1) experts from rank to rank, and P from each peer are enough.",
        "A lower peer gives the head of its window, up to where the window of peer + 1 begins. A higher peer gives the "
        "tail of its window, from where the window of peer - 1 ends.",
    ),
    reference=answers.shares,
    view=_show_shares,
    example=lambda: ([range(1), range(1, 2)], 0),
    properties=(
        Property("from peers that keep it", _of_each(_from_owners)),
        Property("nothing that the rank keeps itself", _of_each(_none_of_its_own)),
        Property("every missing expert exactly once", _of_each(_once)),
    ),
    targets=(Target("experts that the busiest rank gives", _busiest, lambda: _busiest(answers.shares), "experts", 0),),
)
