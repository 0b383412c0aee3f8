"""How often a reader shares its source: the paper's closed form beside what happens in the simulator."""

from __future__ import annotations

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.contention import level_probabilities, mean_level, measured_levels
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.palette import GREY, ORANGE
from dwdp_lab.view.charts.chart import Bars, Chart


def contention(scenario: Scenario) -> Chart:
    """Share of the pulling time in which 1, 2, ... N - 1 ranks read the same source.

    Closed form: 1 + Binomial(N - 2, 1 / (N - 1)), every rank at a random source (arXiv 2604.01621, section 4.3.1).
    Raises ScenarioError for one rank, which pulls nothing, and for slices, which read all peers at once.
    """
    expected, seen = level_probabilities(scenario.ranks), measured_levels(scenario)
    meets = sum(level * share for level, share in seen.items())
    if meets:
        words = f"A pull meets {meets:.2f} readers at its source on average, itself included; by chance it would be "
        words += f"{mean_level(scenario.ranks):.2f}."
    else:
        words = "No time is spent pulling, so no reader ever shares a source."
    return Chart(
        title=f"Contention: readers of one source, N = {scenario.ranks}",
        x_title="ranks that read the source at once, this one included",
        y_title="share of pulling time (%)",
        categories=tuple(str(level) for level in expected),
        bars=(
            Bars("closed form: ranks at random sources", tuple(100 * share for share in expected.values()), GREY),
            Bars(
                f"simulated: peer order {scenario.strategy.peer_order}",
                tuple(100 * seen.get(level, 0.0) for level in expected),
                ORANGE,
            ),
        ),
        words=words,
        notes=("simulated", *run_sim(scenario.with_strategy("dwdp")).notes),
    )
