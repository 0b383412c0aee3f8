"""The live strip of the control room, on sensors made for the test."""

from __future__ import annotations

import re
import threading

import ipywidgets as widgets
import pytest

from dwdp_lab.execute.cuda.gpu_memory import Gpu
from dwdp_lab.execute.gpu_sample import GpuSample
from dwdp_lab.view.control import live_strip
from dwdp_lab.view.control.face import Face
from dwdp_lab.view.control.live_strip import GAUGES, HEIGHT, KEPT, LiveStrip, gpus, strip_html
from dwdp_lab.view.control.runs import RunState


def sample(**values: object) -> GpuSample:
    known: dict[str, object] = {
        "at_us": 0.0,
        "sm_mhz": 1980.0,
        "power_w": 600.0,
        "utilisation_pct": 50.0,
        "throttled": (),
        "nvlink_sent_gbps": 0.0,
        "nvlink_received_gbps": 350.0,
    }
    return GpuSample(**{**known, **values})  # type: ignore[arg-type]


class Counting:
    """Sensors whose power is how often they were looked at."""

    def __init__(self) -> None:
        self.looks = 0
        self.closed = False
        self.enough = threading.Event()

    def look(self) -> GpuSample:
        assert not self.closed
        self.looks += 1
        if self.looks >= 3:
            self.enough.set()
        return sample(power_w=float(self.looks))

    def close(self) -> None:
        self.closed = True


def test_it_shows_while_a_run_goes_on_and_keeps_the_last_after_it() -> None:
    sensors = Counting()
    strip = LiveStrip(lambda: [("GPU 0", sensors)], period_s=0.001)
    assert strip.widget.layout.display == "none"
    strip.start()
    strip.start()  # a second run in a row: still one thread
    assert sensors.enough.wait(20)
    strip.stop()
    assert strip._thread is not None
    strip._thread.join(20)
    looked = sensors.looks
    assert strip.widget.layout.display is None
    assert f"</svg> {looked}</td>" in strip.widget.value  # the last power, and no look after the end
    assert sensors.looks == looked
    assert sensors.closed


def test_a_run_that_begins_while_the_last_look_of_the_one_before_takes_long_is_shown() -> None:
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Counting):
        def look(self) -> GpuSample:
            begun.set()
            go_on.wait(20)
            return super().look()

    opened: list[Slow] = []

    def find() -> list[tuple[str, Slow]]:
        opened.append(Slow())
        return [("GPU 0", opened[-1])]

    strip = LiveStrip(find, period_s=0.001)
    strip.start()
    first = strip._thread
    assert begun.wait(20)
    strip.stop()
    strip.start()
    go_on.set()
    assert first is not None
    first.join(20)
    assert opened[0].closed
    assert opened[1].enough.wait(20)
    strip.stop()


def test_every_gauge_has_its_unit_and_all_gpus_share_a_scale() -> None:
    text = strip_html(["GPU 0", "GPU 1"], [[sample(power_w=350.0)], [sample(power_w=700.0)]])
    for gauge in GAUGES:
        assert f"{gauge.label}, {gauge.unit}" in text
    heights = [float(y) for y in re.findall(r"aria-label='power'><polyline points='[\d.]+,([\d.]+)'", text)]
    assert heights == [HEIGHT / 2, 0.0]


def test_what_a_gpu_does_not_tell_is_said_and_what_holds_its_clock_too() -> None:
    text = strip_html(["GPU 0"], [[sample(nvlink_sent_gbps=None, throttled=("software power cap",))]])
    assert text.count("not told") == 1
    assert "software power cap" in text
    assert "No live figures" in strip_html([], [])


def test_what_a_gpu_tells_no_more_is_not_shown_as_if_it_were_now() -> None:
    text = strip_html(["GPU 0"], [[sample(power_w=643.0), sample(power_w=None)]])
    assert "643" not in text
    assert text.count("not told") == 1


def test_a_trace_ends_at_the_right_and_moves_left() -> None:
    text = strip_html(["GPU 0"], [[sample(), sample(), sample()]])
    (points,) = re.findall(r"aria-label='utilisation'><polyline points='([^']+)'", text)
    across = [float(point.split(",")[0]) for point in points.split()]
    assert across[-1] == 120.0
    assert across == sorted(across)
    assert len(across) < KEPT


def test_gpus_are_those_that_ranks_would_use_and_none_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    here = (Gpu("GPU-b", "one", 0.0), Gpu("GPU-a", "other", 0.0))
    monkeypatch.setattr(live_strip, "visible_gpus", lambda: here)
    monkeypatch.setattr(live_strip, "SensorProcess", opened.append)
    monkeypatch.setattr(live_strip.importlib.util, "find_spec", lambda _: object())
    assert [name for name, _ in gpus()] == ["GPU 0", "GPU 1"]
    assert opened == ["GPU-b", "GPU-a"]
    monkeypatch.setattr(live_strip.importlib.util, "find_spec", lambda _: None)
    assert gpus() == []


def test_a_room_shows_it_only_while_gpus_are_at_work() -> None:
    face = Face(widgets.HTML(), widgets.HTML(), widgets.HTML())
    sensors = Counting()
    face.live_strip = LiveStrip(lambda: [("GPU 0", sensors)], period_s=0.001)
    face.show_state(RunState("running", "cpu"))
    assert face.live_strip.widget.layout.display == "none"
    face.show_state(RunState("running", "cuda"))
    assert sensors.enough.wait(20)
    face.show_state(RunState())
    assert face.live_strip._thread is not None
    face.live_strip._thread.join(20)
    assert not face.live_strip._thread.is_alive()
