"""The paper's numbers beside the simulator's: which are fitted, which predicted, and how far off each is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from dwdp_lab.program.pull_plan import pull_of
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName
from dwdp_lab.simulate.contention import level_probabilities
from dwdp_lab.simulate.elsewhere import measured_elsewhere
from dwdp_lab.simulate.fit_paper import NAIVE, ROWS, table1_rows
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.outcome import Outcome, outcome
from dwdp_lab.simulate.paper_data import paper_data, paper_scenario
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.simulate.roofline import roofline


@dataclass(frozen=True)
class Compared:
    """One number of the paper (None: kept back) beside the simulator's (None: not simulated).

    `fitted` numbers decided what the gb200 profile says it reaches; all others are predictions or closed forms.
    """

    cell: str
    quantity: str
    unit: str
    paper: float | None
    simulated: float | None
    fitted: bool = False
    kept_back: bool = False

    @property
    def error(self) -> float | None:
        """Simulated minus paper."""
        return None if self.paper is None or self.simulated is None else self.simulated - self.paper

    @property
    def relative_error(self) -> float | None:
        """The error as a share of the paper's number (None for 0)."""
        return self.error / self.paper if self.error is not None and self.paper else None


@dataclass(frozen=True)
class Table:
    """The numbers of one table of the paper."""

    name: str
    title: str
    source: str
    rows: tuple[Compared, ...]


@dataclass(frozen=True)
class _Runs:
    """Simulated runs of the paper's scenarios, each made once."""

    hardware: Hardware
    known: dict[str, Outcome] = field(default_factory=dict)

    def run(
        self,
        strategy: StrategyName,
        workload: dict[str, Any],
        knobs: dict[str, Any] | None = None,
        ranks: int | None = None,
    ) -> Outcome:
        scenario = paper_scenario(strategy, workload, knobs, ranks)
        name = scenario.to_yaml()
        if name not in self.known:
            self.known[name] = outcome(scenario, self.hardware, REALISTIC)
        return self.known[name]

    @cached_property
    def roofline_scenario(self) -> Scenario:
        """As the roofline's constants want it: dense layers in bf16, tokens sent once per expert."""
        given = paper_scenario("dep", {}, {"dep_rows": "per_expert"}, router_skew=0.0)
        return given.replace(**{"model.dense_dtype": None})

    def roofline(self) -> list[Compared]:
        rows = []
        for row in paper_data("roofline")["rows"]:
            ours = roofline(self.roofline_scenario, row["isl_tokens"], self.hardware)
            cell = f"ISL {row['isl_tokens']}"
            rows.append(Compared(cell, "T_compute / T_pull", "", row["compute_over_prefetch"], ours.compute_over_pull))
            rows.append(Compared(cell, "T_DEP / T_DWDP", "", row["dep_over_dwdp"], ours.dep_over_dwdp))
        return rows

    def table1(self) -> list[Compared]:
        table = paper_data("table1")
        dep = table1_rows(self.run("dep", table["scenario"]))
        dwdp = table1_rows(self.run("dwdp", table["scenario"], NAIVE))
        split = table1_rows(self.run("dwdp", table["scenario"], {**NAIVE, "weight_view": "split"}))
        rows = []
        for row in table["rows"]:
            name = row["row"]
            if name not in dep:
                rows.append(Compared(name, "DWDP4", "ms", row["dwdp_ms"], split["iteration"]))
                continue
            fitted = name in (*ROWS, "communication", "synchronisation")
            rows.append(Compared(name, "DEP4", "ms", row["dep_ms"], dep[name], fitted))
            fitted = name in ("dense_gemm", "others", "d2d_copy", "p2p_copy")
            rows.append(Compared(name, "DWDP4", "ms", row["dwdp_ms"], dwdp[name], fitted))
        return rows

    def table2(self) -> list[Compared]:
        return [
            Compared(f"DWDP{ranks}", f"Pr[C = {level}]", "%", float(printed), as_printed(100.0 * probability, printed))
            for ranks, row in paper_data("table2")["rows"].items()
            for printed, (level, probability) in zip(row, level_probabilities(int(ranks)).items(), strict=True)
        ]

    def speed_ups(self, name: str) -> list[Compared]:
        """Tokens per GPU over DEP4's; and, where the table has it, the median time to first token."""
        table = paper_data(name)
        rows = []
        for row in table["rows"]:
            workload = dict(row["scenario"])
            ranks = workload.pop("dwdp_ranks", None)
            dep = self.run("dep", workload)
            dwdp = self.run("dwdp", workload, {**table["strategy"], **row.get("strategy", {})}, ranks)
            ratio = dwdp.metrics.tokens_per_s / dep.metrics.tokens_per_s
            kept = row.get("kept_back", False)
            if "ttft" in row:
                # as many requests in flight in either: Little's law gives the mean time from the group's throughput
                group = ratio * (ranks or dep_ranks()) / dep_ranks()
                rows.append(Compared(row["cell"], "TTFT", "x", row["ttft"], group, kept_back=kept))
            rows.append(Compared(row["cell"], "tokens/GPU", "x", row["tokens_per_gpu"], ratio, kept_back=kept))
        return rows

    def elsewhere(self) -> list[Compared]:
        """Others' measurements on other machines; each cell names its source."""
        return [
            Compared(
                f"{row['cell']} ({row['source']})",
                "tokens/GPU",
                "x",
                row["tokens_per_gpu"],
                ratio,
                kept_back=row.get("kept_back", False),
            )
            for row, ratio in measured_elsewhere()
        ]

    def table7(self) -> list[Compared]:
        """What the simulator says of attention beside transfers: one number, however long they last."""
        table = paper_data("table7")
        reached = self.hardware.reached
        slower = reached.copy_slowdown["attention"].value if reached is not None else 1.0
        pulled = self.roofline_scenario.with_strategy("dwdp")
        model: dict[str, list[float | None]] = {
            "kernel time, normalised": [1.0, slower, slower],
            "GPU frequency, normalised": [1.0, 1.0 / slower, 1.0 / slower],
            "NVLink footprint, GB": [None, None, pull_of(pulled, 0).nbytes / 1e9],
        }
        rows = []
        for row in table["rows"]:
            ours = model.get(row["metric"], [None] * len(row["values"]))
            for pattern, paper, simulated in zip(table["patterns"], row["values"], ours, strict=True):
                if paper is not None:
                    fitted = pattern == "short-duration overlap" and row["metric"].startswith("kernel time")
                    rows.append(Compared(pattern, row["metric"], "", paper, simulated, fitted))
        return rows


