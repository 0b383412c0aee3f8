"""Where ranks meet: collectives and messages must match on all ranks, and must not wait for each other in a circle."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from itertools import zip_longest

from dwdp_lab.program.hazard import Hazard
from dwdp_lab.program.operation import COLLECTIVES, MESSAGES, Op, Program

Place = tuple[int, int]
"""(place of the program in the group, index of the operation in it)"""


def mismatched(programs: Sequence[Program]) -> list[Hazard]:
    """Every rank must issue the same collectives in the same order, and two ranks the same messages: else they wait for
    ever, or one takes a message for another."""
    return _other_collectives(programs) + _nobody_there(programs) + _other_messages(programs)


def _other_collectives(programs: Sequence[Program]) -> list[Hazard]:
    def meetings(program: Program) -> list[tuple[str, int, int]]:
        return [(op.kind, op.step, op.layer) for op in program.ops if op.kind in COLLECTIVES]

    if not programs:
        return []
    first = meetings(programs[0])
    found = []
    for program in programs[1:]:
        mine = meetings(program)
        if mine != first:
            place = next(
                (i for i, pair in enumerate(zip(first, mine, strict=False)) if pair[0] != pair[1]),
                min(len(first), len(mine)),
            )
            theirs = first[place] if place < len(first) else "nothing more"
            own = mine[place] if place < len(mine) else "nothing more"
            words = f"collective {place} is {own}, on rank {programs[0].rank} it is {theirs}: both would wait for ever"
            found.append(Hazard(program.rank, -1, "mismatch", words))
    return found


def _nobody_there(programs: Sequence[Program]) -> list[Hazard]:
    ranks = [program.rank for program in programs]
    found = []
    for program in programs:
        for index, op in enumerate(program.ops):
            if op.kind in MESSAGES and (op.peer not in ranks or op.peer == program.rank):
                who = "itself" if op.peer == program.rank else f"rank {op.peer}"
                words = f"{op} is between this rank and {who}; there are ranks {min(ranks)} to {max(ranks)}"
                found.append(Hazard(program.rank, index, "not there", words))
    return found


def _other_messages(programs: Sequence[Program]) -> list[Hazard]:
    found = []
    for (source, target), (sent, received) in _messages(programs).items():
        for there, here in zip_longest(sent, received):
            if there is None and here is not None:
                words = f"{here[1]} waits for ever: rank {source} sends nothing more to rank {target}"
                found.append(Hazard(target, here[0], "mismatch", words))
            elif here is None and there is not None:
                words = f"{there[1]} waits for ever: rank {target} receives nothing more from rank {source}"
                found.append(Hazard(source, there[0], "mismatch", words))
            elif here is not None and there is not None and _contents(here[1]) != _contents(there[1]):
                words = f"{here[1]} gets what rank {source} sends next, the {there[1]}: messages keep their order"
                found.append(Hazard(target, here[0], "mismatch", words))
            else:
                continue
            break  # whatever follows is out of step too
    return found


def _contents(op: Op) -> tuple[int, int, int | None]:
    return op.step, op.layer, op.micro


Ends = tuple[list[tuple[int, Op]], list[tuple[int, Op]]]
"""What a rank sends to another, and what that one receives from it, with indices, each in issue order."""


def _messages(programs: Sequence[Program]) -> dict[tuple[int, int], Ends]:
    """By (sender, receiver)."""
    found: dict[tuple[int, int], Ends] = defaultdict(lambda: ([], []))
    for program in programs:
        for index, op in enumerate(program.ops):
            if op.peer is not None and op.kind == "send":
                found[program.rank, op.peer][0].append((index, op))
            elif op.peer is not None and op.kind == "recv":
                found[op.peer, program.rank][1].append((index, op))
    return found


def deadlocked(programs: Sequence[Program]) -> list[Hazard]:
    """Meetings that nobody gets out of, as each of the ranks is first at another one. Programs must not be mismatched.

    All ranks go on as far as they can; what then has come to a meeting and waits there is named. A machine may hold a
    sender until the receiver is there, so no program may need that it does not.
    """
    if not any(op.kind in MESSAGES for program in programs for op in program.ops):
        return []  # collectives in one order on all ranks: the issue order is a way through
    partners = _partners(programs)
    unmet, followers = _dependencies(programs)
    ready = [place for place, count in unmet.items() if not count]
    arrived: set[Place] = set()
    while ready:
        place = ready.pop()
        meeting = partners.get(place, (place,))
        arrived.add(place)
        if not all(other in arrived for other in meeting):
            continue
        for other in meeting:
            arrived.discard(other)
            for follower in followers[other]:
                unmet[follower] -= 1
                if not unmet[follower]:
                    ready.append(follower)
    found = []
    for number, index in sorted(arrived):
        op = programs[number].ops[index]
        late = [programs[n].rank for n, i in partners[number, index] if (n, i) not in arrived]
        words = f"{op} waits for ever for rank {late[0]}, which in turn waits for something that comes after it"
        found.append(Hazard(programs[number].rank, index, "deadlock", words))
    return found


def _partners(programs: Sequence[Program]) -> dict[Place, tuple[Place, ...]]:
    """For each operation that meets others, all of them, itself too."""
    number_of = {program.rank: number for number, program in enumerate(programs)}
    together: list[tuple[Place, ...]] = []
    collectives = [
        [(number, index) for index, op in enumerate(program.ops) if op.kind in COLLECTIVES]
        for number, program in enumerate(programs)
    ]
    together += zip(*collectives, strict=True)
    for (source, target), (sent, received) in _messages(programs).items():
        for (out, _), (into, _) in zip(sent, received, strict=True):
            together.append(((number_of[source], out), (number_of[target], into)))
    return {place: meeting for meeting in together for place in meeting}


def _dependencies(programs: Sequence[Program]) -> tuple[dict[Place, int], dict[Place, list[Place]]]:
    """How many operations of its own rank each one waits for, and who waits for it: lane order and events."""
    unmet: dict[Place, int] = {}
    followers: dict[Place, list[Place]] = defaultdict(list)
    for number, program in enumerate(programs):
        last_signal: dict[str, int] = {}
        last_on_lane: dict[str, int] = {}
        for index, op in enumerate(program.ops):
            needs = {last_signal[name] for name in op.waits if name in last_signal}
            if op.lane in last_on_lane:
                needs.add(last_on_lane[op.lane])
            for need in needs:
                followers[number, need].append((number, index))
            unmet[number, index] = len(needs)
            last_on_lane[op.lane] = index
            if op.signals is not None:
                last_signal[op.signals] = index
    return unmet, followers
