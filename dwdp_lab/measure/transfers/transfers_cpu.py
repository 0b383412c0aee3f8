"""Copies between CPU ranks, by the same function as their pulls: memory by file descriptor, mapped by every rank."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.shared_memory import PAGE, Mapping, copy_bytes, shared_block
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.measure.transfers.transfers import Case, Plan
from dwdp_lab.measure.transfers.transfers_end import Timing
from dwdp_lab.measure.transfers.transfers_pattern import GUARD, fill
from dwdp_lab.program.pull_plan import Slice

WATCH_NS = 200_000  # sleeping alone comes back up to 0.1 ms late; longer watching would take the core from a copy


class CpuEnd:
    """One CPU rank's memory and copies. Every page is touched before anything is timed, also those of the peers."""

    def __init__(self, session: RankSession, plan: Plan) -> None:
        self.notes: list[str] = []
        self._mappings: list[Mapping] = []
        shared = max(plan.shared_bytes, PAGE)
        own = shared_block(shared)
        try:
            fill(_bytes(self._map(own, shared)), session.rank)
            _, fds = session.gather("shared memory", None, [own])
        finally:
            os.close(own)
        peers = []
        for fd in fds:
            peers.append(self._map(fd, shared, writable=False))
            os.close(fd)
        self.shared: Sequence[Tensor] = [_bytes(peer) for peer in peers]
        self._source_addresses = [peer.address for peer in peers]
        target = self._private(plan.target_bytes + 2 * GUARD)
        self._target, self._target_address = _bytes(target), target.address
        self._other = _bytes(self._private(plan.evict_bytes)) if plan.evict_bytes else None
        for memory in (*self.shared, self._target):
            memory[::PAGE].sum()  # mapped from now on, so that no copy pays for it
        session.gather("touched", None)

    def _map(self, fd: int, nbytes: int, writable: bool = True) -> Mapping:
        mapping = Mapping(fd, nbytes, writable)
        self._mappings.append(mapping)
        return mapping

    def _private(self, nbytes: int) -> Mapping:
        """Memory of the kind that pulls land in: a block of its own, here mapped by nobody else."""
        fd = shared_block(nbytes)
        try:
            mapping = self._map(fd, nbytes)
        finally:
            os.close(fd)
        _bytes(mapping).fill_(0)
        return mapping

    def target(self, nbytes: int) -> Tensor:
        return self._target[:nbytes]

    def evict(self) -> None:
        if self._other is not None:
            self._other.add_(1)

    def copy(self, slices: Sequence[Slice], start_ns: int, case: Case) -> Timing:
        if case.way != "plain":
            raise ValueError(f"CPU ranks copy one slice after another, not {case.way}")
        target, sources, now_ns = self._target_address + GUARD, self._source_addresses, time.monotonic_ns
        copies = [(target + s.slot_offset, sources[s.peer] + s.source_offset, s.nbytes) for s in slices]
        ends = [0] * len(copies)
        while (left_ns := start_ns - now_ns()) > WATCH_NS:
            time.sleep((left_ns - WATCH_NS) / 1e9)
        copy_bytes(*copies[0][:2], 0)  # the call itself is cold after all that memory: about 20 us on the first copy
        faults = _page_faults()
        while now_ns() < start_ns:
            pass
        began_ns = now_ns()
        if case.marks:
            for place, (to, source, nbytes) in enumerate(copies):
                copy_bytes(to, source, nbytes)
                ends[place] = now_ns()
        else:
            for to, source, nbytes in copies:
                copy_bytes(to, source, nbytes)
        ended_ns = now_ns()
        faults = _page_faults() - faults
        return Timing(began_ns, ended_ns, began_ns, ended_ns, faults, tuple(ends) if case.marks else ())

    def settle(self) -> None:
        """Nothing is ever under way here."""

    def close(self) -> None:
        self.shared = []
        del self._target, self._other
        for mapping in self._mappings:
            mapping.close()


def _bytes(mapping: Mapping) -> Tensor:
    return mapping.tensor(0, (mapping.nbytes,), torch.uint8)


def _page_faults() -> int:
    """Minor page faults of this thread so far (of the process where the system does not tell them apart)."""
    return resource.getrusage(getattr(resource, "RUSAGE_THREAD", resource.RUSAGE_SELF)).ru_minflt