def as_printed(value: float, printed: str) -> float:
    """The value to as many digits as the paper prints of it.

    >>> as_printed(0.030600, "0.03"), as_printed(3.8551e-07, "3.86e-7")
    (0.03, 3.86e-07)
    """
    mantissa, exponential, exponent = printed.partition("e")
    scale = float(f"1e{exponent}") if exponential else 1.0
    return float(f"{value / scale:.{len(mantissa.partition('.')[2])}f}{exponential}{exponent}")


def dep_ranks() -> int:
    """Ranks of the paper's DEP groups."""
    ranks: int = paper_data("setup")["ranks"]
    return ranks


def compare_with_paper(progress: Callable[[str], object] | None = None) -> tuple[Table, ...]:
    """Every number of the roofline and of Tables 1 to 4 and 7 beside the simulator's, and what others measured.

    Takes some 20 seconds. `progress` is told which table comes next.
    """
    runs = _Runs(load_hardware(paper_data("setup")["hardware"]))
    makers: dict[str, Callable[[], list[Compared]]] = {
        "roofline": runs.roofline,
        "table1": runs.table1,
        "table2": runs.table2,
        "table3": lambda: runs.speed_ups("table3"),
        "table4": lambda: runs.speed_ups("table4"),
        "table7": runs.table7,
        "elsewhere": runs.elsewhere,
    }
    tables = []
    for name, make in makers.items():
        if progress is not None:
            progress(name)
        about = paper_data(name)
        tables.append(Table(name, about["title"], about["source"], tuple(make())))
    return tuple(tables)
