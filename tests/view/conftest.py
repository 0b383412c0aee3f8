"""A control room, and one whose ranks run as long as a test wants."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from machines_for_tests import LONG_S, Patient

from dwdp_lab.view import ControlRoom


@pytest.fixture(autouse=True)
def _no_recorded_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs are numbered from 1, however many ship in data/measured/."""
    monkeypatch.setattr("dwdp_lab.view.control.history.shipped", lambda *_: {})


@pytest.fixture
def room() -> Iterator[ControlRoom]:
    made = ControlRoom(idle_s=None)
    assert made.wait(LONG_S)
    yield made
    made.close()


@pytest.fixture
def patient(room: ControlRoom) -> Patient:
    machine = Patient()
    room.machines["cpu"] = machine
    room.turn(machine="cpu")
    return machine
