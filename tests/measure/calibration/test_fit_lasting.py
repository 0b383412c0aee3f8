"""What is slower in steps that last, from made timelines and from a simulated machine that becomes slower."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate
from statistics import fmean

import pytest
from at_limit import knows_lasting
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.execute.failures import RankFailed
from dwdp_lab.measure.calibration.calibration_plan import calibration_plan
from dwdp_lab.measure.calibration.calibration_runs import run_at_limit
from dwdp_lab.measure.calibration.fit_lasting import fit_lasting
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import Hardware, load_hardware
from dwdp_lab.simulate.physics import LASTING, REALISTIC
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.span import Span, Timeline

LAYERS = 2
MS: Mapping[str, float] = {"attention": 3.0, "route": 1.0, "experts": 6.0}
"""Of one layer: a cool step of two takes 20 ms."""


def run(factors: Sequence[Sequence[Mapping[str, float]]], pulled: float = 0.0, waits_ms: float = 0.0) -> Timeline:
    """Ranks whose operations take these times as long, by rank, step and kind; pulls run for a share of each step.

    The first step's experts wait for their pull for `waits_ms`.
    """
    spans = []
    for rank, steps in enumerate(factors):
        now = 0.0
        for step, longer in enumerate(steps):
            began = now
            for layer in range(LAYERS):
                for kind, ms in MS.items():
                    if kind == "experts" and step == layer == 0:
                        now += 1e3 * waits_ms
                    end = now + 1e3 * ms * longer.get(kind, 1.0)
                    spans.append(Span(rank, "compute", kind, step, layer, now, end))
                    now = end
            if pulled:  # in two halves that overlap by as much as both are long
                until = began + pulled * (now - began)
                spans += [Span(rank, "copy", "pull", step, layer, began, until, 1.0) for layer in range(LAYERS)]
    strategy = "dwdp" if pulled else "replicated"
    return Timeline(tuple(spans), strategy, "cuda", "measured", (1,) * len(factors), len(factors[0]))


def falls(after: int, steps: int, **longer: float) -> list[dict[str, float]]:
    """So many cool steps, then slower ones."""
    return [longer if step >= after else {} for step in range(steps)]


SLOW = {"attention": 1.25, "route": 1.0, "experts": 1.1}


def test_every_kind_has_its_factor_and_the_time_is_that_of_the_first_slower_step() -> None:
    found = fit_lasting(run([falls(4, 20, **SLOW), falls(3, 20, **SLOW)]), run([falls(4, 20, **SLOW)] * 2))
    assert found.compute == pytest.approx(SLOW)
    assert found.after_ms == pytest.approx(70.0), "80 ms on one rank, 60 on the other"
    assert found.copies is None, "nothing was pulled"
    faster = run([falls(4, 20, **dict.fromkeys(MS, 0.9))] * 2)
    assert fit_lasting(run([falls(4, 20)] * 2), faster).copies is None, "nor does a faster run without pulls tell"
    slower = LAYERS * (3.75 + 1.0 + 6.6)
    assert found.step_ms["dwdp"] == pytest.approx([20.0] * 4 + [slower] * 16)
    assert found.step_ms["replicated"][3] == pytest.approx((20.0 + slower) / 2)
    assert found.run_ms == pytest.approx(fmean([80 + 16 * slower, 60 + 17 * slower]))


def test_steps_on_the_way_down_count_by_what_they_are_nearer_to() -> None:
    halfway = falls(3, 5) + [{"experts": 1.04}, {"experts": 1.06}] + [{"experts": 1.1}] * 13
    found = fit_lasting(run([halfway]), run([halfway]))
    assert found.after_ms == pytest.approx(3 * LAYERS * 10.0 + 2 * LAYERS * 10.0 + LAYERS * 10.24)
    assert found.compute["experts"] == pytest.approx(1.1)


def test_cool_is_what_ends_within_forty_milliseconds_and_at_least_the_first_step() -> None:
    third = [{}, {}, *[{"experts": 1.2}] * 18]
    assert fit_lasting(run([third]), run([third])).compute["experts"] == pytest.approx(1.2)
    second = [{}, *[{"experts": 1.2}] * 19]  # it ends after 42.4 ms
    assert fit_lasting(run([second]), run([second])).compute["experts"] == pytest.approx(1.2)
    long = [dict.fromkeys(MS, 10.0), *[dict.fromkeys(MS, 11.0)] * 9]
    found = fit_lasting(run([long]), run([long]))
    assert found.compute == pytest.approx(dict.fromkeys(MS, 1.1))
    assert found.after_ms == pytest.approx(200.0)


def test_cool_is_the_mean_of_all_steps_that_end_by_then() -> None:
    """The second step ends after 39 ms in one run, after 40.2 ms in the other."""
    for second, cool in ((0.95, 0.975), (1.01, 1.0)):
        steps = [dict.fromkeys(MS, factor) for factor in (1.0, second, *[1.17] * 18)]
        for one in (run([steps]), shifted(run([steps]), (7_000.0,))):
            assert fit_lasting(one, one).compute == pytest.approx(dict.fromkeys(MS, 1.17 / cool))


def test_a_long_first_step_is_not_taken_for_one_that_lasts() -> None:
    steps = [dict.fromkeys(MS, factor) for factor in (1.1, 0.89, 1.0, *[1.06] * 17)]
    found = fit_lasting(run([steps]), run([steps]))
    assert found.after_ms == pytest.approx(59.8), "the fourth is the first of those"


def test_of_two_long_steps_the_second_is_the_one_that_lasts() -> None:
    """It begins before half of the time."""
    steps = [dict.fromkeys(MS, factor) for factor in (10.0, 12.0)]
    assert fit_lasting(run([steps]), run([steps])).compute == pytest.approx(dict.fromkeys(MS, 1.2))


def shifted(timeline: Timeline, later_us: Sequence[float]) -> Timeline:
    """Every rank begins so much later; spans of the last step and layer come first."""
    spans = [
        span._replace(start_us=span.start_us + later_us[span.rank], end_us=span.end_us + later_us[span.rank])
        for span in reversed(timeline.spans)
    ]
    return replace(timeline, spans=tuple(spans))


def test_neither_when_a_rank_begins_nor_the_order_of_spans_matters() -> None:
    replicated = run([falls(4, 20, **SLOW), falls(3, 20, **SLOW)])
    dwdp = run([falls(4, 20, attention=1.3, experts=1.15)] * 2, pulled=0.5)
    usual = fit_lasting(replicated, dwdp)
    later = fit_lasting(shifted(replicated, (7_000.0, 90_000.0)), shifted(dwdp, (120_000.0, 500.0)))
    assert later.compute == pytest.approx(usual.compute)
    assert later.copies == pytest.approx(usual.copies)
    assert (later.after_ms, later.run_ms) == pytest.approx((usual.after_ms, usual.run_ms))
    assert later.step_ms == {name: pytest.approx(steps) for name, steps in usual.step_ms.items()}


def test_a_kind_that_nobody_computes_has_no_factor() -> None:
    whole = run([falls(4, 20, **SLOW)])
    without = replace(whole, spans=tuple(span for span in whole.spans if span.kind != "route"))
    assert fit_lasting(without, without).compute == pytest.approx({"attention": 1.25, "experts": 1.1})


def test_copies_are_what_dwdp_loses_more_by_the_time_that_pulls_run() -> None:
    """Compute takes 1.1 times as long alone, and 1.02 times as long again under DWDP, with pulls for half of the time:
    of 102 ms that would be 100, 51 are beside pulls, and would be 49."""
    alone, beside = (dict.fromkeys(MS, factor) for factor in (1.1, 1.1 * 1.02))
    replicated, dwdp = [falls(4, 20, **alone)] * 2, [falls(4, 20, **beside)] * 2
    found = fit_lasting(run(replicated), run(dwdp, pulled=0.5, waits_ms=1.5))
    assert found.copies == pytest.approx(51 / 49)
    assert found.compute == pytest.approx(alone), "what DWDP loses more is not in it"
    faster = fit_lasting(run(replicated), run([falls(4, 20, experts=1.05)] * 2, pulled=0.5))
    assert faster.copies == 1.0


def test_longer_steps_do_not_hide_what_pulls_take() -> None:
    """Pulls of 10 ms a step slow compute by 1.25, which costs 2 of 20 ms when cool, and 2 of 22 when not: they take the
    same of it, though DWDP's operations take 24 / 22 times as long as at first, and others 22 / 20."""
    cool, later = (dict.fromkeys(MS, factor) for factor in (22 / 20, 24 / 20))
    beside = run([[cool] * 3 + [later] * 17], pulled=0.5)
    pulls = [span._replace(end_us=span.start_us + 10_000.0) if span.kind == "pull" else span for span in beside.spans]
    alone = run([falls(3, 20, **dict.fromkeys(MS, 22 / 20))])
    assert fit_lasting(alone, replace(beside, spans=tuple(pulls))).copies == pytest.approx(1.0)


