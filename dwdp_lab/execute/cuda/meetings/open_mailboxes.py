"""Making and mapping a group's mailboxes, and trying them: all ranks have them in the end, or none.

Drivers report what they could do, not what they will, so every rank writes a word into every other's mailbox and waits
for theirs before the first piece is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import TypeVar, cast

import torch

from dwdp_lab.execute.cuda.compute.choose_arithmetic import arithmetic_on
from dwdp_lab.execute.cuda.gpu.copy_calls import CudaCallFailed
from dwdp_lab.execute.cuda.gpu.device import Device
from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError, is_out_of_memory
from dwdp_lab.execute.cuda.meetings.mailboxes import KINDS, MOST_RANKS, TRIED, WORD_BYTES, Mailboxes, word_at
from dwdp_lab.execute.cuda.memory.pages import up
from dwdp_lab.execute.cuda.memory.transport import Held, Transport
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.program.mailbox import FLAG_BYTES, PLACES, place_bytes

T = TypeVar("T")
TRY_S = 5.0
"""How long a word may be on its way. It takes microseconds."""


class OpenMailboxes:
    """A group's mailboxes as long as they are open; `boxes` is None where they cannot be, and `failure` tells why.

    All ranks make and close this together. `size` is of a place, `first` the number before the first piece's; both as
    small as tests want them.
    """

    def __init__(
        self, session: RankSession, device: Device, transport: Transport, size: int | None = None, first: int = 0
    ) -> None:
        self.boxes: Mailboxes | None = None
        self.failure: str | None = None
        self.short_of_memory = False
        """Whether that is all that failed: another time there may be enough."""
        self._device = device
        self._mine, self._theirs = ExitStack(), ExitStack()
        try:
            self.boxes = self._open(session, transport, size or place_bytes(session.ranks), first)
        except _Unfit as why:
            self.failure, self.short_of_memory = str(why), why.short_of_memory
            self.close(session)

    def _open(self, session: RankSession, transport: Transport, size: int, first: int) -> Mailboxes:
        nbytes = up(FLAG_BYTES + PLACES * (session.ranks - 1) * size, transport.page)
        rank, peers = session.rank, [peer for peer in range(session.ranks) if peer != session.rank]
        held = _together(session, "mailboxes made", lambda: self._make(session.ranks, transport, nbytes, first))
        wanted = {peer: [nbytes] for peer in peers}
        mapped = _together(session, "mailboxes mapped", lambda: transport.exchange(self._theirs, session, held, wanted))
        _together(session, "mailboxes tried", lambda: self._write_words(rank, mapped))
        _together(session, "mailboxes answered", lambda: self._see_words(transport, held.address, peers))
        put_rows = arithmetic_on(self._device.torch_device).put_rows
        return Mailboxes(rank, held.address, mapped, size, transport, first, put_rows)

    def close(self, session: RankSession) -> None:
        """Give all back, each rank its own memory when nobody has it mapped any more."""
        self.boxes = None
        self._device.synchronize()
        self._theirs.close()
        session.gather("mailboxes let go of", None)
        self._mine.close()

    def _make(self, ranks: int, transport: Transport, nbytes: int, first: int) -> Held:
        if (why := self._device.why_no_values()) is not None:
            raise _Unfit(why)
        if ranks > MOST_RANKS:
            raise _Unfit(f"a mailbox has words for {MOST_RANKS} ranks, and these are {ranks}")
        held = transport.hold(self._mine, [nbytes])
        words = transport.tensor(held.address, (FLAG_BYTES // 4,), torch.int32)
        words.zero_().add_(first - (first >> 31 << 32))  # as a signed number
        words[TRIED * WORD_BYTES // 4 :: KINDS * WORD_BYTES // 4] = 0
        self._device.synchronize()
        return held

    def _write_words(self, rank: int, peers: dict[int, int]) -> None:
        stream = self._device.stream("push")
        for address in peers.values():
            stream.write_value(address + word_at(TRIED, rank), 1)
        self._device.synchronize()

    def _see_words(self, transport: Transport, own: int, peers: list[int]) -> None:
        deadline = time.monotonic() + TRY_S
        for peer in peers:
            word = transport.tensor(own + word_at(TRIED, peer), (1,), torch.int32)
            while not word.item():
                if time.monotonic() > deadline:
                    raise _Unfit(f"what rank {peer} has written into this rank's memory is not seen here")
        stream = self._device.stream("push")
        for peer in peers:
            stream.wait_value(own + word_at(TRIED, peer), 1)  # which holds: if it is refused, it is so here
        self._device.synchronize()


class _Unfit(Exception):  # noqa: N818 - it reads as what it reports
    """Mailboxes cannot be."""

    def __init__(self, why: str, short_of_memory: bool = False) -> None:
        super().__init__(why)
        self.short_of_memory = short_of_memory


def _together(session: RankSession, name: str, work: Callable[[], T]) -> T:
    """What `work` returns, if it works on all ranks. Else raises the same _Unfit on all, for the first one."""
    try:
        result, failure = work(), None
    except (DriverError, CudaCallFailed, OSError, _Unfit) as error:
        result, failure = None, (f"rank {session.rank}: {error}", is_out_of_memory(error))
    failures, _ = session.gather(name, failure)
    if told := [each for each in failures if each is not None]:
        raise _Unfit(told[0][0], all(short for _, short in told))
    return cast("T", result)
