"""The whole room, turned and pressed as a person would, without a browser."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest
from machines_for_tests import LONG_S, Patient, shown_by

from dwdp_lab.execute.failures import RankFailed
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.physics import physics_named
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.compare import compare
from dwdp_lab.view import ControlRoom
from dwdp_lab.view.control.choices import choices
from dwdp_lab.view.control.knobs import scenario_of
from dwdp_lab.view.control.machines import machines


def test_a_turned_knob_shows_what_the_simulator_says_of_the_new_scenario(room: ControlRoom) -> None:
    assert shown_by(room) == ["dep simulated", "dwdp simulated"]
    control = room.knobs.controls["cv"]
    control.value = "0.35"
    assert room.wait(LONG_S)
    assert room.scenario.workload.cv == 0.35
    fresh = [run_sim(room.scenario.with_strategy(name)) for name in ("dep", "dwdp")]
    assert [timeline.spans for timeline in room.timelines] == [timeline.spans for timeline in fresh]
    assert room.words == compare(fresh[1], fresh[0]).words
    assert room.words.partition(": ")[0] in room.face.words.value
    assert [run["operations"] for run in room.face.view.picture["runs"]] == [len(run.spans) for run in fresh]
    assert room.picture().svg.startswith("<svg ")


def test_every_knob_can_be_turned_by_hand(room: ControlRoom) -> None:
    for name, control in room.knobs.controls.items():
        before = room.settings.wish(name)
        if hasattr(control, "options") and name != "file":
            control.value = next(label for label in reversed(control.options) if label != control.value)
        elif name == "file":
            control.value = "mooncake-conversation-64"
        else:
            control.value = not control.value
        assert room.settings.wish(name) != before, name
        room.turn(workload="cv", **{name: before} if name != "workload" else {})
        assert room.wait(LONG_S)
    assert not room.face.run.disabled


def test_the_physics_knob_is_that_of_every_simulation_shown_and_of_the_run_kept(room: ControlRoom) -> None:
    room.turn(physics="realistic,power=off")
    assert room.wait(LONG_S)
    physics = physics_named("realistic,power=off")
    fresh = [run_sim(room.scenario.with_strategy(name), physics=physics) for name in ("dep", "dwdp")]
    assert [timeline.spans for timeline in room.timelines] == [timeline.spans for timeline in fresh]
    room.run()
    room.turn(physics="bound")
    assert room.wait(LONG_S)
    kept = room.history.runs[-1].timeline
    assert kept.spans == fresh[1].spans
    assert "physics: realistic,power=off" in kept.notes


def test_knobs_that_do_not_apply_are_hidden_or_greyed_with_the_reason(room: ControlRoom) -> None:
    knobs = room.knobs
    assert knobs.controls["file"].layout.display == "none"
    assert knobs.controls["cross_step"].disabled
    assert "there is one step" in knobs.notes["cross_step"].value
    room.turn(workload="trace")
    assert knobs.controls["file"].layout.display is None
    assert knobs.controls["cv"].layout.display == "none"
    room.turn(strategy="replicated")
    room.compare_with("alone")
    assert knobs.controls["slots"].disabled
    assert "replicated fetches no weights" in knobs.notes["overlap"].value
    assert "Off now: replicated fetches no weights" in knobs.controls["slots"].tooltip
    gpus = knobs.machine_buttons["cuda"]
    assert gpus.disabled
    assert gpus.tooltip == f"live GPUs: {room.machines['cuda'].missing}"
    assert room.machines["cuda"].missing in knobs.machine_note.value


def test_what_cannot_be_is_said_at_the_knob_and_nothing_is_lost(room: ControlRoom) -> None:
    before = room.timelines
    room.turn(workload="trace", file="no-such-trace.csv", mnt=4096)
    assert room.wait(LONG_S)
    assert "no-such-trace.csv" in room.knobs.notes["file"].value
    assert room.face.run.disabled
    assert room.timelines == before
    assert "dwdp-stale" in room.face.pane._dom_classes
    with pytest.raises(ScenarioError, match=r"workload\.file"):
        room.run()
    room.turn(file="azure-2023-code-64")
    assert room.wait(LONG_S)
    assert room.scenario.workload.mnt_tokens == 4096
    assert "no-such" not in room.knobs.notes["file"].value
    assert not room.face.run.disabled
    assert "dwdp-stale" not in room.face.pane._dom_classes
    with pytest.raises(KeyError, match="is no knob"):
        room.turn(csv=1)


def test_run_keeps_both_strategies_and_shows_them_measured(room: ControlRoom, patient: Patient) -> None:
    room.face.run.click()
    assert patient.began.wait(LONG_S)
    assert room.state.phase == "running"
    assert not room.face.stop.disabled
    assert "half done" in room.face.state.value
    patient.go_on.set()
    assert room.wait(LONG_S)
    assert shown_by(room) == ["dep measured", "dwdp measured"]
    assert [run.title for run in room.history.runs] == ["#1 DEP, CPU, measured", "#2 DWDP, CPU, measured"]
    assert "#2 DWDP" in room.face.subject.value
    assert "attention" in room.face.errors.value
    assert room.face.stop.disabled
    room.compare_with("sim")
    assert room.wait(LONG_S)
    assert shown_by(room) == ["dwdp simulated", "dwdp measured"]
    room.face.back.click()
    assert room.wait(LONG_S)
    assert shown_by(room) == ["dwdp simulated"]  # nothing is beside its own simulation
    room.show(1)
    room.turn(cv=0.1)
    assert room.wait(LONG_S)
    assert room.timelines[-1].provenance == "simulated"


def test_stop_ends_the_run_and_the_room_goes_on(room: ControlRoom, patient: Patient) -> None:
    room.run()
    assert patient.began.wait(LONG_S)
    room.turn(cv=0.4)  # knobs can be turned meanwhile, and the next run waits
    room.run()
    assert "one run waits" in room.face.state.value
    room.face.stop.click()
    assert room.wait(LONG_S)
    assert room.state.doing == "stopped"
    assert not room.history.runs
    assert room.scenario.workload.cv == 0.4
    assert len(patient.ran) == 1


def test_interrupting_a_cell_that_waits_stops_the_run(
    room: ControlRoom, patient: Patient, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.run()
    assert patient.began.wait(LONG_S)

    def interrupted(_: float | None) -> bool:
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(room._runs, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        room.wait(LONG_S)
    assert room.wait(LONG_S)
    assert room.state.doing == "stopped"


def test_a_failed_rank_shows_its_traceback_and_the_way_out(room: ControlRoom, patient: Patient) -> None:
    patient.fails = RankFailed(1, 'Traceback (most recent call last):\n  File "x.py"\nValueError: <no>', "the log")
    patient.go_on.set()
    room.run()
    assert room.wait(LONG_S)
    shown = room.face.trouble.value
    assert "ValueError: &lt;no&gt;" in shown
    assert "Rank 1 failed and all ranks have been ended. Run starts new ones" in shown
    patient.fails = None
    room.run()
    assert room.wait(LONG_S)
    assert not room.face.trouble.value
    assert len(room.history.runs) == 2


def test_a_new_room_takes_the_place_and_the_history_of_the_one_before(room: ControlRoom, patient: Patient) -> None:
    patient.go_on.set()
    room.run()
    assert room.wait(LONG_S)
    patient.go_on.clear()
    patient.began.clear()
    room.run()
    assert patient.began.wait(LONG_S)
    following = ControlRoom()
    assert room._runs.wait(LONG_S)  # its run has been stopped
    assert patient.stops
    assert following.wait(LONG_S)
    assert [run.number for run in following.history.runs] == [1, 2]
    assert "closed" in room.face.widget.children[0].value
    following.close()


def test_a_room_opens_on_any_scenario_and_refuses_a_machine_that_is_not_here() -> None:
    scenario = Scenario.create(group={"ranks": 3}, workload={"kind": "explicit", "lengths": [[64], [128, 7], [32]]})
    made = ControlRoom(scenario, machine="cpu", compared="alone")
    assert made.wait(LONG_S)
    assert made.scenario == scenario
    assert made.timelines == (run_sim(scenario),)
    assert made.words == "DWDP alone"
    made.close()
    with pytest.raises(ScenarioError, match=r"machine = 'cuda': allowed here are sim, cpu"):
        ControlRoom(machine="cuda")


def test_a_room_costs_no_figure_widget(room: ControlRoom) -> None:
    import plotly.graph_objects as go

    def parts(widget):  # type: ignore[no-untyped-def]
        yield widget
        for child in getattr(widget, "children", ()):
            yield from parts(child)

    assert not [widget for widget in parts(room.face.widget) if isinstance(widget, go.FigureWidget)]
    assert "application/vnd.jupyter.widget-view+json" in room._repr_mimebundle_()


def test_nothing_holds_a_room_that_is_closed_and_forgotten() -> None:
    import ipywidgets

    others = set(threading.enumerate())
    made = ControlRoom()
    assert made.wait(LONG_S)
    made.close()
    gone = weakref.ref(made)
    ipywidgets.Widget.close_all()
    del made
    for thread in set(threading.enumerate()) - others:  # the room's own, which it has told to end
        thread.join(LONG_S)
        assert not thread.is_alive()
    gc.collect()
    assert gone() is None


def test_gpus_are_offered_with_sizes_of_their_own_and_no_pace(
    room: ControlRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = room.settings
    settings.set("machine", "cuda")
    scenario = scenario_of(settings)
    assert (scenario.model.name, scenario.model.layers, scenario.ranks) == ("qwen3-30b-a3b", 8, 2)
    assert scenario.link_gbps is None
    assert [choice.value for choice in choices(settings, "link")] == [None]
    settings.set("machine", "cpu")
    assert scenario_of(settings).model.name == "tiny"

    monkeypatch.setattr("dwdp_lab.view.control.machines.Path.exists", lambda _: True)

    def refuse() -> None:
        raise ScenarioError("machine", "cuda", "torch finds no NVIDIA GPU", "see what nvidia-smi says")

    monkeypatch.setattr("dwdp_lab.view.control.machines.check_gpus_here", refuse)
    assert machines()["cuda"].missing == "torch finds no NVIDIA GPU; see what nvidia-smi says"
    monkeypatch.setattr("dwdp_lab.view.control.machines.check_gpus_here", lambda: None)
    assert machines()["cuda"].missing == ""
