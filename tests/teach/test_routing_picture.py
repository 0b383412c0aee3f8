"""The picture of a routing shows every visit, and nothing else."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.teach.routing_picture import routing_picture


@given(st.lists(st.lists(st.integers(0, 7), min_size=2, max_size=2, unique=True), min_size=1, max_size=20))
def test_every_visit_is_drawn_once_and_the_batch_is_their_union(ids: list[list[int]]) -> None:
    svg = routing_picture(ids, experts=8, ranks=2).svg
    visits = re.findall(r"<title>token (\d+): expert (\d+)</title>", svg)
    assert sorted((int(token), int(expert)) for token, expert in visits) == sorted(
        (token, expert) for token, chosen in enumerate(ids) for expert in chosen
    )
    together = {int(expert) for expert in re.findall(r"<title>the batch: expert (\d+)</title>", svg)}
    assert together == {expert for chosen in ids for expert in chosen}
    assert f"Token 0 visits 2 of 8 experts; {len(ids)} tokens together visit {len(together)}." in svg


def test_experts_stand_under_the_rank_that_keeps_them() -> None:
    svg = routing_picture([[0, 5]], experts=6, ranks=3).svg
    owners = {int(rank): float(x) for x, rank in re.findall(r'<text x="([\d.]+)"[^>]*>kept by rank (\d)</text>', svg)}
    experts = {int(e): float(x) for x, e in re.findall(r'<text x="([\d.]+)"[^>]*>expert (\d)</text>', svg)}
    for expert, x in experts.items():
        assert min(owners, key=lambda rank: abs(owners[rank] - x)) == expert // 2


def test_what_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(ValueError, match="8 experts on 3 ranks"):
        routing_picture([[0, 1]], experts=8, ranks=3)
    with pytest.raises(ValueError, match="expert 8 does not exist"):
        routing_picture([[0, 8]], experts=8, ranks=2)
