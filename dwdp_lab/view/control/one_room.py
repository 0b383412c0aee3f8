"""A kernel has one control room: a new one, as from running a cell again, takes the place of the one before."""

from __future__ import annotations

import weakref
from typing import Protocol

from dwdp_lab.view.control.history import History


class Room(Protocol):
    """What a room must be able to do."""

    history: History

    def close(self) -> None:
        """End everything the room has started."""
        ...


_latest: list[weakref.ref[Room]] = []


def take_over(room: Room) -> History:
    """Close the kernel's room, if it has one, make `room` the one it has, and return the history to go on with."""
    before = _latest.pop()() if _latest else None
    _latest.append(weakref.ref(room))
    if before is None:
        return History.with_shipped_runs()
    before.close()
    return before.history


def leave(room: Room) -> None:
    """The room is closed: the next one begins anew."""
    if _latest and _latest[0]() is room:
        _latest.clear()
