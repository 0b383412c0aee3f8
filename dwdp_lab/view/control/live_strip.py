"""What every GPU does right now, while a run on GPUs goes on: utilisation, SM clock, power, NVLink traffic."""

from __future__ import annotations

import importlib.util
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import NamedTuple, Protocol

import ipywidgets as widgets

from dwdp_lab.execute.cuda.gpu.sensor_process import SensorProcess
from dwdp_lab.execute.cuda.gpu_memory import visible_gpus
from dwdp_lab.execute.gpu_sample import GpuSample

PERIOD_S = 0.25
KEPT = 60  # samples of a trace: 15 s
WIDTH, HEIGHT = 120, 20  # pixels of a trace


class Looks(Protocol):
    """Anything that can be looked at like one GPU's sensors."""

    def look(self) -> GpuSample: ...

    def close(self) -> None: ...


Find = Callable[[], Sequence[tuple[str, Looks]]]
"""Gives every GPU's name and sensors, which are then the caller's to close."""


class Gauge(NamedTuple):
    """One row of traces: what it shows, in which unit, and what a full trace is (None: the most seen so far)."""

    label: str
    unit: str
    full: float | None
    read: Callable[[GpuSample], float | None]


GAUGES = (
    Gauge("utilisation", "%", 100.0, lambda sample: sample.utilisation_pct),
    Gauge("SM clock", "MHz", None, lambda sample: sample.sm_mhz),
    Gauge("power", "W", None, lambda sample: sample.power_w),
    Gauge("NVLink in", "GB/s", None, lambda sample: sample.nvlink_received_gbps),
    Gauge("NVLink out", "GB/s", None, lambda sample: sample.nvlink_sent_gbps),
)


class LiveStrip:
    """A box that shows every GPU's gauges between `start` and `stop`, and is empty before.

    `find` is called at each start; with no GPUs the strip says so.
    """

    def __init__(self, find: Find | None = None, period_s: float = PERIOD_S) -> None:
        self.widget = widgets.HTML(layout={"display": "none"})
        self._find = find or gpus
        self._period_s = period_s
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Show, and go on looking in a thread of its own; nothing happens when it already does."""
        if self._thread is not None and self._thread.is_alive() and not self._ended.is_set():
            return  # one that was told to stop may still be at its last look, and looks no more
        self._ended = ended = threading.Event()
        self.widget.layout.display = None
        self._thread = threading.Thread(target=self._watch, args=(ended,), name="control room strip", daemon=True)
        self._thread.start()

    def _watch(self, ended: threading.Event) -> None:
        found = self._find()
        names = [name for name, _ in found]
        traces: list[deque[GpuSample]] = [deque(maxlen=KEPT) for _ in found]
        try:
            while not ended.is_set():
                for (_, sensors), trace in zip(found, traces, strict=True):
                    trace.append(sensors.look())
                self.widget.value = strip_html(names, traces)
                ended.wait(self._period_s)
        finally:
            for _, sensors in found:
                sensors.close()

    def stop(self) -> None:
        """Look no more; what was seen last stays until the next start."""
        self._ended.set()


def strip_html(names: Sequence[str], traces: Sequence[Sequence[GpuSample]]) -> str:
    """A line per GPU, a gauge per column: its trace and its last value. A GPU without a sensor says `not told`."""
    if not names:
        return (
            "<p class='dwdp-quiet'>No live figures: NVIDIA's management library is not here "
            "(Python package nvidia-ml-py).</p>"
        )
    head = "".join(f"<th scope='col'>{escape(gauge.label)}, {gauge.unit}</th>" for gauge in GAUGES)
    rows = []
    for name, trace in zip(names, traces, strict=True):
        cells = "".join(f"<td>{_cell(gauge, trace, traces)}</td>" for gauge in GAUGES)
        why = ", ".join(trace[-1].throttled) if trace else ""
        rows.append(f"<tr><th scope='row'>{escape(name)}</th>{cells}<td>{escape(why)}</td></tr>")
    return (
        "<table class='dwdp-table dwdp-strip'><caption>Live figures (measured now)</caption>"
        f"<thead><tr><th scope='col'>GPU</th>{head}<th scope='col'>clock held by</th></tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table>"
    )


def _cell(gauge: Gauge, trace: Sequence[GpuSample], all_traces: Iterable[Sequence[GpuSample]]) -> str:
    values = [gauge.read(sample) for sample in trace]
    known = [value for value in values if value is not None]
    if not known:
        return "not told"
    now = "not told" if values[-1] is None else f"{values[-1]:,.0f}"  # not what was true a while ago
    seen = [value for other in all_traces for sample in other if (value := gauge.read(sample)) is not None]
    full = gauge.full or max(seen) or 1.0  # one scale for all GPUs, so that they can be compared
    points = " ".join(
        f"{WIDTH * (1 - (len(values) - 1 - place) / (KEPT - 1)):.1f},{HEIGHT * (1 - min(1.0, value / full)):.1f}"
        for place, value in enumerate(values)
        if value is not None
    )
    return (
        f"<svg width='{WIDTH}' height='{HEIGHT}' role='img' aria-label='{gauge.label}'>"
        f"<polyline points='{points}' fill='none' stroke='#0072B2' stroke-width='1.5'/></svg> {now}"
    )


def gpus() -> list[tuple[str, Looks]]:
    """Every GPU that ranks started from here will use, in their order; none where NVIDIA's library has no package."""
    if importlib.util.find_spec("pynvml") is None:
        return []
    return [(f"GPU {number}", SensorProcess(gpu.uuid)) for number, gpu in enumerate(visible_gpus())]
