"""Every order in which ranks can run tiny programs: what the checker proves, by trying them all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from dwdp_lab.program.accesses import Accesses, accesses, shared
from dwdp_lab.program.operation import COLLECTIVES, Op, Program, awaited

State = tuple[tuple[frozenset[int], frozenset[int], frozenset[tuple[str, str]]], ...]
"""Of each rank: the operations that have begun, those that have ended, and what the buffers hold."""

MOST_STATES = 40_000


def goes_wrong(programs: Sequence[Program], view_is_merged: bool) -> bool | None:
    """In some order two operations touch a buffer at once, one reads what it did not ask for, or ranks get stuck.

    None when there are more orders than one can try. Raises LookupError for a wait that nothing signals.
    """
    return _Orders(programs, view_is_merged).wrong()


class _Orders:
    def __init__(self, programs: Sequence[Program], view_is_merged: bool) -> None:
        self.programs = programs
        self.before = [_before(program.ops) for program in programs]
        self.touched = [[accesses(op, shared(p.ops), view_is_merged) for op in p.ops] for p in programs]
        self.met = [[self._meeting(rank, index) for index in range(len(p.ops))] for rank, p in enumerate(programs)]

    def _meeting(self, rank: int, index: int) -> list[tuple[int, int]] | None:
        """Whom an operation ends with; None if it can never end."""
        op = self.programs[rank].ops[index]
        if op.kind in COLLECTIVES:
            groups = [[i for i, other in enumerate(p.ops) if other.kind in COLLECTIVES] for p in self.programs]
            number = groups[rank].index(index)
            if any(number >= len(group) for group in groups):
                return None
            ends = [(place, group[number]) for place, group in enumerate(groups)]
        elif op.peer is not None:
            other = next((n for n, p in enumerate(self.programs) if p.rank == op.peer and n != rank), None)
            if other is None:
                return None
            mine = [i for i, one in enumerate(self.programs[rank].ops) if (one.kind, one.peer) == (op.kind, op.peer)]
            wanted = ("recv" if op.kind == "send" else "send", self.programs[rank].rank)
            theirs = [i for i, one in enumerate(self.programs[other].ops) if (one.kind, one.peer) == wanted]
            number = mine.index(index)
            if number >= len(theirs):
                return None
            ends = [(rank, index), (other, theirs[number])]
        else:
            return [(rank, index)]
        names = {_name(self.programs[n].ops[i], op.kind in COLLECTIVES) for n, i in ends}
        return ends if len(names) == 1 else None

    def wrong(self) -> bool | None:
        empty: frozenset[tuple[str, str]] = frozenset()
        todo: list[State] = [tuple((frozenset[int](), frozenset[int](), empty) for _ in self.programs)]
        seen: set[State] = set()
        while todo:
            state = todo.pop()
            if state in seen:
                continue
            seen.add(state)
            if len(seen) > MOST_STATES:
                return None
            if self._clash(state):
                return True
            following = [*self._begun(state), *self._ended(state)]
            if not following and any(len(of[1]) < len(p.ops) for of, p in zip(state, self.programs, strict=True)):
                return True  # stuck
            todo += following
        return False

    def _clash(self, state: State) -> bool:
        for rank, (begun, ended, held) in enumerate(state):
            running = [self.touched[rank][index] for index in begun - ended]
            if any(_conflict(one, other) for one, other in combinations(running, 2)):
                return True
            if any(access not in held for one in running for access in one.reads):
                return True
        return False

    def _begun(self, state: State) -> list[State]:
        found = []
        for rank, (begun, ended, held) in enumerate(state):
            for index, before in enumerate(self.before[rank]):
                if index not in begun and before <= ended:
                    found.append((*state[:rank], (begun | {index}, ended, held), *state[rank + 1 :]))
        return found

    def _ended(self, state: State) -> list[State]:
        found = []
        for rank, (begun, ended, held) in enumerate(state):
            for index in begun - ended:
                ends = self.met[rank][index]
                if ends is None or any(i not in state[n][0] for n, i in ends):
                    continue
                writes = self.touched[rank][index].writes
                new = {access.buffer for access in writes}
                now = frozenset(each for each in held if each[0] not in new).union(writes)
                found.append((*state[:rank], (begun, ended | {index}, now), *state[rank + 1 :]))
        return found


def _before(ops: tuple[Op, ...]) -> list[frozenset[int]]:
    """What each operation follows: its lane's last one, and those it waits for."""
    found, last = [], dict[str, int]()
    for index, (op, needs) in enumerate(zip(ops, awaited(ops), strict=True)):
        found.append(frozenset(needs) | ({last[op.lane]} if op.lane in last else set()))
        last[op.lane] = index
    return found


def _name(op: Op, collective: bool) -> tuple[object, ...]:
    return (op.kind, op.step, op.layer) if collective else (op.step, op.layer, op.micro)


def _conflict(one: Accesses, other: Accesses) -> bool:
    writes, writes_too = ({access.buffer for access in each.writes} for each in (one, other))
    reads, reads_too = ({access.buffer for access in each.reads} for each in (one, other))
    return bool(writes & (writes_too | reads_too) or reads & writes_too)
