"""What a rank of the CUDA machine keeps for the life of its process: its GPU, a stream per lane, weights, the group."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from dwdp_lab.execute.cuda.choose_meeting import Meetings
from dwdp_lab.execute.cuda.compute.arithmetic import Arithmetic
from dwdp_lab.execute.cuda.compute.choose_arithmetic import arithmetic_on
from dwdp_lab.execute.cuda.gpu.device import Copy, Device, Stream
from dwdp_lab.execute.cuda.gpu.queue_watch import QueueWatch
from dwdp_lab.execute.cuda.gpu.sensor_process import SensorProcess
from dwdp_lab.execute.cuda.kept import Kept
from dwdp_lab.execute.cuda.meetings.meeting import Meeting
from dwdp_lab.execute.messages import Order
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.program.operation import LANES, Lane
from dwdp_lab.scenario.strategy import CopyCalls

Join = Callable[[RankSession], Meeting]
"""Meets all other ranks; all must call it together."""
SetCopyWay = Callable[[Stream, Sequence[Copy], CopyCalls], str]
"""Lets the stream hand such copies over in the wished way, of which `auto` has to be found out; says which it is."""


@dataclass
class RankMachine:
    """Streams live as long as the process, because torch keeps a store of free memory for each stream.

    `used_bytes` tells how much of the GPU's memory is in use beside what was when this was made (None: nobody tells).
    """

    device: Device
    kept: Kept
    join: Join
    set_copy_way: SetCopyWay | None = None
    used_bytes: Callable[[], int] | None = None
    sensors: SensorProcess | None = None
    watch: QueueWatch | None = None
    copies: bool = False
    """Whether ranks may meet by copy engine, through each other's memory."""
    streams: dict[Lane, Stream] = field(init=False)
    arithmetic: Arithmetic = field(init=False)
    _meetings: Meetings | None = None

    def __post_init__(self) -> None:
        self.streams = {lane: self.device.stream(lane) for lane in LANES}
        self.arithmetic = arithmetic_on(self.device.torch_device)

    def meeting(self, session: RankSession, order: Order) -> Meeting:
        """The collectives of the group, joined once, in the way that suits the order. All ranks must call this
        together."""
        if self._meetings is None:
            self._meetings = Meetings(self.join(session), self.copies)
        return self._meetings.of(session, self.device, self.kept, order)

    def close(self, session: RankSession) -> None:
        """Give all memory back. All ranks must call this together."""
        self.device.synchronize()
        self.kept.close_mailboxes(session)
        self.kept.close()

    def watched(self) -> AbstractContextManager[None]:
        """In this context the host only queues work, and what else it does is seen."""
        return nullcontext() if self.watch is None else self.watch.watching()

    def held_bytes(self) -> int:
        """GPU memory that this rank keeps between runs; 0 where nobody tells."""
        self.device.memory.available()  # makes torch give back what it keeps for later
        return 0 if self.used_bytes is None else self.used_bytes()

    def copy_way(self, copies: Sequence[Copy], wish: CopyCalls) -> str | None:
        """How the copy lane hands such copies over from now on; None where there is but one way."""
        return None if self.set_copy_way is None else self.set_copy_way(self.streams["copy"], copies, wish)
