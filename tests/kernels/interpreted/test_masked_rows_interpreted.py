"""Rows that a mask chooses, found, written and added up, against plain torch; what is left out is NaN."""

from __future__ import annotations

import math

import dwdp_kernels.masked_rows_reference as plain
import pytest
import torch
from dwdp_kernels.masked_rows import add_rows, put_rows, visited_ranks
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

UNTOUCHED = 0xAB


def mask(*size: int) -> Tensor:
    return torch.rand(*size) < 0.6


@given(
    tokens=st.sampled_from([0, 1, 63, 130]),
    ranks=st.integers(1, 4),
    top_k=st.integers(1, 5),
    dtype=st.sampled_from([torch.int32, torch.int64]),
)
def test_ranks_that_have_an_expert_of_a_token(tokens: int, ranks: int, top_k: int, dtype: torch.dtype) -> None:
    torch.manual_seed(tokens + top_k)
    owners = torch.arange(ranks, dtype=torch.int32).repeat_interleave(2)
    ids = torch.randint(-1, 2 * ranks + 1, (tokens, top_k), dtype=dtype)  # some are no experts
    found = visited_ranks(ids, owners, ranks)
    by_hand = [[any(i // 2 == rank and i >= 0 for i in row) for row in ids.tolist()] for rank in range(ranks)]
    assert found.dtype == torch.bool
    assert found.tolist() == by_hand
    assert torch.equal(plain.visited_ranks(ids, owners, ranks), found)


@given(rows=st.integers(1, 11), width=st.sampled_from([1, 2, 6, 16, 520]), data=st.data())
def test_rows_that_are_wanted_are_written_and_no_others(rows: int, width: int, data: st.DataObject) -> None:
    """From anywhere within one row to anywhere in another, as pieces of a message are cut."""
    torch.manual_seed(rows)
    source = torch.randint(255, (rows, width), dtype=torch.uint8)
    word = next(each for each in (4, 2, 1) if width % each == 0)
    first = data.draw(st.integers(0, rows * width // word)) * word
    count = data.draw(st.integers(0, (rows * width - first) // word)) * word
    wanted = mask(rows)
    memory, expected = torch.full((2, count + 8), UNTOUCHED, dtype=torch.uint8)
    put_rows(source, wanted, first, memory[4 : 4 + count])
    for place in range(first, first + count):
        if wanted[place // width]:
            expected[4 + place - first] = source.view(-1)[place]
    assert torch.equal(memory, expected)
    again = torch.full((count,), UNTOUCHED, dtype=torch.uint8)
    plain.put_rows(source, wanted, first, again)
    assert torch.equal(again, expected[4 : 4 + count])


@given(
    ranks=st.integers(2, 4),
    rows=st.integers(1, 9),
    columns=st.sampled_from([1, 24, 130]),
    dtype=st.sampled_from([torch.float32, torch.float16]),
    data=st.data(),
)
def test_sums_of_rows_that_are_given(
    ranks: int, rows: int, columns: int, dtype: torch.dtype, data: st.DataObject
) -> None:
    torch.manual_seed(rows)
    first = data.draw(st.integers(0, rows * columns - 1))
    count = data.draw(st.integers(0, rows * columns - first))
    chosen = mask(ranks, 2 * rows)[:, rows // 2 :][:, :rows]  # a part of all ranks' tokens
    whole = torch.randn(ranks, rows, columns).to(dtype)
    zeroed = torch.where(chosen[:, :, None], whole, 0.0).view(ranks, -1)[:, first : first + count].float()
    in_order = zeroed[0]
    for each in zeroed[1:]:
        in_order = in_order + each
    spoilt = torch.where(chosen[:, :, None], whole, math.nan).view(ranks, -1)[:, first : first + count]
    for add in (add_rows, plain.add_rows):
        out = torch.full((count,), math.nan, dtype=dtype)
        add([part.contiguous() for part in spoilt], chosen, columns, first, out)
        assert torch.equal(out, in_order.to(dtype))


def test_refused() -> None:
    rows, wanted, target = torch.ones(3, 4), torch.ones(3, dtype=torch.bool), torch.zeros(16, dtype=torch.uint8)
    for arguments in (
        (rows, wanted[:2], 0, target),
        (rows, wanted.int(), 0, target),
        (rows, wanted, 36, target),
        (rows.T, torch.ones(4, dtype=torch.bool), 0, target),
        (rows, wanted, 0, rows[0]),
    ):
        for put in (put_rows, plain.put_rows):
            with pytest.raises(ValueError, match="needed"):
                put(*arguments)
    with pytest.raises(ValueError, match="whole words of 4 bytes"):
        put_rows(rows, wanted, 2, target)
    parts, given, out = [torch.ones(8), torch.ones(8)], torch.ones(2, 2, dtype=torch.bool), torch.ones(8)
    for sums in ((parts[:1], given[:1], 4, 0, out), (parts, given.int(), 4, 0, out), (parts, given, 4, 1, out)):
        for add in (add_rows, plain.add_rows):
            with pytest.raises(ValueError, match="needed"):
                add(*sums)
