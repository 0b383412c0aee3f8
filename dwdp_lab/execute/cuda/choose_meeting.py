"""How a group meets: by copy engine where that works and nothing speaks against it, else as ranks met before."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from dwdp_lab.execute.cuda.gpu.device import Device, Stream
from dwdp_lab.execute.cuda.kept import Kept
from dwdp_lab.execute.cuda.meetings.copy_meeting import CopyMeeting
from dwdp_lab.execute.cuda.meetings.mailboxes import Mailboxes
from dwdp_lab.execute.cuda.meetings.meeting import Meeting
from dwdp_lab.execute.cuda.memory.choose_transport import NoTransport
from dwdp_lab.execute.messages import Order
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.scenario.errors import ScenarioError


@dataclass
class Meetings:
    """A rank's ends of the group's collectives. `underneath` is over NCCL, or through the host.

    `copies`: whether ranks may meet by copy engine at all.
    """

    underneath: Meeting
    copies: bool
    push: Stream | None = None
    """One for all orders: torch has few streams, and hands out the same again after 32."""

    def of(self, session: RankSession, device: Device, kept: Kept, order: Order) -> Meeting:
        """The meeting of one order. All ranks call this together.

        A captured step would wait for the numbers of the step that was captured, so replays do not meet by copies. Nor
        do gathered weights where NCCL can take them, unless told so: kernels read them out of the mailboxes.
        Raises ScenarioError where only copies are wanted, and do not work.
        """
        wish = order.scenario.strategy.collectives
        weights_by_nccl = wish == "auto" and "gather_weights" in order.kinds and self.underneath.holds_processors
        if wish == "nccl" or order.graph or not self.copies or session.ranks == 1 or weights_by_nccl:
            return self.underneath
        boxes: Mailboxes | None = None
        failure: str | None
        try:
            opened = kept.reach_mailboxes(session)
            boxes, failure = opened.boxes, opened.failure
        except NoTransport as error:  # raised on all ranks
            failure = str(error)
        if boxes is not None:
            self.push = self.push or device.stream("push")
            return CopyMeeting(device, self.push, boxes, self.underneath)
        if wish == "copy":
            allowed = f"does not work here ({failure})"
            raise ScenarioError("strategy.collectives", wish, allowed, "take auto, or nccl with a GPU for each rank")
        told = copy.copy(self.underneath)
        told.notes = (*told.notes, f"collectives by copy engine do not work here: {failure}")
        return told
