"""The exercise on what a copy costs: a latency and a bandwidth from measured times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from dwdp_lab.teach import moving_weights_answers as answers
from dwdp_lab.teach.agrees import is_number
from dwdp_lab.teach.attempt import attempt, call_text, shown
from dwdp_lab.teach.exercise import Exercise, Property, Target
from dwdp_lab.teach.recorded import COPIES, copy_times_us, provenance_of
from dwdp_lab.teach.shown import Shown, table
from dwdp_lab.timeline.palette import BLUE, ORANGE
from dwdp_lab.view.charts.chart import Chart, Curve
from dwdp_lab.view.picture import Picture

Line = tuple[float, float]
"""Latency in microseconds, bandwidth in 1e9 bytes/s."""

NOISY_SIZES = [4096 << (2 * step) for step in range(10)]  # 4 KiB to 1 GiB
NOISE = (0.02, -0.03, 0.03, -0.01, 0.01, -0.02, 0.03, 0.01, -0.03, 0.02)
TRUE_LINE = (10.0, 400.0)


def on_line(sizes: Sequence[int], line: Line) -> list[float]:
    """Microseconds of copies that follow the line exactly."""
    return [line[0] + size / line[1] / 1e3 for size in sizes]


def noisy_times_us() -> list[float]:
    """Times on the true line, each off by up to 3 %: the same every time."""
    exact = on_line(NOISY_SIZES, TRUE_LINE)
    return [time * (1 + off) for time, off in zip(exact, NOISE, strict=True)]


def line_of(value: Any) -> Line | None:
    """What an answer gave, when it is a pair of numbers and a bandwidth above zero."""
    try:
        latency, gbps = value
    except (TypeError, ValueError):
        return None
    if not is_number(latency) or not is_number(gbps):
        return None
    line = float(latency), float(gbps)
    return line if math.isfinite(line[0]) and math.isfinite(line[1]) and line[1] > 0 else None


def _finds(name: str, why: str, cases: Sequence[tuple[list[int], Line]]) -> Property:
    def violation(answer: Any) -> str | None:
        for sizes, line in cases:
            arguments = (sizes, on_line(sizes, line))
            called = attempt(answer, arguments)
            where = call_text("fit_copy", arguments)
            if called.error:
                return f"{where} {called.error}"
            found = line_of(called.value)
            if found is None:
                return f"{where} gives {shown(called.value)}; a pair (latency_us, gbps) with gbps > 0 is wanted."
            if abs(found[0] - line[0]) > 1e-6 * max(arguments[1]) or abs(found[1] / line[1] - 1) > 1e-6:
                said = f"{found[0]:.6g} us and {found[1]:.6g} GB/s"
                return f"{where} gives {said}, but it is {line[0]:g} us and {line[1]:g} GB/s. {why}"
        return None

    return Property(name, violation)


def _worst_error_pct(answer: Any) -> float:
    latency, gbps = map(float, answer(list(NOISY_SIZES), noisy_times_us()))  # copies: the answer may change its lists
    exact = on_line(NOISY_SIZES, TRUE_LINE)
    return max(
        100 * abs(ours / true - 1) for ours, true in zip(on_line(NOISY_SIZES, (latency, gbps)), exact, strict=True)
    )


def _show(answer: Any) -> Shown:
    sizes, times = copy_times_us()
    called = attempt(answer, (sizes, times))
    line = line_of(called.value)
    if line is None:
        return Shown(f"On the recorded copies between two H100s: {called}, where (latency_us, gbps) is wanted.")
    ours = on_line(sizes, line)
    rows = [
        (f"{size >> 20} MiB", f"{time:.1f}", f"{said:.1f}", f"{100 * (said / time - 1):+z.0f} %")
        for size, time, said in zip(sizes, times, ours, strict=True)
    ]
    words = f"your line: {line[0]:.1f} us + size / {line[1]:.0f} GB/s\n"
    words += table(("copy of", "recorded us", "your us", "error"), rows)
    many = [1 << power for power in range(14, 31)]
    chart = Chart(
        "Copies between two H100s, and your line",
        "size of the copy (MiB)",
        "GB/s",
        curves=(
            Curve("recorded", _mib(sizes), _rates(sizes, times), ORANGE, line=False),
            Curve("your line", _mib(many), _rates(many, on_line(many, line)), BLUE, points=False),
        ),
        log_x=True,
        words="Dots are recorded; the line is latency + size / bandwidth with your two numbers.",
        notes=(provenance_of(COPIES),),
    )
    return Shown(words, Picture(chart.svg()))


def _mib(sizes: Sequence[int]) -> tuple[float, ...]:
    return tuple(size / 2**20 for size in sizes)


def _rates(sizes: Sequence[int], times_us: Sequence[float]) -> tuple[float, ...]:
    return tuple(size / max(time, 1e-9) / 1e3 for size, time in zip(sizes, times_us, strict=True))


FIT_COPY = Exercise(
    key="moving_weights.fit_copy",
    number="4.1",
    title="what does a copy cost?",
    difficulty=2,
    minutes=10,
    name="fit_copy",
    spec="""\
A copy takes *latency + size / bandwidth*. Write `fit_copy(sizes, times_us)`, which finds the two numbers from
measured copies: sizes in bytes, times in microseconds; `(latency_us, gbps)` comes back, in microseconds and 1e9 bytes
per second.

*Correct* is what finds the line when all times lie on one. It is *good* when a few per cent of noise on each time,
from 4 KiB to 1 GiB, do not spoil it: the target is that no copy's true time is missed by more than 1 %.""",
    stub='''\
def fit_copy(sizes: list[int], times_us: list[float]) -> tuple[float, float]:
    """(latency_us, gbps)"""''',
    hints=(
        "Two points give the line: the slope is (t2 - t1) / (s2 - s1) microseconds per byte. One byte per microsecond "
        "is 1e6 bytes per second, or 0.001 GB/s. The latency is what is left at size 0.",
        "For many points take least squares: slope = sum((s - mean_s) (t - mean_t)) / sum((s - mean_s)^2), latency = "
        "mean_t - slope * mean_s. That is right, but 3 % of a copy of 1 GiB is more than the whole latency.",
        "For the target weigh each point by 1 / t^2, in both means and both sums: then relative errors count, and "
        "small copies have as much to say as large ones.",
    ),
    reference=answers.fit_copy,
    view=_show,
    example=lambda: ([1000000, 2000000], [20.0, 30.0]),
    properties=(
        _finds(
            "two copies give a line",
            "The slope is 10 us per 1,000,000 bytes; a byte per microsecond is 0.001 GB/s.",
            [([1000000, 2000000], (10.0, 100.0))],
        ),
        _finds(
            "without a latency, bandwidth is all", "Both copies run at the same rate.", [([1000, 3000], (0.0, 2.0))]
        ),
        _finds(
            "every copy on the line counts",
            "All points lie on one line, so any right fit finds it.",
            [([1000, 2000, 3000], (5.0, 1.0)), ([4096, 65536, 1048576, 16777216], (12.0, 380.0))],
        ),
    ),
    targets=(Target("largest error after noise of 3 %", _worst_error_pct, lambda: 1.0, "%"),),
)
