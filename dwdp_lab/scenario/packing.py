"""Requests to passes: dealing them to ranks, and packing each rank's queue under a token budget."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

from dwdp_lab.scenario.batches import Batch, Chunk
from dwdp_lab.scenario.traces import BLOCK_TOKENS, TraceRequest


class Request(NamedTuple):
    """A request of `tokens` in all, the first `cached_tokens` of which need not be computed."""

    number: int
    tokens: int
    cached_tokens: int


def pack(queue: Iterable[Request], mnt_tokens: int) -> Iterator[Batch]:
    """First come, first served: whole requests while they fit; one over the budget is cut into chunks.

    Every pass computes at most `mnt_tokens` new tokens. A chunk that continues a request has the tokens
    before it as context. The queue may be endless: passes come out as soon as they are full.
    """
    chunks: list[Chunk] = []
    room = mnt_tokens
    for request in queue:
        done = request.cached_tokens
        if request.tokens - done > room and chunks:
            yield tuple(chunks)
            chunks, room = [], mnt_tokens
        while request.tokens - done > room:
            yield (Chunk(request.number, done, room),)
            done += room
        if request.tokens > done:
            chunks.append(Chunk(request.number, done, request.tokens - done))
            room -= request.tokens - done
    if chunks:
        yield tuple(chunks)


def pack_chunks(queue: Iterable[Request], mnt_tokens: int) -> Iterator[Batch]:
    """First come, first served, every pass filled to the budget: who does not fit any more is cut (chunked prefill)."""
    chunks: list[Chunk] = []
    room = mnt_tokens
    for request in queue:
        done = request.cached_tokens
        while done < request.tokens:
            new_tokens = min(room, request.tokens - done)
            chunks.append(Chunk(request.number, done, new_tokens))
            done += new_tokens
            room -= new_tokens
            if not room:
                yield tuple(chunks)
                chunks, room = [], mnt_tokens
    if chunks:
        yield tuple(chunks)


def deal(
    requests: Iterable[TraceRequest],
    ranks: int,
    assign: Literal["round_robin", "least_loaded"],
    divide_by: int,
    prefix_cache: bool,
) -> list[list[Request]]:
    """Each request to one rank, in order of arrival: in turn, or to the rank with the fewest tokens so far.

    A request's cached prefix is its longest run of leading blocks that its rank has seen before; at least
    one token is always computed.
    """
    queues: list[list[Request]] = [[] for _ in range(ranks)]
    load = [0] * ranks
    seen: list[set[int]] = [set() for _ in range(ranks)]
    for number, (length, blocks) in enumerate(requests):
        rank = number % ranks if assign == "round_robin" else load.index(min(load))
        hits = 0
        if prefix_cache:
            while hits < len(blocks) and blocks[hits] in seen[rank]:
                hits += 1
            seen[rank].update(blocks)
        tokens = max(1, round(length / divide_by))
        cached = min(hits * BLOCK_TOKENS // divide_by, tokens - 1)
        queues[rank].append(Request(number, tokens, cached))
        load[rank] += tokens - cached
    return queues


def deal_by_load(requests: Iterable[Request], ranks: int, per_rank: int) -> list[Iterator[Request]]:
    """The ranks' endless queues when one scheduler deals an endless stream to them, balancing their tokens.

    It takes `per_rank` requests per rank at a time (as many as passes complete), longest first, and gives each to the
    rank with the fewest tokens so far that does not have its number of them yet. This is how TensorRT-LLM, the paper's
    baseline, deals requests to the ranks of data-parallel attention by default (its `DefaultADPRouter`).
    """
    stream = iter(requests)
    waiting: list[deque[Request]] = [deque() for _ in range(ranks)]
    load = [0] * ranks

    def queue(rank: int) -> Iterator[Request]:
        while True:
            while not waiting[rank]:
                window = list(itertools.islice(stream, ranks * per_rank))
                room = [per_rank] * ranks
                for request in sorted(window, key=lambda request: request.cached_tokens - request.tokens):
                    lightest = min((place for place in range(ranks) if room[place]), key=load.__getitem__)
                    waiting[lightest].append(request)
                    load[lightest] += request.tokens - request.cached_tokens
                    room[lightest] -= 1
            yield waiting[rank].popleft()

    return [queue(rank) for rank in range(ranks)]
