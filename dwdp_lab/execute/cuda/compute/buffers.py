"""The tensors that operations hand on, kept exactly as long as some lane may read them.

torch gives a tensor's memory to the next one that its stream makes as soon as nothing refers to it, although another
stream may still read it. So a buffer keeps its contents until the operation that replaces them is queued: the checker
has proven that all readers come before that one (program/accesses.py names the same buffers). Where the two belong to
different lanes, and at the end of a step, torch is told to wait for all lanes instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from dwdp_lab.execute.cuda.gpu.device import Stream
from dwdp_lab.execute.tokens import Tokens, tokens_of
from dwdp_lab.program.operation import Lane, Op


class _Kept(NamedTuple):
    lane: Lane
    tensors: tuple[Tensor, ...]


class Buffers:
    """What each step or micro-batch has in hand, by name. Each has its own, because they may be interleaved."""

    def __init__(self, streams: Mapping[Lane, Stream]) -> None:
        self._streams = streams
        """Of the lanes that read or write buffers."""
        self._kept: dict[tuple[str, Tokens], _Kept] = {}

    def put(self, name: str, op: Op, *tensors: Tensor) -> None:
        """New contents, made by an operation on its lane."""
        key = name, tokens_of(op)
        before = self._kept.get(key)
        if before is not None and before.lane != op.lane:
            self._let_go(before)
        self._kept[key] = _Kept(op.lane, tensors)

    def get(self, name: str, tokens: Tokens) -> tuple[Tensor, ...]:
        """The contents."""
        return self._kept[name, tokens].tensors

    def find(self, name: str, tokens: Tokens) -> tuple[Tensor, ...]:
        """The contents; nothing before there are any."""
        kept = self._kept.get((name, tokens))
        return () if kept is None else kept.tensors

    def take(self, name: str, op: Op) -> tuple[Tensor, ...]:
        """The contents, if there are any, for an operation after which nothing looks for them here.

        Of its own lane's the operation has the last reference. Another lane's stay, as if it had only read them: torch
        would give their memory back no earlier than the device is done with it, far behind the host that queues, and
        not at all while a graph is captured; so every layer would need memory of its own.
        """
        kept = self._kept.get((name, tokens_of(op)))
        if kept is None:
            return ()
        if kept.lane == op.lane:
            del self._kept[name, tokens_of(op)]
        return kept.tensors

    def drop(self, tokens: Tokens, but: str | None) -> None:
        """Nothing that is still to be queued reads what is left of these tokens, but perhaps one buffer."""
        for name, of in list(self._kept):
            if of == tokens and name != but:
                self._let_go(self._kept.pop((name, of)))

    def clear(self) -> None:
        """Keep nothing any more; the device has done all of its work."""
        self._kept.clear()

    def _let_go(self, kept: _Kept) -> None:
        for tensor in kept.tensors:
            for lane, stream in self._streams.items():
                if lane != kept.lane:
                    stream.uses(tensor)