def test_what_lasts_is_what_both_runs_did_in_the_second_half_of_the_same_time() -> None:
    """The longer run ends with steps at a time that the other has not seen."""
    longer = run([[*falls(3, 20, **SLOW), *falls(0, 20, experts=3.0)]])
    shorter = run([falls(3, 20, **SLOW)])
    assert fit_lasting(longer, shorter).compute == pytest.approx(SLOW)
    assert fit_lasting(shorter, longer).compute == pytest.approx(SLOW)
    late_us = (300_000.0,)
    assert fit_lasting(shifted(longer, late_us), shifted(shorter, late_us)).compute == pytest.approx(SLOW)


def test_a_disturbed_run_tells_nothing_of_copies() -> None:
    slow = [dict.fromkeys(MS, 3.0), *falls(3, 19, **SLOW)]
    assert fit_lasting(run([falls(4, 20, **SLOW)]), run([slow], pulled=0.5)).copies is None


@given(st.lists(st.floats(0.9, 1.0099), min_size=2, max_size=40))
def test_a_machine_that_does_not_become_slower_has_factors_as_measured_and_never_gets_there(
    factors: list[float],
) -> None:
    steps = [dict.fromkeys(MS, factor) for factor in (1.0, 1.0, *factors)]
    found = fit_lasting(run([steps]), run([steps], pulled=0.3))
    starts = list(accumulate((step["experts"] for step in steps), initial=0.0))
    later = [step["experts"] for step, start in zip(steps, starts, strict=False) if start >= starts[-1] / 2 - 1e-9]
    assert found.compute == pytest.approx(dict.fromkeys(MS, max(1.0, fmean(later))))
    assert found.after_ms == pytest.approx(found.run_ms)
    assert found.copies == pytest.approx(1.0)


