"""The exercise on measuring: a benchmark that none of a GPU's habits fools."""

from __future__ import annotations

from typing import Any

from dwdp_lab.teach import real_cost_answers as answers
from dwdp_lab.teach.agrees import is_number
from dwdp_lab.teach.attempt import raised, shown
from dwdp_lab.teach.exercise import Exercise, Property, Target
from dwdp_lab.teach.shown import Shown, table
from dwdp_lab.teach.virtual_gpu import QUIET, Habits, VirtualGPU

WITHIN = 0.02
RATIOS = (1.25, 0.9, 2.0)

COMPILES = Habits(compiling=3)
ZEROS = Habits(zeros_us=140.0)
CACHED = Habits(cached_us=200.0)
NEIGHBOUR = Habits(neighbour=0.15)
HEATS = Habits(heating=0.3)
ALL = Habits(compiling=3, zeros_us=140.0, cached_us=200.0, neighbour=0.15, heating=0.3)

NAMED: tuple[tuple[str, Habits, str], ...] = (
    ("it issues kernels and runs them later", QUIET, "The clock must not stop before the GPU does: wait()."),
    ("the first three runs of a kernel compile it", COMPILES, "Runs that compile are no measurement."),
    ("zeros are faster", ZEROS, "Measure on data like those in service: random_data()."),
    ("what the run before has used is in the cache", CACHED, "In service every run has data of its own."),
    ("somebody else disturbs a few runs", NEIGHBOUR, "One disturbed run decides a mean, not a median."),
    ("the clock falls while it gets warm", HEATS, "Old first and new later is unfair: let them take turns."),
)


def _said(answer: Any, gpu: VirtualGPU) -> tuple[float | None, str]:
    """What the learner's benchmark says of a GPU, or what went wrong."""
    try:
        value = answer(gpu)
    except Exception as error:
        return None, f"speed_up {raised(error, answer)}"
    if not is_number(value):
        return None, f"speed_up gives {shown(value)}, which is not a number."
    return float(value), ""


def _not_fooled(name: str, habits: Habits, why: str) -> Property:
    def violation(answer: Any) -> str | None:
        for ratio in RATIOS:
            said, wrong = _said(answer, VirtualGPU(ratio, habits))
            if said is None:
                return wrong
            if not abs(said / ratio - 1) <= WITHIN:
                return f"On such a GPU you say {said:.3f}, but it is {ratio}. {why}"
        return None

    return Property(f"not fooled: {name}", violation)


def _all_at_once(answer: Any) -> str | None:
    for ratio in RATIOS:
        said, wrong = _said(answer, VirtualGPU(ratio, ALL))
        if said is None or not abs(said / ratio - 1) <= WITHIN:
            why = "Medians of old and of new, say, may come from two moments of a falling clock."
            return wrong or f"On a GPU with all these habits you say {said:.3f}, but it is {ratio}. {why}"
    return None


def _runs(answer: Any) -> float:
    gpu = VirtualGPU(RATIOS[0], ALL)
    answer(gpu)
    return float(gpu.runs)


def _show(answer: Any) -> Shown:
    rows = []
    for name, habits, _ in (*NAMED, ("all of these at once", ALL, "")):
        gpu = VirtualGPU(RATIOS[0], habits)
        said, wrong = _said(answer, gpu)
        state = wrong or ("right" if said is not None and abs(said / RATIOS[0] - 1) <= WITHIN else "fooled")
        rows.append((name, "" if said is None else f"{said:.3f}", f"{gpu.runs}", state))
    header = ("the GPU", "you say", "kernels run", f"it is {RATIOS[0]}")
    return Shown(table(header, rows))


SPEED_UP = Exercise(
    key="real_cost.speed_up",
    number="8.3",
    title="measure without fooling yourself",
    difficulty=2,
    minutes=15,
    name="speed_up",
    spec="""\
A colleague has rewritten a kernel. Write `speed_up(gpu)`: how many times longer `"old"` takes than `"new"` in
service, where every run has random data that nothing has left in a cache. An error of 2 % is allowed.

The GPU runs in virtual time. `gpu.run(kernel, data)` issues a kernel and returns at once; `gpu.wait()` waits until
the GPU is idle; `gpu.now_us()` is the host's clock; `gpu.random_data()` and `gpu.zeros()` make inputs, new ones with
each call. It has the habits of real ones, and `check` switches them on one at a time.

*Correct* is what none of them fools. It is *good* with at most 60 kernels run: time on a GPU costs money.""",
    stub='''\
def speed_up(gpu: VirtualGPU) -> float:
    """The old kernel's time over the new one's."""''',
    hints=(
        "Time one run: wait, read the clock, run, wait, read the clock. Do that for both kernels some times and "
        "leave out the first few. Make a few sets of random data first, and take another one for every run.",
        "If a few runs are disturbed, a mean is wrong; take medians. If the clock of the GPU falls, what runs later is "
        "slower: let the kernels take turns.",
        "For each of 15 rounds time old, then new, and keep the ratio old / new of these neighbours. The answer is "
        "the median of the ratios. Before that run each kernel five times for nothing.",
    ),
    reference=answers.speed_up,
    view=_show,
    example=lambda: (VirtualGPU(RATIOS[0]),),
    properties=(
        *(_not_fooled(name, habits, why) for name, habits, why in NAMED),
        Property("not fooled by all of it at once", _all_at_once),
    ),
    targets=(Target("kernels run", _runs, lambda: 60.0, "", digits=0),),
)
