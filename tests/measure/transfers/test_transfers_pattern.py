"""Would a wrong byte be noticed? Every way in which a copy can go wrong, on the data that is copied."""

from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dwdp_lab.measure.transfers import transfers_pattern
from dwdp_lab.measure.transfers.transfers_pattern import GUARD, WrongBytes, check_received, expected_bytes, fill
from dwdp_lab.program.pull_plan import Slice

BYTES = 32 * 1024
SCRUBBED = 7


def memory(rank: int) -> Tensor:
    made = torch.empty(BYTES, dtype=torch.uint8)
    fill(made, rank)
    return made


SOURCES = [memory(rank) for rank in range(3)]
SLICES = [Slice(1, 0, 3000, 2000), Slice(2, 5003, 0, 3000), Slice(1, 2000, 5000, 4096)]
EXTENT = 9096


def received() -> Tensor:
    target = torch.full((EXTENT + 2 * GUARD,), SCRUBBED, dtype=torch.uint8)
    for peer, source, slot, nbytes in SLICES:
        target[GUARD + slot : GUARD + slot + nbytes] = SOURCES[peer][source : source + nbytes]
    return target


def test_what_is_right_passes_and_is_counted() -> None:
    assert check_received(received(), SLICES, SOURCES, SCRUBBED) == 2000 + 3000 + 4096


@given(st.integers(0, EXTENT + 2 * GUARD - 1), st.integers(1, 255))
def test_any_wrong_byte_is_noticed(place: int, difference: int) -> None:
    target = received()
    target[place] = (int(target[place]) + difference) % 256
    with pytest.raises(WrongBytes):
        check_received(target, SLICES, SOURCES, SCRUBBED)


def test_a_copy_that_never_happened_is_noticed() -> None:
    """The target is scrubbed before every turn, so what an earlier one brought does not pass for this one's."""
    target = received()
    target[GUARD + 3000 : GUARD + 5000] = SCRUBBED
    with pytest.raises(WrongBytes, match="is 7, its source holds"):
        check_received(target, SLICES, SOURCES, SCRUBBED)


@pytest.mark.parametrize("shift", [1, 8, 4096])
def test_a_source_mapped_at_a_wrong_place_is_noticed(shift: int) -> None:
    """Both sides then agree, but not with what must stand there."""
    wrong = [source.roll(shift) for source in SOURCES]
    target = torch.full((EXTENT + 2 * GUARD,), SCRUBBED, dtype=torch.uint8)
    for peer, source, slot, nbytes in SLICES:
        target[GUARD + slot : GUARD + slot + nbytes] = wrong[peer][source : source + nbytes]
    with pytest.raises(WrongBytes, match="another rank or another place"):
        check_received(target, SLICES, wrong, SCRUBBED)


def test_another_ranks_memory_is_noticed() -> None:
    swapped = [SOURCES[0], SOURCES[2], SOURCES[1]]
    target = torch.full((EXTENT + 2 * GUARD,), SCRUBBED, dtype=torch.uint8)
    for peer, source, slot, nbytes in SLICES:
        target[GUARD + slot : GUARD + slot + nbytes] = swapped[peer][source : source + nbytes]
    with pytest.raises(WrongBytes, match="another rank or another place"):
        check_received(target, SLICES, swapped, SCRUBBED)


def splitmix(rank: int, place: int) -> int:
    """The slow obvious version, in Python's whole numbers."""
    whole = (1 << 64) - 1
    mixed = ((place + 1) * 0x9E3779B97F4A7C15 + (rank + 1) * 1442695040888963407) & whole
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & whole
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & whole
    return mixed ^ (mixed >> 31)


def test_memory_larger_than_what_is_written_or_compared_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filled and compared piece by piece, it holds the same, and a wrong byte is named where it lies."""
    monkeypatch.setattr(transfers_pattern, "_CHUNK", 1000)
    monkeypatch.setattr(transfers_pattern, "_COMPARED", 1365)  # of 4096 the last one is compared alone
    assert torch.equal(memory(1), SOURCES[1])
    assert check_received(received(), SLICES, SOURCES, SCRUBBED) == 2000 + 3000 + 4096
    target, last = received(), re.escape(str(SLICES[2]))
    for place in (4095, 2500):  # the first difference is told
        target[GUARD + 5000 + place] = int(target[GUARD + 5000 + place]) ^ 1
        with pytest.raises(WrongBytes, match=rf"^byte {place} of {last} is \d+, its source holds \d+$"):
            check_received(target, SLICES, SOURCES, SCRUBBED)


@given(st.integers(0, 2), st.integers(0, BYTES - 1))
def test_each_byte_is_the_one_that_anyone_can_compute(rank: int, offset: int) -> None:
    byte = splitmix(rank, offset // 8).to_bytes(8, "little")[offset % 8]
    assert int(SOURCES[rank][offset]) == byte
    assert int(expected_bytes(rank, torch.tensor([offset]))[0]) == byte


def test_the_bytes_look_random_and_no_two_words_are_the_same() -> None:
    everything = torch.cat(SOURCES)
    counts = torch.bincount(everything.long(), minlength=256).double()
    expected = len(everything) / 256
    chi_squared = float(((counts - expected) ** 2 / expected).sum())
    assert 150 < chi_squared < 400  # 255 degrees of freedom: mean 255, standard deviation 23
    assert len(everything.view(torch.int64).unique()) == len(everything) // 8
