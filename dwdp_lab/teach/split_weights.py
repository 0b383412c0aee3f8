"""The lesson on split weights: what the views cost, a composed range, sorted rows, a GEMM over a table of addresses."""

from __future__ import annotations

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.teach.composite_pages import PIECES
from dwdp_lab.teach.lesson import lesson_of
from dwdp_lab.teach.prediction import Prediction, Revealed
from dwdp_lab.teach.sorted_rows import SORT_ROWS
from dwdp_lab.teach.table_gemm import TABLE_GEMM
from dwdp_lab.teach.view_costs import VIEW_COSTS
from dwdp_lab.timeline.metrics import metrics


def _merged_slower() -> Revealed:
    scenario = Scenario.create(
        model="qwen3-30b-a3b",
        group={"ranks": 4},
        workload={"kind": "cv", "cv": 0.0, "tokens_per_rank": 16384, "isl_tokens": 4096},
        hardware="h100",
    )
    runs = {view: run_sim(scenario.replace(**{"strategy.weight_view": view})) for view in ("split", "merged")}
    steps = {view: metrics(run).step_ms for view, run in runs.items()}
    merging_ms = sum(span.duration_us for span in runs["merged"].spans if span.kind == "merge") / 1e3 / 4
    return Revealed(
        100 * (steps["merged"] / steps["split"] - 1),
        f"Simulated, a step takes {steps['split']:.1f} ms with split weights and {steps['merged']:.1f} ms merged, of "
        f"which {merging_ms:.1f} ms are merges. They stand on the compute lane, just before the experts: nothing "
        "hides them.",
    )


LESSON = lesson_of(
    "split_weights",
    "06_split_weights.ipynb",
    "Split weights",
    [VIEW_COSTS, PIECES, SORT_ROWS, TABLE_GEMM],
    [
        Prediction(
            "split_weights.merged_slower",
            "Qwen3-30B-A3B on four H100s, 16,384 tokens per rank, all pulls hidden. The memory of an H100 is fast: "
            "a merge reads 302 MB of local experts per layer and writes them again, at 3.35 TB/s. By how many per "
            "cent is the step longer with **merged** than with split weights?",
            "%",
            2.0,
            _merged_slower,
        )
    ],
)