def test_a_little_slower_is_told_as_it_is() -> None:
    steps = falls(4, 20, **dict.fromkeys(MS, 1.008))
    found = fit_lasting(run([steps]), run([steps]))
    assert found.compute == pytest.approx(dict.fromkeys(MS, 1.008))
    assert found.after_ms == pytest.approx(found.run_ms)


def test_a_rank_that_stays_fast_does_not_tell_when_the_other_becomes_slower() -> None:
    found = fit_lasting(run([falls(4, 20, **SLOW), falls(20, 20)]), run([falls(4, 20, **SLOW)] * 2))
    assert found.after_ms == pytest.approx(80.0)
    assert found.compute["attention"] == pytest.approx(1.125)


def test_a_rank_without_work_is_refused() -> None:
    empty = replace(run([falls(4, 20)]), tokens=(1, 1))
    with pytest.raises(ValueError, match="rank 1 of the replicated run computed nothing"):
        fit_lasting(empty, empty)


H200 = load_hardware("h200")
SCENARIOS = calibration_plan("cuda", 2).at_limit


def on_machine(scenario: Scenario, hardware: Hardware) -> Timeline:
    """As on GPUs: cool steps at first, then those at the limit."""
    assert hardware.reached is not None
    assert hardware.reached.lasting is not None
    cool, lasting = (run_sim(scenario, hardware=hardware, physics=one) for one in (REALISTIC, LASTING))
    ends = [max(span.end_us for span in cool.spans if span.step == step) for step in range(scenario.batches.steps)]
    first = next(step for step, end in enumerate(ends) if end > 1e3 * hardware.reached.lasting.after_ms.value)
    later_us = ends[first - 1] - max(span.end_us for span in lasting.spans if span.step == first - 1)
    spans = [span for span in cool.spans if span.step < first]
    spans += [
        span._replace(start_us=span.start_us + later_us, end_us=span.end_us + later_us)
        for span in lasting.spans
        if span.step >= first
    ]
    return replace(cool, spans=tuple(spans))


