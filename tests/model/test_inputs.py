"""Seeded inputs: a request's tokens and cache do not depend on how it is cut."""

from __future__ import annotations

import pytest
import torch
from any_decoder import small_shape
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.model import inputs
from dwdp_lab.model.inputs import cached_kv, hidden_inputs, token_ids
from dwdp_lab.scenario.batches import Chunk


@given(cuts=st.lists(st.integers(1, 40), min_size=1, max_size=5), seed=st.integers(0, 3))
def test_cutting_a_request_into_chunks_does_not_change_its_tokens(cuts: list[int], seed: int) -> None:
    shape = small_shape()
    whole = hidden_inputs(shape, (Chunk(9, 0, sum(cuts)),), seed)
    starts = [sum(cuts[:i]) for i in range(len(cuts))]
    pieces = [hidden_inputs(shape, (Chunk(9, start, new),), seed) for start, new in zip(starts, cuts, strict=True)]
    assert torch.equal(torch.cat(pieces), whole)


def test_a_batch_is_its_requests_one_after_another() -> None:
    shape = small_shape()
    chunks = (Chunk(4, 0, 7), Chunk(2, 30, 5), Chunk(4, 7, 1))
    together = hidden_inputs(shape, chunks, 1)
    assert together.shape == (13, 32)
    assert torch.equal(together, torch.cat([hidden_inputs(shape, (chunk,), 1) for chunk in chunks]))


def test_requests_and_seeds_differ() -> None:
    shape = small_shape(vocab=32000)
    ids = [token_ids(shape, (Chunk(r, 0, 64),), seed).tolist() for r in (0, 1) for seed in (0, 1)]
    assert len({tuple(x) for x in ids}) == 4
    assert all(0 <= token < 32000 for x in ids for token in x)
    assert len(set(ids[0])) > 60


def test_equal_tokens_have_equal_embeddings_of_unit_size() -> None:
    shape = small_shape(vocab=3, hidden=256)
    batch = (Chunk(0, 0, 50),)
    ids, hidden = token_ids(shape, batch, 2), hidden_inputs(shape, batch, 2)
    assert set(ids.tolist()) == {0, 1, 2}
    for token in range(3):
        rows = hidden[ids == token]
        assert torch.equal(rows, rows[:1].expand_as(rows))
        assert float(rows[0].std()) == pytest.approx(1.0, rel=0.15)
    assert not torch.equal(hidden[ids == 0][0], hidden[ids == 1][0])


def test_blocks_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    shape, batch = small_shape("bf16"), (Chunk(0, 3, 40), Chunk(1, 0, 9))
    whole = hidden_inputs(shape, batch, 0)
    monkeypatch.setattr(inputs, "_BLOCK", 100)
    assert torch.equal(hidden_inputs(shape, batch, 0), whole)
    assert whole.dtype == torch.bfloat16


def test_no_tokens() -> None:
    assert hidden_inputs(small_shape(), (), 0).shape == (0, 32)


def test_a_longer_context_begins_like_a_shorter_one() -> None:
    shape = small_shape()
    long = cached_kv(shape, 1, Chunk(3, 20, 5), 7)
    short = cached_kv(shape, 1, Chunk(3, 8, 40), 7)
    for part, start in zip(long, short, strict=True):
        assert part.shape == (20, 2, 8)
        assert torch.equal(part[:8], start)


def test_caches_of_other_layers_requests_and_seeds_differ() -> None:
    shape = small_shape()
    made = [
        part
        for layer, request, seed in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))
        for part in cached_kv(shape, layer, Chunk(request, 6, 1), seed)
    ]
    assert not any(torch.equal(a, b) for i, a in enumerate(made) for b in made[:i])
    assert cached_kv(shape, 0, Chunk(0, 0, 4), 0)[0].shape == (0, 2, 8)
