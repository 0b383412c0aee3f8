"""The stand-in refuses what the driver refuses."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from host_memory import HostMemory, Misuse

PAGE = 1 << 16


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        (["create(PAGE + 1)"], "no multiple"),
        (["create(0)"], "no multiple"),
        (["reserve(PAGE // 2)"], "no multiple"),
        (["map(a, PAGE, b)"], "only whole blocks"),
        (["map(a + 512, 2 * PAGE, b)"], "no multiple"),
        (["map(a + 3 * PAGE, 2 * PAGE, b)"], "not within a reserved range"),
        (["map(a, 2 * PAGE, b)", "map(a + PAGE, 2 * PAGE, b)"], "mapped at .* already"),
        (["map(a, 2 * PAGE, b)", "unmap(a, PAGE)"], "not whole mappings"),
        (["map(a, 2 * PAGE, b)", "unmap(a + PAGE, 2 * PAGE)"], "not whole mappings"),
        (["unmap(a, PAGE)"], "not whole mappings"),
        (["map(a, 2 * PAGE, b)", "free(a, 4 * PAGE)"], "still has mappings"),
        (["free(a, 2 * PAGE)"], "not a reserved range"),
        (["free(a, 4 * PAGE)", "free(a, 4 * PAGE)"], "not a reserved range"),
        (["release(b)", "release(b)"], "was released"),
        (["release(b)", "map(a, 2 * PAGE, b)"], "was released"),
        (["release(b)", "export(b, 'descriptor')"], "was released"),
        (["export(private, 'descriptor')"], "handed over as None"),
        (["export(b, 'fabric')"], "handed over as descriptor"),
        (["map(a, 2 * PAGE, b)", "tensor(a, (2 * PAGE + 1,), torch.uint8)"], "nothing is behind"),
        (["tensor(a, (1,), torch.uint8)"], "nothing is behind"),
    ],
)
def test_misuse_is_refused(calls: list[str], words: str) -> None:
    """The last of these calls, on a block b of two pages and a range of four at a."""
    memory = HostMemory(PAGE)
    names: dict[str, Any] = {
        "memory": memory,
        "PAGE": PAGE,
        "torch": torch,
        "b": memory.create(2 * PAGE, "descriptor"),
        "a": memory.reserve(4 * PAGE),
        "private": memory.create(PAGE),
    }
    *before, last = calls
    for call in before:
        eval(f"memory.{call}", names)
    with pytest.raises(Misuse, match=words):
        eval(f"memory.{last}", names)


def test_a_released_block_lives_on_in_its_mappings() -> None:
    memory, peer = HostMemory(PAGE), HostMemory(PAGE)
    block, address = memory.create(PAGE, "descriptor"), memory.reserve(PAGE)
    memory.map(address, PAGE, block)
    fd = memory.export(block, "descriptor")
    assert isinstance(fd, int)
    theirs, there = peer.adopt(fd), peer.reserve(PAGE)
    os.close(fd)
    peer.map(there, PAGE, theirs)
    peer.release(theirs)
    memory.tensor(address, (PAGE,), torch.uint8).fill_(3)
    memory.release(block)
    with pytest.raises(AssertionError):
        memory.assert_nothing_left()
    memory.unmap(address, PAGE)
    memory.free(address, PAGE)
    memory.assert_nothing_left()
    assert peer.tensor(there, (PAGE,), torch.uint8).eq(3).all()
    peer.unmap(there, PAGE)
    peer.free(there, PAGE)
    peer.assert_nothing_left()
