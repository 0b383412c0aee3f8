"""Rank processes that a notebook or a command starts, runs strategies on, and stops.

with Ranks(2) as ranks:
    result = ranks.run(scenario)
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, get_args

from dwdp_lab.execute.before_start import check_before_start, check_graphs
from dwdp_lab.execute.cuda.refusal import check_gpus_here
from dwdp_lab.execute.launch import Launcher, RankMachineName
from dwdp_lab.execute.messages import Done, Finished, Job, Order, Progress
from dwdp_lab.execute.rank_group import RankGroup
from dwdp_lab.execute.run_result import RunResult, assemble, host_environment
from dwdp_lab.program.build import build
from dwdp_lab.program.checker import verify
from dwdp_lab.program.completeness import in_micro_batches
from dwdp_lab.program.operation import Program
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario

OnProgress = Callable[[float, str], None]
"""Called in the thread of `run` with the share done (0 to 1) and what is being done."""


class Ranks:
    """A group of N processes, one per rank, on CPU cores (`machine="cpu"`) or on GPUs (`"cuda"`: rank r on GPU r modulo
    their number).

    They start with the first run (or `start`), keep weights between runs, and end with `stop`, with this
    object, or with this process, however it ends. After a failure or a stop the next run starts new ones. One
    run at a time: a second thread that calls `run` waits for the first.
    """

    def __init__(
        self,
        size: int,
        launcher: Launcher = "processes",
        start_timeout_s: float = 120.0,
        machine: RankMachineName = "cpu",
    ) -> None:
        if size < 1:
            raise ScenarioError("group.ranks", size, "at least one rank is needed")
        if launcher not in get_args(Launcher):
            raise ScenarioError("launcher", launcher, f"allowed are {', '.join(get_args(Launcher))}")
        if machine not in get_args(RankMachineName):
            raise ScenarioError("machine", machine, f"allowed are {', '.join(get_args(RankMachineName))}")
        self.size = size
        self.launcher: Launcher = launcher
        self.machine: RankMachineName = machine
        self.start_timeout_s = start_timeout_s
        self._group: RankGroup | None = None
        self._held_bytes: tuple[float, ...] = ()  # of GPU memory, by rank
        self._running_thread: int | None = None
        self._in_use = threading.RLock()

    def start(self) -> Self:
        """Start the processes now and wait until they can run; nothing happens when they already do.

        Raises RankFailed when a rank cannot start, RunStopped when another thread stops them meanwhile, and
        ScenarioError, before anything is started, for GPU ranks on a machine that cannot run any.
        """
        with self._in_use:
            self._started()
        return self

    def _started(self) -> RankGroup:
        group = self._group
        if group is not None and group.alive:
            return group
        self._end()
        if self.machine == "cuda":
            check_gpus_here()
        self._group = group = RankGroup(self.size, self.launcher, self.machine)
        # also when this object is dropped, as by running a notebook's cell again, and at exit
        self._finalizer = weakref.finalize(self, group.close)
        try:
            group.start(self.start_timeout_s)
        except BaseException:
            self._end()
            raise
        return group

    def run(
        self,
        scenario: Scenario,
        outputs: bool = False,
        progress: OnProgress | None = None,
        programs: Sequence[Program] | None = None,
        recorded: bool = True,
        graph: bool = False,
        profiled: bool = False,
    ) -> RunResult:
        """Run the scenario's strategy, or programs of your own (one per rank), and measure it.

        `outputs` brings back all outputs and routing, not only their hash. Without `recorded` GPU ranks leave no spans,
        only the time of the whole run: what recording costs is the difference. With `graph` GPU ranks capture each step
        and replay it as a CUDA graph, where nothing in the program needs the host. `profiled` runs a step once more
        under torch.profiler afterwards, for the trace; what the same processes run later may be a little slower.

        Raises ScenarioError or ProgramError before anything is started; RankFailed when a rank raises or dies;
        RunStopped when `stop` is called from another thread. After any of the latter, and after an interrupt, no
        process is left.
        """
        began = time.monotonic()
        programs = self._programs(scenario, programs)
        if graph:
            check_graphs(self.machine, scenario, programs)
        orders = _orders(scenario, programs, outputs, recorded, graph, profiled)
        if self._running_thread == threading.get_ident():  # each would take the other's results for its own
            raise RuntimeError("these ranks are running: their progress callback cannot run something else on them")
        with self._in_use:
            group = self._started()
            self._running_thread = threading.get_ident()
            try:
                finished = _converse(group, orders, progress)
            except BaseException:
                self._end()
                raise
            finally:
                self._running_thread = None
            self._held_bytes = tuple(report.held_bytes for report in finished)
            environment = host_environment(group.environment) | {"launcher": self.launcher}
        wall_ms = 1e3 * (time.monotonic() - began)
        return assemble(scenario, programs, finished, self.machine, environment, wall_ms)

    def perform(self, function: str, parameters: Any, progress: OnProgress | None = None) -> list[Any]:
        """Call a function (`package.module:function`) on every rank, with its session and these parameters.

        Returns what the ranks return, in rank order. Raises what `run` raises of RankFailed and RunStopped; after
        these no process is left.
        """
        if self._running_thread == threading.get_ident():
            raise RuntimeError("these ranks are running: their progress callback cannot run something else on them")
        with self._in_use:
            group = self._started()
            self._running_thread = threading.get_ident()
            try:
                return _call(group, Job(function, parameters), progress)
            except BaseException:
                self._end()
                raise
            finally:
                self._running_thread = None

    def _programs(self, scenario: Scenario, programs: Sequence[Program] | None) -> tuple[Program, ...]:
        if scenario.ranks != self.size:
            raise ScenarioError(
                "group.ranks",
                scenario.ranks,
                f"these are {self.size} rank processes",
                f"Use Ranks({scenario.ranks})",
            )
        check_before_start(self.machine, scenario, self._held_bytes, self.pids)
        if programs is None:
            return build(scenario)
        verify(programs, scenario)
        return tuple(programs)

    def stop(self) -> None:
        """End all rank processes and remove what they used. A run in another thread raises RunStopped."""
        if self._running_thread == threading.get_ident():
            self._kill()  # called by the progress callback: `run` notices, and cleans up
            return
        if not self._in_use.acquire(blocking=False):
            self._kill()  # who uses them hears of it
            self._in_use.acquire()
        # else they end by themselves, and so can end what they have started
        try:
            self._end()
        finally:
            self._in_use.release()

    def _kill(self) -> None:
        if (group := self._group) is not None:
            group.kill()

    def restart(self) -> Self:
        """Stop, and start new processes."""
        self.stop()
        return self.start()

    @property
    def alive(self) -> bool:
        """All rank processes are there."""
        return self._group is not None and self._group.alive

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids in rank order; empty when they are not running."""
        return tuple(pid for _, pid in sorted(self._group.pids.items())) if self._group is not None else ()

    def _end(self) -> None:
        if self._group is not None:
            self._group = None
            self._held_bytes = ()
            self._finalizer()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _orders(
    scenario: Scenario, programs: Sequence[Program], outputs: bool, recorded: bool, graph: bool, profiled: bool
) -> list[Order]:
    kinds, micro = frozenset(op.kind for program in programs for op in program.ops), in_micro_batches(programs)
    return [Order(scenario, program, kinds, outputs, micro, recorded, graph, profiled) for program in programs]


def _converse(group: RankGroup, orders: Sequence[Order], progress: OnProgress | None) -> list[Finished]:
    for rank, order in enumerate(orders):
        group.send(rank, order)
    finished: dict[int, Finished] = {}
    shares = dict.fromkeys(range(group.size), 0.0)
    for rank, message in group.messages(until=Finished):
        if isinstance(message, Finished):
            finished[rank] = message
            shares[rank] = 1.0
        elif isinstance(message, Progress) and progress is not None:
            shares[rank] = message.done / max(1, message.total)
            progress(min(shares.values()), f"{orders[rank].scenario.strategy.name}: {message.doing}")
    return [finished[rank] for rank in range(group.size)]


def _call(group: RankGroup, job: Job, progress: OnProgress | None) -> list[Any]:
    for rank in range(group.size):
        group.send(rank, job)
    values: dict[int, Any] = {}
    for rank, message in group.messages(until=Done):
        if isinstance(message, Done):
            values[rank] = message.value
        elif isinstance(message, Progress) and progress is not None and rank == 0:
            progress(message.done / max(1, message.total), message.doing)
    return [values[rank] for rank in range(group.size)]