def test_a_machine_s_factors_are_found_again() -> None:
    machine = knows_lasting(H200, copies=1.04)
    found, notes = run_at_limit(calibration_plan("cuda", 2), lambda scenario: on_machine(scenario, machine))
    assert notes == ()
    assert found is not None
    assert found.compute == pytest.approx({"attention": 1.125, "route": 1.0625, "experts": 1.1875}, rel=1e-6)
    assert found.copies == pytest.approx(1.04, abs=0.004)
    assert 45.0 < found.after_ms <= 75.0, "to the step"
    assert len(found.step_ms["dwdp"]) == len(found.step_ms["replicated"]) == 64


def test_the_runs_are_long_enough_and_brief_enough_on_an_h200() -> None:
    assert [scenario.strategy.name for scenario in SCENARIOS] == ["replicated", "dwdp"]
    assert SCENARIOS[1].strategy.cross_step
    for scenario in SCENARIOS:
        end_ms = max(span.end_us for span in run_sim(scenario, hardware=H200, physics=REALISTIC).spans) / 1e3
        assert 1_000.0 < end_ms < 3_000.0
    assert all(one not in calibration_plan("cuda", 2).scenarios() for one in SCENARIOS), "they run once"
    assert calibration_plan("cuda", 2, quick=True).at_limit == ()
    assert calibration_plan("cpu", 2).at_limit == ()


def test_a_machine_without_the_memory_goes_without_and_says_so() -> None:
    def refuse(scenario: Scenario) -> Timeline:
        raise ScenarioError("model", scenario.model.name, "2 ranks on GPU 0 need about 30.0 GB", "take more GPUs")

    found, (note,) = run_at_limit(calibration_plan("cuda", 2), refuse)
    assert found is None
    assert note.startswith("not measured: steps that last (model = 'many small experts': 2 ranks on GPU 0 need")
    assert run_at_limit(calibration_plan("cpu", 2), refuse) == (None, ())


def test_what_was_measured_before_is_not_lost_with_a_rank_that_fails_then() -> None:
    runs = iter([run([falls(4, 20)])])

    def fail(_: Scenario) -> Timeline:
        for timeline in runs:
            return timeline
        raise RankFailed(1, "Traceback\n  a line of code\nOutOfMemoryError: CUDA out of memory\n", "a log")

    found, (note,) = run_at_limit(calibration_plan("cuda", 2), fail)
    assert found is None
    assert note == "not measured: steps that last (rank 1: OutOfMemoryError: CUDA out of memory)"


def test_progress_is_told_before_each_run() -> None:
    told: list[tuple[float, str]] = []
    run_at_limit(
        calibration_plan("cuda", 2),
        lambda _: run([falls(4, 20)]),
        lambda done, doing: told.append((done, doing)),
    )
    assert told == [(0.0, "steps that last, replicated"), (0.5, "steps that last, dwdp")]
