"""One step of a CPU rank once more, under torch.profiler: torch's operations within those of the program."""

from __future__ import annotations

from collections.abc import Callable

from dwdp_lab.execute.cpu.lanes import LaneRun, Times
from dwdp_lab.execute.cpu.operations import Computation
from dwdp_lab.execute.cpu.setup import Setup
from dwdp_lab.execute.profiler import labelled, profiled_from, profiled_step, under_profiler
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.execute.report import of_steps, spans_of
from dwdp_lab.program.operation import Op
from dwdp_lab.timeline.profiled import Profiled


def profile_step(
    session: RankSession, setup: Setup, ops: tuple[Op, ...], zero_ns: int, common_start: Callable[[], int]
) -> Profiled:
    """The run's step with the most tokens, all ranks together. Times count from `zero_ns`."""
    step = profiled_step(setup.scenario)
    chosen = of_steps(ops, {step})
    computation = Computation(setup)
    lanes = LaneRun(chosen, labelled(chosen, computation.perform))

    def run() -> list[Times]:
        times = lanes.run(common_start())
        session.gather("profiled", None)  # reading the trace must not disturb ranks that are still at it
        return times

    times, trace = under_profiler(run, gpu=False)
    spans = spans_of(setup.rank, chosen, (each.since_us(zero_ns) for each in times), computation.pulled_bytes)
    return profiled_from(setup.rank, step, chosen, spans, trace, gpu=False, zero_ns=zero_ns, since_ns=0)
