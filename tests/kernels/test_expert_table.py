"""The table of addresses: one strided view reaches every expert, wherever the buffers lie."""

from __future__ import annotations

import pytest
import torch
from dwdp_kernels.expert_table import (
    LARGEST_COORDINATE,
    LARGEST_STRIDE,
    expert_table,
    unit_bytes,
)
from hypothesis import given
from hypothesis import strategies as st
from kernel_cases import grouped_case, spread_over_buffers

ADDRESSES = st.lists(st.integers(1, 2**43 - 1).map(lambda place: 16 * place), min_size=1, max_size=20)


@given(addresses=ADDRESSES)
def test_the_unit_divides_all_distances(addresses: list[int]) -> None:
    unit = unit_bytes(addresses)
    assert unit % 16 == 0
    assert 0 < unit < LARGEST_STRIDE
    assert all((address - min(addresses)) % unit == 0 for address in addresses)


def test_a_unit_of_64_kib_spans_all_that_a_process_can_address() -> None:
    addresses = [0, 65536, 2**47 - 65536]
    assert unit_bytes(addresses) == 65536
    assert (max(addresses) - min(addresses)) // 65536 < LARGEST_COORDINATE + 2**16


@pytest.mark.parametrize("buffers", [1, 2, 4])
def test_every_expert_is_found_from_the_lowest_address(buffers: int) -> None:
    case = grouped_case([1] * 6, 32, 48, torch.float16)
    weights = spread_over_buffers(case.weights, buffers)
    made = expert_table(weights)
    lowest, unit, *addresses = made.table.tolist()
    assert (made.experts, made.rows, made.columns, made.dtype) == (6, 48, 32, torch.float16)
    assert addresses == [weight.data_ptr() for weight in weights]
    assert lowest == min(addresses)
    assert all((address - lowest) % (2 * unit) == 0 for address in addresses)
    assert made.reach == ((max(addresses) - lowest) // (2 * unit) < LARGEST_COORDINATE)


def test_a_stacked_tensor_is_as_good_as_its_experts() -> None:
    stacked = torch.zeros(5, 16, 32)
    assert torch.equal(expert_table(stacked).table, expert_table(list(stacked)).table)


def test_buffers_too_far_apart_for_one_descriptor_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = grouped_case([1, 1], 16, 16, torch.float32)
    weights = spread_over_buffers(case.weights, 2)
    assert expert_table(weights).reach
    monkeypatch.setattr("dwdp_kernels.expert_table.LARGEST_COORDINATE", 1)
    assert not expert_table(weights).reach


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        ([], "no experts"),
        ([torch.zeros(16, 16), torch.zeros(16, 32)], "expert 1's weight is"),
        ([torch.zeros(16, 16), torch.zeros(16, 16).half()], "expert 1's weight is"),
        ([torch.zeros(2, 16, 16)], "expert 0's weight is"),
        ([torch.zeros(16, 16).T[:, :16], torch.zeros(16, 32).T[:16]], "contiguous"),
        ([torch.zeros(257)[1:].view(16, 16)], "multiple of 16 bytes"),
        ([torch.zeros(16, 24)], "multiples of 16"),
        ([torch.zeros(8, 16)], "multiples of 16"),
        ([torch.zeros(0, 16)], "multiples of 16"),
    ],
)
def test_weights_that_kernels_cannot_read_are_refused(weights: list[torch.Tensor], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        expert_table(weights)
