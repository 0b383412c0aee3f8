"""What might explain the errors of Tables 3 and 4: each candidate built in alone, and what that does to the errors.

None is taken into the prediction, and no constant is fitted: each comes from where its words say. So this says which
physics is missing and which is not.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.outcome import outcome
from dwdp_lab.simulate.paper_data import paper_data, paper_scenario
from dwdp_lab.simulate.pass_times import PassTimes
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.simulate.reached import Number
from dwdp_lab.simulate.serving import Budget, Client, Pass, serve_in_turn, serve_together
from dwdp_lab.simulate.waves import link_shares

PROMPTS, IN_FLIGHT, MOST_REQUESTS = 4096, 256, 64
"""examples/dwdp of TensorRT-LLM (dwdp_reproduce.yaml, reproduce.py), context-only runs: 4096 prompts, as many at once
as the 4 generation ranks take (64 each), at most 64 in a pass."""

SPREAD = 0.08 / 5.4
"""Standard deviation of GPUs' speed: between a cluster's GPUs it varies by 8 % (arXiv 2208.11035, abstract), read as
the whiskers of a normal distribution, 5.4 standard deviations apart."""

OF_FOUR = (-1.03, -0.30, 0.30, 1.03)
"""Where four of them are to be expected, in standard deviations (order statistics of the normal distribution)."""


@dataclass(frozen=True)
class Cell:
    """A cell of Table 3 or 4 that is published: tokens per GPU of DWDP over DEP4's."""

    name: str
    paper: float
    workload: dict[str, Any]
    knobs: dict[str, Any]
    ranks: int | None

    @property
    def sliced(self) -> bool:
        return self.knobs.get("slice_bytes") is not None


@dataclass(frozen=True)
class Candidate:
    """One that was tried: its words, what it predicts for each cell, and the errors of that."""

    name: str
    words: str
    ratios: Mapping[str, float]
    mean_absolute: float
    worst: float
    worst_cell: str


@dataclass
class _Runs:
    """Outcomes of scenarios, each simulated once."""

    known: dict[tuple[str, str], float] = field(default_factory=dict)

    def tokens_per_s(self, scenario: Scenario, hardware: Hardware) -> float:
        key = (scenario.to_yaml(), hardware.model_dump_json())
        if key not in self.known:
            self.known[key] = outcome(scenario, hardware, REALISTIC).metrics.tokens_per_s
        return self.known[key]

    def ratio(self, cell: Cell, hardware: Hardware, **changes: Any) -> float:
        dep, dwdp = _pair(cell, **changes)
        as_published = load_hardware(dep.hardware)  # what is changed of the links is how pulls use them
        return self.tokens_per_s(dwdp, hardware) / self.tokens_per_s(dep, as_published)

    def served(self, cell: Cell, hardware: Hardware, speeds: tuple[float, ...]) -> float:
        """The whole run served: independent servers of these speeds against one server of all ranks."""
        dep, dwdp = _pair(cell)
        times = [
            PassTimes(one, CostModel.of(hardware, None, REALISTIC), self.step_us(one, hardware)) for one in (dep, dwdp)
        ]
        client = Client(_lengths(dep), IN_FLIGHT)
        budget = Budget(dep.workload.mnt_tokens, MOST_REQUESTS)  # type: ignore[union-attr]

        def at(speed: float) -> Callable[[Pass], float]:
            return lambda lengths: times[1].dwdp_us(lengths) / speed

        together = serve_together(client, budget, dep.ranks, times[0].dep_us)
        apart = serve_in_turn(client, budget, [at(speed) for speed in speeds[: dwdp.ranks]])
        return apart.tokens_per_s / together.tokens_per_s

    def step_us(self, scenario: Scenario, hardware: Hardware) -> float:
        """The mean step, from the throughput: what ranks that are done early wait at the end is not in it."""
        batches = scenario.batches
        tokens = statistics.fmean(batches.tokens(rank) for rank in range(batches.ranks)) / batches.steps
        return 1e6 * tokens / self.tokens_per_s(scenario, hardware)


def published_cells() -> tuple[Cell, ...]:
    """The cells of Tables 3 and 4 that are not kept back."""
    cells = []
    for name in ("table3", "table4"):
        table = paper_data(name)
        for row in table["rows"]:
            if row["tokens_per_gpu"] is not None:
                workload = dict(row["scenario"])
                ranks = workload.pop("dwdp_ranks", None)
                knobs = {**table["strategy"], **row.get("strategy", {})}
                cells.append(Cell(row["cell"], row["tokens_per_gpu"], workload, knobs, ranks))
    return tuple(cells)


