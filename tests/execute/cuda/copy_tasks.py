"""Collectives and messages of any size, one after another, and what each rank is to get of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.meetings.meeting import Gathering, Meeting, Sums, Swap

LEFT_OUT = -2.0
"""In place of a row that was not sent."""


class Task(NamedTuple):
    """A collective or a message: `rows[r]` of every rank, each row `columns` wide. `some rows` and `some sums` are a
    gathering and sums of which a mask leaves rows out."""

    kind: str
    rows: tuple[int, ...]
    columns: int
    peers: tuple[int, int] = (0, 1)


def values(rank: int, number: int, rows: int, columns: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Whole numbers, other ones for every rank and task."""
    return (torch.arange(rows * columns).view(rows, columns) * 7 + 13 * rank + 101 * number).remainder(97).to(dtype)


def chosen(ranks: int, number: int, rows: int) -> Tensor:
    """[ranks, rows] bool: a mask of about two thirds, in which some rows are chosen by all ranks and some by one."""
    return (torch.arange(rows)[None] * 5 + torch.arange(ranks)[:, None] * 3 + number * 7).remainder(11) < 7


def carry_out(
    meeting: Meeting, rank: int, ranks: int, tasks: Sequence[Task], stream: Any, done: Callable[[], None]
) -> list[list[Tensor]]:
    """What this rank gets of each task, on torch's default device; all queued before anything is waited for (`done`:
    until all that the stream was given has ended)."""
    got: list[list[Tensor]] = []
    undefined: list[tuple[Tensor, Tensor]] = []
    for number, (kind, rows, columns, (source, target)) in enumerate(tasks):
        total = sum(rows)
        mine: list[Tensor] = []
        got.append(mine)
        if kind == "gather":
            mine += [torch.full((total, columns), -1.0), torch.full((total, 1), -1, dtype=torch.int32)]

            def both(number: int = number, rows: Any = rows, columns: int = columns, mine: Any = mine) -> Any:
                own = values(rank, number, rows[rank], columns)
                return [Gathering(own, mine[0], rows), Gathering(own[:, :1].int().contiguous(), mine[1], rows)]

            meeting.gather(stream, both)
        elif kind == "sums":
            mine.append(torch.full((rows[rank], columns), -1.0, dtype=torch.bfloat16))

            def sums(number: int = number, rows: Any = rows, columns: int = columns, mine: Any = mine) -> Sums:
                return Sums(values(rank, number, sum(rows), columns, torch.bfloat16), mine[0], rows)

            meeting.scatter_sums(stream, sums)
        elif kind == "add":
            mine.append(values(rank, number, total, columns))
            meeting.add_up(stream, lambda mine=mine: mine[0])  # type: ignore[misc]
        elif kind == "some rows":
            mine.append(torch.full((total, columns), torch.nan))
            undefined.append((mine[0], ~_wanted_by(rank, ranks, number, rows)))

            def some(number: int = number, rows: Any = rows, columns: int = columns, mine: Any = mine) -> Any:
                wanted = chosen(ranks, number, rows[rank]).to(mine[0].device)
                return [Gathering(values(rank, number, rows[rank], columns), mine[0], rows, wanted)]

            meeting.gather(stream, some)
        elif kind == "some sums":
            mine.append(torch.full((rows[rank], columns), torch.nan, dtype=torch.bfloat16))

            def some_sums(number: int = number, rows: Any = rows, columns: int = columns, mine: Any = mine) -> Sums:
                given = chosen(ranks, number, sum(rows)).to(mine[0].device)
                partial = values(rank, number, sum(rows), columns, torch.bfloat16)
                # a meeting that leaves rows out need not find zeros there
                return Sums(torch.where(given[rank, :, None], partial, torch.nan), mine[0], rows, given)

            meeting.scatter_sums(stream, some_sums)
        elif kind == "swap":
            mine.append(torch.full((ranks * rows[rank], columns), -1.0))

            def swap(number: int = number, rows: Any = rows, columns: int = columns, mine: Any = mine) -> Any:
                return [Swap(values(rank, number, sum(rows), columns), mine[0], rows, [rows[rank]] * ranks)]

            meeting.swap(stream, swap)
        elif rank == source:
            meeting.send(stream, lambda n=number, t=total, c=columns: values(rank, n, t, c), target)  # type: ignore[misc]
        elif rank == target:
            mine.append(torch.full((total, columns), -1.0))
            meeting.receive(stream, lambda mine=mine: mine[0], source)  # type: ignore[misc]
    done()
    for tensor, rows_of in undefined:
        tensor[rows_of.to(tensor.device)] = LEFT_OUT
    return got


def _wanted_by(rank: int, ranks: int, number: int, rows: Sequence[int]) -> Tensor:
    """[sum(rows)] bool: which rows of all ranks this one is to have; its own are defined anyway."""
    return torch.cat(
        [chosen(ranks, number, count)[rank] | torch.tensor(owner == rank) for owner, count in enumerate(rows)]
    )


def expected(task: Task, number: int, rank: int, ranks: int) -> list[Tensor]:
    kind, rows, columns, (source, target) = task
    total, begin = sum(rows), sum(rows[:rank])
    whole = [values(each, number, total, columns) for each in range(ranks)]
    if kind == "gather":
        every = torch.cat([values(each, number, rows[each], columns) for each in range(ranks)])
        return [every, every[:, :1].int()]
    if kind == "some rows":
        every = torch.cat([values(each, number, rows[each], columns) for each in range(ranks)])
        every[~_wanted_by(rank, ranks, number, rows)] = LEFT_OUT
        return [every]
    if kind == "some sums":
        given = chosen(ranks, number, total)[:, :, None]
        of_mine = (torch.stack(whole) * given)[:, begin : begin + rows[rank]]
        return [of_mine.sum(0).bfloat16()]
    if kind == "sums":
        return [sum(each[begin : begin + rows[rank]] for each in whole).bfloat16()]  # type: ignore[union-attr]
    if kind == "add":
        return [torch.stack(whole).sum(0)]
    if kind == "swap":
        return [torch.cat([each[begin : begin + rows[rank]] for each in whole])]
    return [whole[source]] if rank == target else []


def wrong_tasks(tasks: Sequence[Task], got: Sequence[Sequence[Sequence[Tensor]]]) -> list[tuple[int, int]]:
    """The (rank, task) that did not get what they should have got."""
    found = []
    for rank, of_rank in enumerate(got):
        for number, (task, mine) in enumerate(zip(tasks, of_rank, strict=True)):
            right = expected(task, number, rank, len(got))
            if len(mine) != len(right) or not all(torch.equal(*pair) for pair in zip(mine, right, strict=True)):
                found.append((rank, number))
    return found
