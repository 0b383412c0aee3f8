"""How far the simulator is from the paper, table by table, and what it leaves out."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dwdp_lab.simulate.paper import Compared, Table
from dwdp_lab.simulate.paper_candidates import host_ms_needed


@dataclass(frozen=True)
class Summary:
    """Errors of one group of numbers: `relative` to the paper's, or plain differences (of speed-ups)."""

    name: str
    relative: bool
    numbers: int
    mean_absolute: float
    worst: float
    worst_cell: str


def summarise(tables: Sequence[Table]) -> tuple[Summary, ...]:
    """Fitted and predicted numbers apart; speed-ups by their differences, the others by relative errors."""
    known = {table.name: table.rows for table in tables}
    speed_ups = [*known["table3"], *known["table4"]]
    tokens = [row for row in speed_ups if row.quantity == "tokens/GPU"]
    spread = [row for row in tokens if _lengths_vary(row)]
    even = [row for row in tokens if not _lengths_vary(row)]
    groups = [
        ("roofline", True, known["roofline"]),
        ("Table 1, fitted rows", True, [row for row in known["table1"] if row.fitted]),
        ("Table 1, other rows", True, [row for row in known["table1"] if not row.fitted]),
        ("Table 2", True, known["table2"]),
        ("Tables 3 and 4, tokens/GPU", False, tokens),
        ("- without 3c's standard deviations", False, even),
        ("- 3c's standard deviations", False, spread),
        ("Table 3, TTFT", False, [row for row in speed_ups if row.quantity == "TTFT"]),
        (
            "- without 3c's standard deviations",
            False,
            [r for r in speed_ups if r.quantity == "TTFT" and not _lengths_vary(r)],
        ),
        ("Table 7", True, known["table7"]),
        ("measured elsewhere, tokens/GPU", False, known["elsewhere"]),
    ]
    return tuple(found for name, relative, rows in groups if (found := _summary(name, relative, rows)) is not None)


def _lengths_vary(row: Compared) -> bool:
    return "STD" in row.cell and not row.cell.endswith("STD 0")


def _summary(name: str, relative: bool, rows: Iterable[Compared]) -> Summary | None:
    errors = [(error, row.cell) for row in rows if (error := row.relative_error if relative else row.error) is not None]
    if not errors:
        return None
    worst, cell = max(errors, key=lambda one: abs(one[0]))
    return Summary(name, relative, len(errors), statistics.fmean(abs(error) for error, _ in errors), worst, cell)


def account(tables: Sequence[Table]) -> tuple[str, ...]:
    """What is missing, and where it shows, with this run's numbers."""
    known = {table.name: {(row.cell, row.quantity): row for row in table.rows} for table in tables}
    split = known["table1"]["iteration, merge eliminated", "DWDP4"]
    dep = known["table1"]["iteration", "DEP4"]
    same = known["table4"]["ratio 0.8, MNT 32768, split weights", "tokens/GPU"]
    spread = known["table3"]["3c ISL 16384, STD 1024", "tokens/GPU"]
    edge = known["table4"]["ratio 0.5, MNT 16384, split weights", "tokens/GPU"]
    long = known["table7"]["long-duration overlap", "kernel time, normalised"]
    host_ms = host_ms_needed(dep.simulated or 0.0, split.simulated or 0.0, same.paper or 1.0)
    first = known["table3"]["3a ISL 8192", "TTFT"]
    elsewhere = [row for row in known["elsewhere"].values() if row.paper is not None]
    signs = sum(((row.simulated or 0.0) > 1) == ((row.paper or 0.0) > 1) for row in elsewhere)
    return (
        f"The paper's Table 1 makes DWDP4 with split weights {_ratio(dep.paper, split.paper)} times as fast per "
        f"iteration; its Table 4 measures {same.paper:.3f} in tokens per GPU at the same configuration, without saying "
        f"why. The simulator is fitted to Table 1, so it predicts {same.simulated:.3f} there and as much too much in "
        "most cells of Tables 3 and 4. What explains it is not found; `dwdp-lab paper --candidates` builds in one "
        "candidate after the other and shows what each does to all cells.",
        f"It is not time outside the passes that both have: {host_ms:.0f} ms of it a pass would be needed, "
        f"{100 * host_ms / (dep.simulated or 1.0):.0f} % of DEP4's. Nor is it start and tail of a finite run, or "
        "passes that are partly filled: serving the published 4096 prompts changes little. GPUs that differ in speed "
        "explain a part: who deals requests in turn to independent servers waits for the slowest. The rest may be "
        "clocks that fall further in a long run than in the profiled iterations: nothing published says.",
        "Times to first token are not simulated: with as many requests in flight, Little's law gives their mean from "
        f"the group's throughput. They agree better ({first.simulated:.3f} for {first.paper:.2f} at ISL 8K) than "
        "tokens per GPU do. The paper's two figures cannot both be means of one run with a fixed number of requests "
        "in flight, as that law makes their ratios equal; its times are medians, which servers with unequal queues "
        "bring down.",
        f"Lengths that vary (3c: predicted {spread.simulated:.2f}, paper {spread.paper:.2f} at STD 1024): requests are "
        "packed whole, so one or two of about 16K tokens fit into 32K, and DEP waits for the rank that has two. How "
        "the paper's runs packed them is not stated; with requests cut to fill passes the cell fits, others do not.",
        f"At the edge where a pull just fits behind compute (ratio 0.5, MNT 16384: predicted {edge.simulated:.3f}, "
        f"paper {edge.paper:.3f}) pulls that share a source cost too much. Kernels whose times vary, so that ranks "
        "drift apart, do not change that. What would is a source that gives several readers together all its link "
        "carries, more than the one reader takes that Table 1 shows: then a reader's copy engine, not the source, is "
        "the limit. With slices the same cell is predicted too high: with two in flight some are held up, which is "
        "followed slice by slice only in simulate/waves.py.",
        f"Clocks fall while transfers run, whatever runs beside them: the long-duration pattern of Table 7 "
        f"({long.paper:.3f}, simulated {long.simulated:.3f}), in which gaps between kernels leave power to spare, "
        "needs a model of average power. Memory utilisation and cache hits (Table 7) are not simulated.",
        "Router skew stands for all of Table 1's synchronisation that lengths do not explain, one number for all "
        "layers.",
        f"Others' measurements (gpt-oss-120b on B200, DeepSeek-R1 on MI355X) are predicted from the GB200's shares and "
        f"from data sheets: who is faster is right in {signs} of {len(elsewhere)}, the size of the ratio is not. Those "
        "are other kernels on other machines; a calibration there would replace what is assumed.",
        "Tables 5 and 6 need decode servers and queueing, which are not simulated.",
    )


def _ratio(dep_ms: float | None, dwdp_ms: float | None) -> str:
    return f"{(dep_ms or 0.0) / (dwdp_ms or 1.0):.3f}"
