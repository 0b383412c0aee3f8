"""Typical wrong answers to the lesson on what DWDP really costs: each caught by its property."""

from __future__ import annotations

from statistics import mean, median
from typing import Any

import pytest
from course import catches, named

from dwdp_lab.teach.virtual_gpu import VirtualGPU


def _savings(dep: dict[str, float], dwdp: dict[str, float], rows: Any, whole: float, sign: int = 1) -> dict[str, float]:
    return {row: sign * 100 * (dep[row] - dwdp[row]) / whole for row in rows}


def of_dwdp(dep: dict[str, float], dwdp: dict[str, float], beside: set[str]) -> dict[str, float]:
    rows = [row for row in dep if row != "iteration" and row not in beside]
    return _savings(dep, dwdp, rows, dwdp["iteration"])


def costs_positive(dep: dict[str, float], dwdp: dict[str, float], beside: set[str]) -> dict[str, float]:
    rows = [row for row in dep if row != "iteration" and row not in beside]
    return _savings(dep, dwdp, rows, dep["iteration"], sign=-1)


def beside_too(dep: dict[str, float], dwdp: dict[str, float], beside: set[str]) -> dict[str, float]:
    del beside
    return _savings(dep, dwdp, [row for row in dep if row != "iteration"], dep["iteration"])


def whole_too(dep: dict[str, float], dwdp: dict[str, float], beside: set[str]) -> dict[str, float]:
    return _savings(dep, dwdp, [row for row in dep if row not in beside], dep["iteration"])


def only_what_is_gone(dep: dict[str, float], dwdp: dict[str, float], beside: set[str]) -> dict[str, float]:
    del beside
    return _savings(dep, dwdp, [row for row in dep if not dwdp[row]], dep["iteration"])


Intervals = list[tuple[float, float]]


def all_copies(compute: Intervals, copies: Intervals) -> float:
    del compute
    return sum(end - start for start, end in copies)


def sums_subtracted(compute: Intervals, copies: Intervals) -> float:
    return max(0.0, all_copies(compute, copies) - all_copies(copies, compute))


def idle_time(compute: Intervals, copies: Intervals) -> float:
    """What nothing computes, copied or not."""
    del copies
    return max(end for _, end in compute) - all_copies([], compute)


def copy_by_copy(compute: Intervals, copies: Intervals) -> float:
    """Right unless copies overlap, or outlast the computation."""
    hidden = sum(max(0.0, min(stop, end) - max(start, begin)) for start, stop in copies for begin, end in compute)
    return all_copies(compute, copies) - hidden


def copy_by_copy_to_the_end(compute: Intervals, copies: Intervals) -> float:
    last = max(end for _, end in compute)
    return copy_by_copy(compute, [(start, min(end, last)) for start, end in copies if start < last])


def _timed(
    gpu: VirtualGPU,
    zeros: bool = False,
    same: bool = False,
    warm: int = 5,
    waits: bool = True,
    turns: bool = True,
    middle: Any = median,
) -> float:
    data = [gpu.zeros() if zeros else gpu.random_data() for _ in range(1 if same else 4)]
    times: dict[str, list[float]] = {"old": [], "new": []}
    order = ["old", "new"] * 15 if turns else ["old"] * 15 + ["new"] * 15
    for number, kernel in enumerate(["old", "new"] * warm + order):
        began = gpu.now_us()
        gpu.run(kernel, data[number % len(data)])
        if waits:
            gpu.wait()
        if number >= 2 * warm:
            times[kernel].append(gpu.now_us() - began)
    return float(middle(times["old"]) / middle(times["new"]))


def _benchmark(**mistake: Any) -> Any:
    def speed_up(gpu: VirtualGPU) -> float:
        return _timed(gpu, **mistake)

    return speed_up


def medians_apart(gpu: VirtualGPU) -> float:
    """The median of each kernel's times: right with one habit at a time, wrong with all."""
    times: dict[str, list[float]] = {"old": [], "new": []}
    for number in range(50):
        kernel, data = ("old", "new")[number % 2], gpu.random_data()
        gpu.wait()
        began = gpu.now_us()
        gpu.run(kernel, data)
        gpu.wait()
        if number >= 10:
            times[kernel].append(gpu.now_us() - began)
    return float(median(times["old"]) / median(times["new"]))


FOOLED = "not fooled: "
WRONG: list[tuple[str, Any, str, str]] = [
    # exercise, answer, property, words of the counter-example
    ("real_cost.savings", of_dwdp, "each row in per cent of DEP's iteration", "'sync' is 25.00"),
    ("real_cost.savings", costs_positive, "each row in per cent of DEP's iteration", "-20.00, but it is +20.00"),
    ("real_cost.savings", beside_too, "only what is part of the iteration", "runs beside"),
    ("real_cost.savings", whole_too, "only what is part of the iteration", "the whole"),
    ("real_cost.savings", only_what_is_gone, "each row in per cent of DEP's iteration", "'attention' is missing"),
    ("real_cost.exposed_us", all_copies, "what computation covers costs nothing", "([(0, 4)], [(0, 4)])"),
    ("real_cost.exposed_us", sums_subtracted, "a copy with nothing beside it is exposed", "[(2, 4)], [(0, 2)]"),
    ("real_cost.exposed_us", idle_time, "standing still without a copy is not exposed copy", "[]"),
    ("real_cost.exposed_us", copy_by_copy, "copies at the same time count once", "[(0, 2), (1, 3)]"),
    ("real_cost.exposed_us", copy_by_copy_to_the_end, "copies at the same time count once", "[(0, 2), (1, 3)]"),
    ("real_cost.speed_up", _benchmark(waits=False), f"{FOOLED}it issues kernels and runs them later", "wait()"),
    (
        "real_cost.speed_up",
        _benchmark(warm=0, middle=mean),
        f"{FOOLED}the first three runs of a kernel compile it",
        "no measurement",
    ),
    ("real_cost.speed_up", _benchmark(zeros=True), f"{FOOLED}zeros are faster", "random_data()"),
    (
        "real_cost.speed_up",
        _benchmark(same=True, turns=False),
        f"{FOOLED}what the run before has used is in the cache",
        "data of its own",
    ),
    ("real_cost.speed_up", _benchmark(middle=mean), f"{FOOLED}somebody else disturbs a few runs", "median"),
    ("real_cost.speed_up", _benchmark(turns=False), f"{FOOLED}the clock falls while it gets warm", "turns"),
    ("real_cost.speed_up", medians_apart, f"{FOOLED[:-2]} by all of it at once", "two moments of a falling clock"),
    ("real_cost.speed_up", lambda _: 1.25, f"{FOOLED}it issues kernels and runs them later", "it is 0.9"),
]


@pytest.mark.parametrize(("key", "answer", "violated", "words"), WRONG)
def test_it_is_caught_by_its_property(key: str, answer: Any, violated: str, words: str) -> None:
    catches(key, answer, violated, words)


@pytest.mark.parametrize(("key", "answer"), [("real_cost.speed_up", _benchmark(warm=40))])
def test_correct_but_not_good(key: str, answer: Any) -> None:
    passed = named(key).check(answer)
    assert passed.reached == ()
    assert "not reached yet" in repr(passed)
