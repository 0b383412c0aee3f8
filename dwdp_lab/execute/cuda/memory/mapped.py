"""Making blocks, ranges and mappings so that whatever was made is taken back, in reverse order, when anything fails.

Each function registers its undoing on the stack it is given; closing the stack is the teardown.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack

from dwdp_lab.execute.cuda.gpu.device import HandleKind, Memory


def created(stack: ExitStack, memory: Memory, nbytes: int, handles: HandleKind | None = None) -> int:
    """A new block until the stack closes."""
    block = memory.create(nbytes, handles)
    stack.callback(memory.release, block)
    return block


def adopted(stack: ExitStack, memory: Memory, exported: int | bytes) -> int:
    """A peer's block until the stack closes."""
    block = memory.adopt(exported)
    stack.callback(memory.release, block)
    return block


def reserved(stack: ExitStack, memory: Memory, nbytes: int) -> int:
    """A range of addresses until the stack closes."""
    address = memory.reserve(nbytes)
    stack.callback(memory.free, address, nbytes)
    return address


def mapped(stack: ExitStack, memory: Memory, pieces: Iterable[tuple[int, int]], address: int) -> None:
    """Put blocks, each (handle, bytes), one after another behind addresses until the stack closes."""
    for block, nbytes in pieces:
        memory.map(address, nbytes, block)
        stack.callback(memory.unmap, address, nbytes)
        address += nbytes


def range_of(stack: ExitStack, memory: Memory, blocks: Sequence[int], sizes: Sequence[int]) -> int:
    """A range with these blocks behind it, one after another, until the stack closes; its address."""
    address = reserved(stack, memory, sum(sizes))
    mapped(stack, memory, zip(blocks, sizes, strict=True), address)
    return address
