"""The roofline in closed form: against the paper's curve, and against the simulator."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.paper_data import paper_data
from dwdp_lab.simulate.roofline import crossover_tokens, hiding_tokens, roofline
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.span import Timeline

R1 = Scenario.create(
    model={"preset": "deepseek-r1", "expert_dtype": "nvfp4", "layers": 12},
    hardware="gb200",
    group={"ranks": 4},
    strategy={"dep_form": "all_to_all", "dep_rows": "per_expert", "prefetch_distance": 1},
    workload={"kind": "explicit", "lengths": [[1]] * 4},
)


@pytest.mark.parametrize("row", paper_data("roofline")["rows"], ids=lambda row: row["isl_tokens"])
def test_the_papers_eight_values_within_5_per_cent(row: dict[str, float]) -> None:
    ours = roofline(R1, int(row["isl_tokens"]))
    assert ours.compute_over_pull == pytest.approx(row["compute_over_prefetch"], rel=0.05)
    assert ours.dep_over_dwdp == pytest.approx(row["dep_over_dwdp"], rel=0.05)


def test_the_pull_of_a_layer_is_192_experts_over_nvlink() -> None:
    assert roofline(R1, 1024).pull_us == pytest.approx(4.756e9 / 900e3, rel=1e-3)


def test_crossovers_are_where_the_curves_cross() -> None:
    """Between 8192 and 16384 tokens, as in the paper; DEP falls behind before the pull is hidden."""
    hidden, ahead = hiding_tokens(R1), crossover_tokens(R1)
    assert hidden is not None
    assert ahead is not None
    assert 8192 < ahead < hidden < 16384
    assert roofline(R1, hidden - 1).compute_over_pull < 1 <= roofline(R1, hidden).compute_over_pull
    assert roofline(R1, ahead - 1).dep_over_dwdp < 1 <= roofline(R1, ahead).dep_over_dwdp


def test_no_crossover_over_a_link_too_slow() -> None:
    assert hiding_tokens(R1.replace(link_gbps=1e-6)) is None


def test_without_tokens_it_takes_the_mean_of_the_passes() -> None:
    passes = R1.replace(workload={"kind": "explicit", "lengths": [[1000], [2000], [3000], [4000]]})
    assert roofline(passes) == roofline(R1, 2500)


def _period_us(timeline: Timeline, layer: int) -> float:
    """From the start of one layer's experts to the next layer's."""
    starts = {span.layer: span.start_us for span in timeline.spans if span.rank == 0 and span.kind == "experts"}
    return starts[layer + 1] - starts[layer]


@settings(deadline=None, max_examples=25)
@given(tokens=st.integers(64, 40000), link=st.floats(50, 4000))
def test_the_simulator_under_the_bounds_physics_meets_it(tokens: int, link: float) -> None:
    scenario = R1.replace(link_gbps=link, workload={"kind": "explicit", "lengths": [[tokens]] * 4})
    ours = roofline(scenario)
    for layer in (6, 7):
        dwdp, dep = (run_sim(scenario.with_strategy(name)) for name in ("dwdp", "dep"))  # type: ignore[arg-type]
        assert _period_us(dwdp, layer) == pytest.approx(ours.dwdp_us, rel=1e-9)
        assert _period_us(dep, layer) == pytest.approx(ours.dep_us, rel=1e-9)


def test_longer_requests_hide_more() -> None:
    ratios = [roofline(R1, tokens).compute_over_pull for tokens in (1 << 8, 1 << 11, 1 << 14, 1 << 17)]
    assert all(less < more for less, more in itertools.pairwise(ratios))
