"""The lesson on what DWDP really costs: the paper's account, exposed copy, interference, and how to measure."""

from __future__ import annotations

from dataclasses import replace

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.paper_data import paper_data, paper_scenario
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.teach.exposed_copy import EXPOSED
from dwdp_lab.teach.honest_benchmark import SPEED_UP
from dwdp_lab.teach.lesson import lesson_of
from dwdp_lab.teach.paper_account import SAVINGS, paper_case
from dwdp_lab.teach.prediction import Prediction, Revealed
from dwdp_lab.timeline.metrics import metrics


def table1_scenario(strategy: str) -> Scenario:
    """The paper's Table 1, with fewer steps than the lab's own reproduction takes and split weights."""
    workload = paper_data("table1")["scenario"] | {"steps": 4}
    return paper_scenario("dep" if strategy == "dep" else "dwdp", workload)


def _net() -> Revealed:
    dep, dwdp, _ = paper_case()
    gone = dep["communication"] + dep["synchronisation"]
    whole = dep["iteration"]
    net = 100 * (1 - dwdp["iteration"] / whole)
    return Revealed(
        net,
        f"{whole} ms become {dwdp['iteration']} ms: {net:.2f} % less. What is gone is {100 * gone / whole:.2f} %, so "
        f"{100 * gone / whole - net:.2f} % have been paid back elsewhere ({paper_data('table1')['source']}).",
    )


def _interference() -> Revealed:
    scenario = table1_scenario("dwdp")
    disturbed = metrics(run_sim(scenario, physics=REALISTIC))
    alone = metrics(run_sim(scenario, physics=replace(REALISTIC, power=False, hbm_traffic=False)))
    return Revealed(
        100 * (disturbed.step_ms / alone.step_ms - 1),
        f"Simulated, an iteration takes {alone.step_ms:.0f} ms when copies disturb nothing, and "
        f"{disturbed.step_ms:.0f} ms with the slowdowns that are fitted to the paper's Tables 1 and 7. Exposed copy "
        f"is {alone.exposed_copy_ms:.1f} ms and {disturbed.exposed_copy_ms:.1f} ms: it is the computation that has "
        "become slower.",
    )


LESSON = lesson_of(
    "real_cost",
    "08_what_it_really_costs.ipynb",
    "What it really costs",
    [SAVINGS, EXPOSED, SPEED_UP],
    [
        Prediction(
            "real_cost.net",
            "The paper's Table 1 compares DEP4 and DWDP4 on DeepSeek-R1. DWDP removes communication (9.60 % of "
            "DEP's iteration) and synchronisation (12.26 %), 21.9 % together. Its peer copies run beside the "
            "computation. By how many per cent is the **iteration** shorter?",
            "%",
            2.0,
            _net,
        ),
        Prediction(
            "real_cost.interference",
            "Simulate the paper's DWDP4 (with split weights) twice: once so that copies disturb nothing that "
            "computes beside them, and once with all physics. By how many per cent does the disturbance make the "
            "iteration longer?",
            "%",
            3.0,
            _interference,
        ),
    ],
)
