"""Packing requests into passes: nothing lost, nothing twice, never over the budget."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, islice, pairwise

from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.scenario.batches import Batch, Chunk
from dwdp_lab.scenario.packing import Request, deal, pack, pack_chunks
from dwdp_lab.scenario.traces import BLOCK_TOKENS, TraceRequest

budgets = st.integers(1, 64)
Packing = Callable[[list[Request], int], Iterator[Batch]]


@st.composite
def queues(draw: st.DrawFn) -> list[Request]:
    tokens = draw(st.lists(st.integers(1, 200), max_size=20))
    return [Request(number, n, draw(st.integers(0, n - 1))) for number, n in enumerate(tokens)]


@given(queues(), budgets, st.sampled_from([pack, pack_chunks]))
def test_every_new_token_is_computed_once_and_in_order(queue: list[Request], budget: int, packed: Packing) -> None:
    done: dict[int, int] = {}
    order = []
    for batch in packed(queue, budget):
        for chunk in batch:
            start = done.get(chunk.request, queue[chunk.request].cached_tokens)
            assert chunk.context_tokens == start, "a chunk continues where the last one of its request ended"
            assert chunk.new_tokens > 0
            done[chunk.request] = start + chunk.new_tokens
            order.append(chunk.request)
    assert done == {request.number: request.tokens for request in queue}
    assert order == sorted(order), "first come, first served"


@given(queues(), budgets)
def test_no_pass_is_over_the_budget_or_empty(queue: list[Request], budget: int) -> None:
    for batch in pack(queue, budget):
        assert 1 <= sum(chunk.new_tokens for chunk in batch) <= budget


@given(queues(), budgets)
def test_chunked_passes_are_full_but_for_the_last(queue: list[Request], budget: int) -> None:
    sizes = [sum(chunk.new_tokens for chunk in batch) for batch in pack_chunks(queue, budget)]
    assert all(size == budget for size in sizes[:-1])
    assert all(1 <= size <= budget for size in sizes[-1:])


@given(queues(), budgets)
def test_only_requests_over_the_budget_are_cut(queue: list[Request], budget: int) -> None:
    chunks = [chunk.request for batch in pack(queue, budget) for chunk in batch]
    for request in queue:
        new = request.tokens - request.cached_tokens
        assert chunks.count(request.number) == -(-new // budget)


@given(queues(), budgets)
def test_a_pass_ends_only_when_the_next_request_does_not_fit(queue: list[Request], budget: int) -> None:
    batches = list(pack(queue, budget))
    for batch, following in pairwise(batches):
        first = following[0]
        rest = queue[first.request].tokens - first.context_tokens
        room = budget - sum(chunk.new_tokens for chunk in batch)
        assert rest > room


def test_an_endless_queue_packs_as_it_goes() -> None:
    endless = (Request(number, 3, 0) for number in count())
    first: list[Batch] = list(islice(pack(endless, 7), 2))
    assert first == [(Chunk(0, 0, 3), Chunk(1, 0, 3)), (Chunk(2, 0, 3), Chunk(3, 0, 3))]


lengths = st.lists(st.integers(1, 5000), max_size=40)


@given(lengths, st.integers(1, 6), st.integers(1, 64))
def test_requests_go_to_ranks_in_turn(tokens: list[int], ranks: int, divide_by: int) -> None:
    queues_by_rank = deal(map(TraceRequest, tokens), ranks, "round_robin", divide_by, True)
    for rank, queue in enumerate(queues_by_rank):
        assert [request.number for request in queue] == list(range(rank, len(tokens), ranks))
        assert [request.tokens for request in queue] == [max(1, round(n / divide_by)) for n in tokens[rank::ranks]]


@given(lengths, st.integers(1, 6))
def test_the_least_loaded_rank_gets_the_next_request(tokens: list[int], ranks: int) -> None:
    queues_by_rank = deal(map(TraceRequest, tokens), ranks, "least_loaded", 1, False)
    loads = [sum(request.tokens for request in queue) for queue in queues_by_rank]
    assert sum(loads) == sum(tokens)
    if tokens:
        # greedy: whoever got the last request was lightest before it
        assert max(loads) - min(loads) <= max(tokens)


def test_shared_blocks_are_hits_on_the_rank_that_has_them() -> None:
    system, other = (1, 2), (9,)
    trace = [
        TraceRequest(3 * BLOCK_TOKENS, (*system, 3)),  # rank 0: all new
        TraceRequest(3 * BLOCK_TOKENS, (*system, 4)),  # rank 1: all new, for it never saw the blocks
        TraceRequest(3 * BLOCK_TOKENS, (*system, 5)),  # rank 0: two blocks known
        TraceRequest(3 * BLOCK_TOKENS, (*other, *system)),  # rank 1: known blocks after a new one are no prefix
        TraceRequest(2 * BLOCK_TOKENS, system),  # rank 0: all known, yet one token is computed
    ]
    first, second = deal(trace, 2, "round_robin", 1, True)
    assert [request.cached_tokens for request in first] == [0, 2 * BLOCK_TOKENS, 2 * BLOCK_TOKENS - 1]
    assert [request.cached_tokens for request in second] == [0, 0]
    assert all(request.cached_tokens == 0 for queue in deal(trace, 2, "round_robin", 1, False) for request in queue)


def test_hits_shrink_with_the_lengths() -> None:
    trace = [TraceRequest(1024, (1, 2)), TraceRequest(1536, (1, 2, 3))]
    ((_, second),) = deal(trace, 1, "round_robin", 16, True)
    assert second == Request(1, 96, 64)
