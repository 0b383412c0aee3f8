"""The times of one MoE layer over the tokens of a request: what is computed, what is moved, and what each comes to."""

from __future__ import annotations

from collections.abc import Sequence

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.roofline import crossover_tokens, hiding_tokens, roofline
from dwdp_lab.timeline.palette import BLUE, GREY, ORANGE, VERMILLION
from dwdp_lab.view.charts.chart import Chart, Curve

TOKENS = tuple(round(1024 * 2 ** (step / 4)) for step in range(21))
"""1,024 to 32,768 in steps of a quarter of an octave."""


def layer_chart(scenario: Scenario, tokens: Sequence[int] = TOKENS) -> Chart:
    """T_compute (with all experts read), T_pull, T_DWDP and T_DEP of the roofline, in milliseconds.

    Every rank has one request of so many tokens; the crossovers are added to the tokens, so that the corners show.
    """
    hidden, even = hiding_tokens(scenario), crossover_tokens(scenario)
    corners = [n for n in (hidden, even) if n is not None and tokens[0] < n < tokens[-1]]
    tokens = sorted({*tokens, *corners})
    times = [roofline(scenario, n) for n in tokens]
    x = tuple(map(float, tokens))

    def curve(name: str, colour: str, values: Sequence[float], dashed: bool = False) -> Curve:
        return Curve(name, x, tuple(value / 1e3 for value in values), colour, dashed, points=False)

    words = "The pull is never hidden" if hidden is None else f"The pull is hidden from {hidden:,} tokens on"
    words += ", and DWDP is never as fast as DEP." if even is None else f", DWDP as fast as DEP from {even:,} on."
    return Chart(
        title=f"One MoE layer of {scenario.model.name}, {scenario.ranks} ranks, {scenario.hardware}",
        x_title="tokens of the one request on each rank",
        y_title="time of a layer (ms)",
        curves=(
            curve("T_compute of DWDP", GREY, [t.compute_us for t in times], dashed=True),
            curve("T_pull", ORANGE, [t.pull_us for t in times], dashed=True),
            curve("T_DWDP = max of the two", BLUE, [t.dwdp_us for t in times]),
            curve("T_DEP = T_compute + T_all2all", VERMILLION, [t.dep_us for t in times]),
        ),
        log_x=True,
        log_y=True,
        words=words,
        notes=("closed form, balanced ranks", f"hardware profile {scenario.hardware} (limit)"),
    )
