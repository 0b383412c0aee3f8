"""Copies between GPUs by copy engine, over the same memory, streams and events as the CUDA machine's pulls.

Copies wait on the device at a gate that opens at the agreed moment, so that what is timed has been issued by then and
all ranks start together. Times come from events; the device's clock is tied to the host's right before and after.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.gpu.clock import anchor, clock
from dwdp_lab.execute.cuda.gpu.copy_calls import CudaCallFailed
from dwdp_lab.execute.cuda.gpu.device import Copy, Device, Stream
from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError
from dwdp_lab.execute.cuda.gpu.gate import hold_until, opened_at
from dwdp_lab.execute.cuda.memory.pages import up
from dwdp_lab.execute.cuda.memory.transport import Transport
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.measure.transfers.source_engines import Range, SourceEngines, open_engines
from dwdp_lab.measure.transfers.transfers import Case, Plan, Way
from dwdp_lab.measure.transfers.transfers_end import Timing
from dwdp_lab.measure.transfers.transfers_pattern import GUARD, fill
from dwdp_lab.program.pull_plan import Slice


class CudaEnd:
    """One GPU rank's memory and copies. `streams` are those that hand copies over in each way."""

    def __init__(
        self,
        session: RankSession,
        plan: Plan,
        device: Device,
        transport: Transport,
        streams: Mapping[Way, Stream],
        own_gpus: bool = False,
    ) -> None:
        self.notes = [f"peers' memory: {transport.words}"]
        self._device = device
        self._streams = dict(streams)
        self._session = session
        with ExitStack() as own, ExitStack() as peers:
            nbytes = up(max(plan.shared_bytes, 1), transport.page)
            held = transport.hold(own, [nbytes])
            fill(transport.tensor(held.address, (nbytes,), torch.uint8), session.rank)
            others = [rank for rank in range(session.ranks) if rank != session.rank]
            addresses = transport.exchange(peers, session, held, {peer: [nbytes] for peer in others})
            self._sources = [addresses.get(rank, held.address) for rank in range(session.ranks)]
            self.shared: Sequence[Tensor] = [
                transport.tensor(address, (nbytes,), torch.uint8) for address in self._sources
            ]
            room = plan.target_bytes + 2 * GUARD
            self._target_address = transport.keep(own, room)
            self._target = transport.tensor(self._target_address, (room,), torch.uint8)
            self._other = torch.zeros(plan.evict_bytes, dtype=torch.uint8, device=device.torch_device)
            device.synchronize()
            session.gather("memory filled", None)
            self._replace_refused(session, nbytes)
            self._engines = self._engines_of_sources(others, nbytes, up(room, transport.page)) if own_gpus else None
            self._own, self._peers = own.pop_all(), peers.pop_all()

    def _replace_refused(self, session: RankSession, nbytes: int) -> None:
        """Ways that the driver offers and refuses for such memory become plain copies, and that is said."""
        source = self._sources[(session.rank + 1) % session.ranks]
        half = min(nbytes, len(self._target)) // 2
        few = [Copy(self._target_address + start, source + start, half) for start in (0, half)]
        for way, stream in tuple(self._streams.items()):
            try:
                stream.copy(few)
            except CudaCallFailed as refusal:
                if way == "plain":
                    raise
                self._streams[way] = self._streams["plain"]
                self.notes.append(
                    f"{way} copies are refused here: what goes by that name was copied plainly ({refusal})"
                )
        self._device.synchronize()

    def _engines_of_sources(self, others: Sequence[int], nbytes: int, room: int) -> SourceEngines | None:
        sources = {gpu: Range(self._sources[gpu], nbytes) for gpu in others}
        try:
            return open_engines(self._device, sources, [Range(self._target_address, room)])
        except DriverError as refusal:
            self.notes.append(f"the sources' engines cannot copy here: what goes by them the readers' did ({refusal})")
            return None

    def target(self, nbytes: int) -> Tensor:
        return self._target[:nbytes]

    def evict(self) -> None:
        self._other.add_(1)

    def copy(self, slices: Sequence[Slice], start_ns: int, case: Case) -> Timing:
        device = self._device
        stream = self._streams.get(case.way, self._streams["plain"])
        copies = [
            Copy(self._target_address + GUARD + s.slot_offset, self._sources[s.peer] + s.source_offset, s.nbytes)
            for s in slices
        ]
        begin, end = device.event(timed=True), device.event(timed=True)
        ends = [device.event(timed=True) for _ in copies] if case.marks else []
        before = anchor(device, stream)
        with hold_until(device, [stream], start_ns) if case.ahead else opened_at(None, start_ns):
            stream.record(begin)
            issuing_ns = time.monotonic_ns()
            if case.way == "kernel":
                stream.run(lambda: self._by_kernel(slices))
            elif case.way == "source" and self._engines is not None:
                self._engines.copy(stream, copies)
            elif case.marks:
                for copy, event in zip(copies, ends, strict=True):
                    stream.copy([copy])
                    stream.record(event)
            else:
                each = len(copies) // case.rounds  # rounds follow each other; within one, copies may land in any order
                for first in range(0, len(copies), each):
                    stream.copy(copies[first : first + each])
            stream.record(end)
            issued_ns = time.monotonic_ns()
        device.wait(end)
        tied = clock(device, before, anchor(device, stream))
        # only the beginning is put on the host's clock: what one device measures between two of its events is exacter
        began_ns = tied.host_ns(device.elapsed_us(before.event, begin))
        return Timing(
            began_ns,
            began_ns + 1e3 * device.elapsed_us(begin, end),
            issuing_ns,
            issued_ns,
            marks_ns=tuple([began_ns + 1e3 * device.elapsed_us(begin, event) for event in ends]),
            clock_error_us=tied.error_us,
        )

    def _by_kernel(self, slices: Sequence[Slice]) -> None:
        """Not by copy_, which between tensors of one type is a memcpy again, on whatever engine the driver takes."""
        for piece in slices:
            target = self._target[GUARD + piece.slot_offset :][: piece.nbytes]
            source = self.shared[piece.peer][piece.source_offset :][: piece.nbytes]
            if (piece.nbytes | piece.slot_offset | piece.source_offset) % 8 == 0:  # a kernel over bytes is slower
                target, source = target.view(torch.int64), source.view(torch.int64)
            torch.bitwise_or(source, 0, out=target)

    def settle(self) -> None:
        self._device.synchronize()

    def close(self) -> None:
        self._device.synchronize()
        self.shared = []
        del self._target
        self._peers.close()
        self._session.gather("peers' memory let go", None)  # CUDA IPC wants it in this order
        self._own.close()
