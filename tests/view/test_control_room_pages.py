"""The pages below the timeline: history, saved runs, plots."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from machines_for_tests import LONG_S, Patient, shown_by

from dwdp_lab.view import ControlRoom


def uploaded(name: str, content: bytes) -> dict[str, object]:
    about = {"name": name, "type": "application/json", "size": len(content)}
    return {**about, "last_modified": datetime.now(UTC), "content": memoryview(content)}


def test_saved_runs_are_opened_as_recorded(room: ControlRoom, patient: Patient, tmp_path: Path) -> None:
    patient.go_on.set()
    room.run()
    assert room.wait(LONG_S)
    path = room.save(tmp_path / "runs.json")
    room.forget(1)
    room.forget(2)
    assert room.wait(LONG_S)
    room.face.open.value = (uploaded("runs.json", path.read_bytes()),)
    assert room.wait(LONG_S)
    assert shown_by(room) == ["dep recorded", "dwdp recorded"]
    assert [run.number for run in room.history.runs] == [1, 2]
    room.face.open.value = (uploaded("other.json", b"{}"),)
    assert "other.json: the file is neither" in room.face.trouble.value
    assert room.wait(LONG_S)
    assert len(room.history.runs) == 2
    sent: list[object] = []
    room.face.view.send = lambda content, buffers=None: sent.append((content, buffers))
    room.face.save.click()
    assert sent == [({"file": "dwdp-runs.json"}, [room.history.to_text().encode()])]


def test_history_lines_show_compare_and_forget(room: ControlRoom) -> None:
    room.run()
    assert room.wait(LONG_S)
    room.turn(cv=0.5)
    lines = room._table.widget.children
    assert len(lines) == 2
    show, against, forget = lines[-1].children[1].children
    against.click()
    assert room.wait(LONG_S)
    assert room.timelines[0] == room.history.get(1).timeline
    assert "(not the same batches)" in room.words
    show.click()
    assert room.wait(LONG_S)
    assert room.timelines[-1] == room.history.get(1).timeline
    forget.click()
    assert room.wait(LONG_S)
    assert [run.number for run in room.history.runs] == [2]
    assert shown_by(room) == ["dwdp simulated"]  # what it was compared with is gone


def test_plots_are_drawn_for_the_knobs_as_they_stand(room: ControlRoom) -> None:
    room.plots.draw.click()
    assert room.wait(LONG_S)
    assert "<svg" in room.plots.picture.value
    room.turn(cv=0.1)
    assert "Draw renews it" in room.plots.note.value
    room.plots.choice.value = "contention"
    assert room.wait(LONG_S)
    assert room.plots.drawn is not None
    assert room.plots.drawn.title.startswith("Contention")
    room.turn(slice=1 << 20, order="interleaved")
    room.plots.draw.click()
    assert room.wait(LONG_S)
    assert "strategy.slice_bytes" in room.plots.picture.value


def test_one_page_is_open_at_a_time(room: ControlRoom) -> None:
    room.face.tabs["History"].value = True
    assert [tab.value for tab in room.face.tabs.values()] == [False, False, True, False]
    assert room.face._pages["History"].layout.display is None
    assert room.face._pages["Numbers"].layout.display == "none"
    room.face.tabs["History"].value = False  # pressing the open one again does not leave an empty page
    assert room.face.tabs["History"].value
