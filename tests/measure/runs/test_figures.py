"""What is kept of a run: the timeline's metrics, times by kind, and what sensors said while it was under way."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dwdp_lab.execute.gpu_sample import GpuSample
from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.compare import kind_times_ms
from dwdp_lab.timeline.metrics import metrics, step_times_ms
from dwdp_lab.timeline.span import Timeline


@pytest.fixture(scope="module")
def timeline() -> Timeline:
    return run_sim(Scenario.create())


def look(at_us: float, mhz: float | None, watts: float | None, *throttled: str) -> GpuSample:
    return GpuSample(at_us, mhz, watts, 90.0, throttled, 1.0, None)


def test_figures_are_those_of_a_timeline(timeline: Timeline) -> None:
    kept, measured = Figures.of(timeline), metrics(timeline)
    assert (kept.step_ms, kept.tokens_per_s, kept.overlap_pct) == (
        measured.step_ms,
        measured.tokens_per_s,
        measured.overlap_pct,
    )
    assert kept.kind_ms == pytest.approx(kind_times_ms(timeline), rel=1e-5)
    assert {"attention", "experts", "pull"} <= set(kept.kind_ms)
    assert list(kept.kind_ms) == sorted(kept.kind_ms)
    assert kept.steps_ms == pytest.approx(step_times_ms(timeline), rel=1e-5)
    assert sum(kept.steps_ms) / len(kept.steps_ms) == pytest.approx(kept.step_ms, rel=1e-5)
    assert kept.gpu is None


def test_sensors_count_only_while_the_run_is_under_way(timeline: Timeline) -> None:
    end_us = max(span.end_us for span in timeline.spans)
    first = [look(-1.0, 345.0, 90.0), look(0.0, 1900.0, 600.0), look(end_us, 1700.0, 700.0, "software power cap")]
    second = [look(end_us / 2, 1800.0, None), look(end_us + 1.0, 345.0, 90.0, "hardware thermal")]
    kept = Figures.of(timeline, [first, second, []]).gpu
    assert kept is not None
    assert (kept.looks, kept.sm_mhz, kept.power_w) == (3, 1800.0, 650.0)
    assert kept.nvlink_received_gbps is None
    assert kept.throttled_pct == pytest.approx(100 / 3, rel=1e-5)
    assert kept.reasons == ["software power cap"]
    assert Figures.of(timeline, [[look(end_us + 1.0, 345.0, 90.0)]]).gpu is None


def test_the_middle_is_each_number_s_median(timeline: Timeline) -> None:
    base = Figures.of(timeline, [[look(0.0, 1000.0, None)]])
    slow = base.model_copy(update={"step_ms": 3 * base.step_ms, "kind_ms": base.kind_ms | {"experts": 9.0}})
    fast = base.model_copy(update={"step_ms": 0.5 * base.step_ms, "gpu": None})
    middle = Figures.middle([slow, base, fast])
    assert middle.step_ms == base.step_ms
    assert middle.kind_ms == base.kind_ms
    assert middle.gpu is not None
    assert (middle.gpu.looks, middle.gpu.sm_mhz, middle.gpu.power_w) == (2, 1000.0, None)
    assert Figures.middle([fast]).gpu is None


def test_the_middle_of_single_steps_is_each_step_s_median(timeline: Timeline) -> None:
    base = Figures.of(timeline)
    repeats = [base.model_copy(update={"steps_ms": steps}) for steps in ([9.0, 2.0], [5.0, 1.0], [1.0, 3.0])]
    assert Figures.middle(repeats).steps_ms == [5.0, 2.0]
    old = base.model_copy(update={"steps_ms": []})  # of a file of an earlier version
    assert Figures.middle([*repeats, old]).steps_ms == []


def test_a_kind_that_a_repeat_does_not_have_took_it_no_time(timeline: Timeline) -> None:
    base = Figures.of(timeline)
    repeats = [base.model_copy(update={"kind_ms": kinds}) for kinds in ({"pull": 4.0}, {"merge": 2.0})]
    middle = Figures.middle(repeats)
    assert middle.kind_ms == {"merge": 1.0, "pull": 2.0}
    assert list(middle.kind_ms) == ["merge", "pull"]


POSITIVE = st.floats(1e-3, 1e6)
PARTS = (
    "compute_ms",
    "communication_ms",
    "exposed_copy_ms",
    "wait_on_peers_ms",
    "idle_ms",
    "overlap_pct",
)
SOME = st.builds(
    Figures,
    step_ms=POSITIVE,
    tokens_per_s=POSITIVE,
    kind_ms=st.dictionaries(st.sampled_from(["attention", "experts", "pull"]), POSITIVE),
    **{name: st.floats(0.0, 1e6) for name in PARTS},
)


@given(SOME, SOME, st.floats(0.0, 1.0))
def test_a_blend_lies_between_its_parts(cool: Figures, lasting: Figures, share: float) -> None:
    blend = Figures.blend(cool, lasting, share)
    for name in ("step_ms", "tokens_per_s", *PARTS):
        one, other = sorted((getattr(cool, name), getattr(lasting, name)))
        assert one * (1 - 1e-9) <= getattr(blend, name) <= other * (1 + 1e-9)
    assert blend.kind_ms.keys() == cool.kind_ms.keys() | lasting.kind_ms.keys()
    for kind, ms in blend.kind_ms.items():
        assert ms == pytest.approx(share * cool.kind_ms.get(kind, 0.0) + (1 - share) * lasting.kind_ms.get(kind, 0.0))


def some(step_ms: float, tokens_per_s: float, **kinds: float) -> Figures:
    return Figures(step_ms=step_ms, tokens_per_s=tokens_per_s, kind_ms=kinds, **dict.fromkeys(PARTS, 0.1))


UNEVEN = some(7.31, 24220.43, pull=0.1, merge=0.3), some(48.41, 29592.25, attention=0.7)
"""Of both the product of step and rate, divided by the step again, is another number than the rate."""


@example(*UNEVEN)
@given(SOME, SOME)
def test_a_blend_of_one_part_alone_is_that_part(cool: Figures, lasting: Figures) -> None:
    for share, part, other in ((1.0, cool, lasting), (0.0, lasting, cool)):
        blend = Figures.blend(cool, lasting, share)
        absent = dict.fromkeys(other.kind_ms.keys() - part.kind_ms.keys(), 0.0)
        assert blend == part.model_copy(update={"kind_ms": part.kind_ms | absent})


@example(some(1.0, 8.0), 2.0, 40, 1)
@given(SOME, st.floats(1.0, 2.0), st.integers(0, 60), st.integers(1, 60))
def test_a_blend_is_the_mean_over_the_steps_and_counts_the_same_tokens(
    cool: Figures, longer: float, of_cool: int, of_lasting: int
) -> None:
    """A run of cool steps and longer ones, all of the same tokens."""
    slow = {"step_ms": longer * cool.step_ms, "tokens_per_s": cool.tokens_per_s / longer}
    steps = of_cool + of_lasting
    blend = Figures.blend(cool, cool.model_copy(update=slow), of_cool / steps)
    run_ms = (of_cool + of_lasting * longer) * cool.step_ms
    assert blend.step_ms == pytest.approx(run_ms / steps)
    assert blend.tokens_per_s == pytest.approx(steps * cool.tokens_per_s * cool.step_ms / run_ms)


def test_what_sensors_said_and_single_steps_are_in_no_blend(timeline: Timeline) -> None:
    looked = Figures.of(timeline, [[look(0.0, 1000.0, None)]])
    assert looked.gpu is not None
    assert looked.steps_ms
    blend = Figures.blend(looked, looked, 0.5)
    assert (blend.gpu, blend.steps_ms) == (None, [])
    assert list(Figures.blend(*UNEVEN, 0.5).kind_ms) == ["attention", "merge", "pull"]
