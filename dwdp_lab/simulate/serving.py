"""Serving a finite run of requests: queues in front of the passes whose times the simulator knows.

A client keeps so many requests in flight and sends the next when one is done. Independent servers (DWDP) get them in
turn, as a router does that knows nothing of their queues; one server of several ranks (DEP) deals what has come to the
ranks with the fewest tokens. Every rank makes passes of whole requests, first come, first served, within its budget.
So this has what steady passes have not: a start, a tail, queues that run dry, and servers that are not equally fast.
"""

from __future__ import annotations

import heapq
import itertools
import statistics
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

Pass = tuple[int, ...]
"""The lengths of the requests that one rank computes at once."""


class Waiting(NamedTuple):
    """A request in a queue: its tokens and when it came."""

    tokens: int
    came_us: float


@dataclass(frozen=True)
class Client:
    """Requests of these lengths, `in_flight` of them at once."""

    lengths: tuple[int, ...]
    in_flight: int


@dataclass(frozen=True)
class Budget:
    """What a rank computes in one pass at most."""

    tokens: int
    requests: int


@dataclass(frozen=True)
class Served:
    """A run: tokens per second and rank until the last request is done, and times to first token in milliseconds."""

    tokens_per_s: float
    median_ttft_ms: float
    mean_ttft_ms: float


def serve_in_turn(client: Client, budget: Budget, servers: Sequence[Callable[[Pass], float]]) -> Served:
    """Independent servers, each with its own time (microseconds) for a pass; requests go to them in turn."""
    queues: list[deque[Waiting]] = [deque() for _ in servers]
    turns = itertools.cycle(range(len(servers)))

    def admit(came: Sequence[Waiting]) -> None:
        for request in came:
            queues[next(turns)].append(request)

    def begin(server: int) -> tuple[list[Waiting], float]:
        taken = take(queues[server], budget)
        return taken, servers[server](tuple(one.tokens for one in taken)) if taken else 0.0

    return _run(client, len(servers), len(servers), admit, begin)


def serve_together(client: Client, budget: Budget, ranks: int, took_us: Callable[[Sequence[Pass]], float]) -> Served:
    """One server of several ranks that make their passes together; who has come is dealt out, the longest first."""
    queues: list[deque[Waiting]] = [deque() for _ in range(ranks)]

    def admit(came: Sequence[Waiting]) -> None:
        most = -(-(len(came) + sum(map(len, queues))) // ranks)
        for request in sorted(came, key=lambda one: -one.tokens):
            open_ones = [queue for queue in queues if len(queue) < most] or queues
            min(open_ones, key=lambda queue: sum(one.tokens for one in queue)).append(request)

    def begin(_: int) -> tuple[list[Waiting], float]:
        taken = [take(queue, budget) for queue in queues]
        passes = [tuple(one.tokens for one in some) for some in taken]
        return list(itertools.chain.from_iterable(taken)), took_us(passes) if any(passes) else 0.0

    return _run(client, 1, ranks, admit, begin)


def take(queue: deque[Waiting], budget: Budget) -> list[Waiting]:
    """The next pass of a queue: whole requests in order while they fit; one over the budget goes alone."""
    taken: list[Waiting] = []
    room = budget.tokens
    while queue and len(taken) < budget.requests and (queue[0].tokens <= room or not taken):
        taken.append(queue.popleft())
        room -= taken[-1].tokens
    return taken


def _run(
    client: Client,
    servers: int,
    ranks: int,
    admit: Callable[[Sequence[Waiting]], None],
    begin: Callable[[int], tuple[list[Waiting], float]],
) -> Served:
    lengths = iter(client.lengths)
    admit([Waiting(tokens, 0.0) for tokens in itertools.islice(lengths, client.in_flight)])
    ends: list[tuple[float, int, list[Waiting]]] = []
    idle = set(range(servers))
    waited_us: list[float] = []
    now = 0.0
    while True:
        for server in sorted(idle):
            taken, took_us = begin(server)
            if taken:
                heapq.heappush(ends, (now + took_us, server, taken))
                idle.discard(server)
        if not ends:
            break
        now, server, done = heapq.heappop(ends)
        waited_us += [now - one.came_us for one in done]
        idle.add(server)
        admit([Waiting(tokens, now) for tokens in itertools.islice(lengths, len(done))])
    total = sum(client.lengths)
    return Served(
        1e6 * total / now / ranks if now else 0.0, statistics.median(waited_us) / 1e3, statistics.fmean(waited_us) / 1e3
    )
