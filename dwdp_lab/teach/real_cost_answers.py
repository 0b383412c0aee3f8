"""One right answer to each exercise of the lesson on what DWDP really costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dwdp_lab.teach.virtual_gpu import VirtualGPU


def savings(dep: dict[str, float], dwdp: dict[str, float], beside: set[str]) -> dict[str, float]:
    # a row that runs beside the others takes none of the iteration's time
    rows = [row for row in dep if row != "iteration" and row not in beside]
    return {row: 100 * (dep[row] - dwdp[row]) / dep["iteration"] for row in rows}


def exposed_us(compute: list[tuple[float, float]], copies: list[tuple[float, float]]) -> float:
    from itertools import pairwise

    end = max((stop for _, stop in compute), default=0.0)  # the run ends with its last computation
    times = sorted({time for interval in compute + copies for time in interval if time <= end})
    exposed = 0.0
    for begin, stop in pairwise(times):  # between two times nothing begins or ends
        computing = any(first <= begin and stop <= last for first, last in compute)
        copying = any(first <= begin and stop <= last for first, last in copies)
        exposed += (stop - begin) * (copying and not computing)
    return exposed


def speed_up(gpu: VirtualGPU) -> float:
    from itertools import count
    from statistics import median

    data = [gpu.random_data() for _ in range(4)]
    turn = count()

    def run_us(kernel: str) -> float:
        gpu.wait()
        began = gpu.now_us()
        gpu.run(kernel, data[next(turn) % len(data)])  # never what the run before has left in the cache
        gpu.wait()
        return gpu.now_us() - began

    for _ in range(5):  # compile, and warm the clocks
        run_us("old"), run_us("new")
    # a ratio of neighbours: whatever drifts, drifts for both; the median forgets what disturbs a few
    return median(run_us("old") / run_us("new") for _ in range(15))
