"""The routing kernels against a stable sort, and the tiles against counting."""

from __future__ import annotations

import pytest
import torch
from dwdp_kernels.routing import route_visits, route_visits_reference, tiles_of, tiles_reference
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import counts_of_rows, routed_case


@given(
    tokens=st.integers(0, 40),
    experts=st.integers(1, 40),
    skew=st.sampled_from([0.0, 1.0, 5.0]),
    block=st.sampled_from([16, 64, 512]),
    dtype=st.sampled_from([torch.int32, torch.int64]),
    data=st.data(),
)
def test_visits_are_sorted_by_expert_and_stay_in_the_order_of_tokens(
    tokens: int, experts: int, skew: float, block: int, dtype: torch.dtype, data: st.DataObject
) -> None:
    top_k = data.draw(st.integers(1, min(experts, 8)))
    ids = routed_case(tokens, top_k, experts, 16, 16, torch.float32, skew, data.draw(st.integers(0, 999))).ids.to(dtype)
    routes, expected = route_visits(ids, experts, block), route_visits_reference(ids, experts)
    for found, wanted in zip(routes, expected, strict=True):
        assert found.dtype == torch.int32
        assert torch.equal(found, wanted)


@given(ids=st.lists(st.integers(-2, 7), min_size=1, max_size=80), block=st.sampled_from([16, 32]))
def test_an_id_that_is_no_expert_gets_no_row(ids: list[int], block: int) -> None:
    experts = 5
    visits = torch.tensor(ids).view(-1, 1)
    routes = route_visits(visits, experts, block)
    real = [place for place, expert in enumerate(ids) if 0 <= expert < experts]
    order = sorted(real, key=lambda place: ids[place])
    assert routes.offsets.tolist() == [sum(ids[place] < e for place in real) for e in range(experts + 1)]
    assert routes.token_of_row[: len(order)].tolist() == order
    assert routes.row_of_visit.flatten().tolist() == [
        order.index(place) if place in real else -1 for place in range(len(ids))
    ]


@pytest.mark.parametrize("experts", [1, 16, 17, 256])
def test_all_visits_to_one_expert(experts: int) -> None:
    ids = torch.full((70, 1), experts - 1)
    routes = route_visits(ids, experts, 32)
    assert routes.token_of_row.tolist() == list(range(70))
    assert routes.offsets.tolist() == [0] * experts + [70]


@given(counts=counts_of_rows(20, 60), height=st.sampled_from([1, 3, 16, 64]), spare=st.integers(0, 9))
def test_tiles_cover_each_expert_and_stay_in_bounds(counts: list[int], height: int, spare: int) -> None:
    offsets = torch.tensor([0, *torch.tensor(counts).cumsum(0).tolist()], dtype=torch.int32)
    tiles = tiles_of(offsets, sum(counts) + spare, height, block=16)
    expected = tiles_reference(offsets, height)
    used = int(tiles.used)
    assert used <= len(tiles.expert) <= (sum(counts) + spare) // height + len(counts)
    assert list(zip(tiles.expert[:used].tolist(), tiles.row[:used].tolist(), strict=True)) == expected