def candidates(progress: Callable[[str], object] | None = None) -> tuple[Candidate, ...]:
    """All of them, the prediction as it is first; takes about half a minute. `progress` is told which comes next."""
    hardware, runs = load_hardware(paper_data("setup")["hardware"]), _Runs()
    even = (1.0,) * len(OF_FOUR)
    uneven = tuple(1.0 + SPREAD * place for place in OF_FOUR)
    in_flight = _with_link(hardware, _two_in_flight())
    tried: dict[str, tuple[str, Callable[[Cell], float]]] = {
        "as predicted": ("one steady run of 16 passes", lambda cell: runs.ratio(cell, hardware)),
        "a finite run, served": (
            f"{PROMPTS} prompts, {IN_FLIGHT} at once, dealt in turn to independent servers, or by load within one "
            "(examples/dwdp of TensorRT-LLM): start, tail, partly filled passes",
            lambda cell: runs.served(cell, hardware, even),
        ),
        "and GPUs that differ": (
            f"by a standard deviation of {100 * SPREAD:.1f} % (arXiv 2208.11035): dealing in turn ties all servers to "
            "the slowest",
            lambda cell: runs.served(cell, hardware, uneven),
        ),
        "a source gives more than one reader takes": (
            "all of its link's rate (data sheet) to several readers together",
            lambda cell: runs.ratio(cell, _with_egress(hardware)),
        ),
        "two slices in flight": (
            "slices reach of the links what they do when each is followed, out of phase (simulate/waves.py)",
            lambda cell: runs.ratio(cell, in_flight if cell.sliced else hardware),
        ),
        "chunked prefill": (
            "passes filled to the budget, requests cut",
            lambda cell: runs.ratio(cell, hardware, chunked=True),
        ),
    }
    found = []
    for name, (words, ratio_of) in tried.items():
        if progress is not None:
            progress(name)
        found.append(_candidate(name, words, ratio_of))
    return tuple(found)


def host_ms_needed(dep_ms: float, dwdp_ms: float, ratio: float) -> float:
    """Time per pass outside the GPU, the same in both, with which their ratio would be the published one."""
    return (dep_ms - ratio * dwdp_ms) / (ratio - 1.0)


def _candidate(name: str, words: str, ratio_of: Callable[[Cell], float]) -> Candidate:
    cells = published_cells()
    ratios = [ratio_of(cell) for cell in cells]
    errors = [ratio - cell.paper for ratio, cell in zip(ratios, cells, strict=True)]
    worst = max(range(len(cells)), key=lambda place: abs(errors[place]))
    by_cell = {cell.name: ratio for cell, ratio in zip(cells, ratios, strict=True)}
    return Candidate(name, words, by_cell, statistics.fmean(map(abs, errors)), errors[worst], cells[worst].name)


def _pair(cell: Cell, **changes: Any) -> tuple[Scenario, Scenario]:
    """The scenarios of a cell: DEP4's and DWDP's."""
    workload = {**cell.workload, **changes}
    return paper_scenario("dep", workload), paper_scenario("dwdp", workload, cell.knobs, cell.ranks)


def _lengths(scenario: Scenario) -> tuple[int, ...]:
    """As many lengths as the run has prompts, drawn as the scenario's are, in the order they are sent."""
    workload, ranks = scenario.workload, scenario.ranks
    if workload.kind != "isl":
        raise ValueError(f"workload.kind = {workload.kind!r}: the paper's scenarios are of kind isl")
    in_turn = itertools.chain.from_iterable(
        zip(*(workload.requests(rank, ranks) for rank in range(ranks)), strict=True)
    )
    return tuple([request.tokens for request in itertools.islice(in_turn, PROMPTS)])


def _with_link(hardware: Hardware, share: float) -> Hardware:
    """The profile with pulls that reach so much less of their link."""
    reached = hardware.reached
    if reached is None:
        return hardware
    link = Number(value=reached.link.value * share, source=f"{reached.link.source}; times {share:.3f}")
    return hardware.model_copy(update={"reached": reached.model_copy(update={"link": link})})


def _with_egress(hardware: Hardware) -> Hardware:
    if hardware.reached is None:
        return hardware
    whole = Number(value=1.0, source=hardware.link_gbps.source)
    return hardware.model_copy(update={"reached": hardware.reached.model_copy(update={"egress": whole})})


def _two_in_flight() -> float:
    """Share of the links that pulls in slices reach out of phase, two of them in flight."""
    scenario = paper_scenario("dwdp", {}, {"peer_order": "interleaved", "slice_bytes": 1_000_000})
    return next(one.out_of_phase for one in link_shares(scenario) if one.peer_order == "interleaved")
