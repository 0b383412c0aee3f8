"""Samples from runs of a few operations, whose times are counted by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from dwdp_lab.measure.calibration.run_samples import (
    Ran,
    compute_samples,
    exchange_samples,
    pull_samples,
    slowed_samples,
)
from dwdp_lab.measure.calibration.samples import ComputeSample, ExchangeSample, PullSample, SlowedSample
from dwdp_lab.program.operation import Collective, Kind, Op, Program, Pull, Work
from dwdp_lab.timeline.span import Span, Timeline

WORK = (Work("gemm", "fp32", 1e6, 1e3),)
MORE = (Work("gemm", "fp32", 2e6, 1e3),)


def _ran(ops: Sequence[Sequence[Op]], spans: Sequence[Span]) -> Ran:
    """Ranks' operations, and spans in any order."""
    timeline = Timeline(tuple(spans), "dwdp", "cpu", "measured", (1,) * len(ops), 1)
    return Ran([Program(rank, tuple(of_rank)) for rank, of_rank in enumerate(ops)], timeline)


def _computed(*times: float) -> Ran:
    """One rank's attention in several layers, each as long; then one of more work, which takes 100 us."""
    ops = [Op("attention", "compute", 0, layer, work=WORK) for layer in range(len(times))]
    ops.append(Op("attention", "compute", 0, len(times), work=MORE))
    spans = [Span(0, "compute", "attention", 0, layer, 50.0, 50.0 + us) for layer, us in enumerate((*times, 100.0))]
    return _ran([ops], spans)


def test_a_compute_sample_is_the_median_of_runs_means() -> None:
    """Means of 4, 6 and 50 us."""
    runs = [_computed(1.0, 1.0, 10.0), _computed(6.0, 6.0, 6.0), _computed(50.0, 50.0, 50.0)]
    assert compute_samples(runs) == [
        ComputeSample("attention", "attention", WORK, 6.0),
        ComputeSample("attention", "attention", MORE, 100.0),
    ]
    assert compute_samples(runs[:1])[0].us == 4.0


def _pulled(*times: float) -> Ran:
    pull = Pull((), 1e3, 3.0)
    ops = [Op("pull", "copy", 0, layer, pull=pull) for layer in range(len(times))]
    ops.append(Op("pull", "copy", 0, len(times), pull=Pull((), 0.0, 0.0)))
    spans = [Span(0, "copy", "pull", 0, layer, 0.0, us) for layer, us in enumerate((*times, 7.0))]
    return _ran([ops], spans)


def test_a_pull_sample_is_the_median_of_runs_means_and_nothing_to_pull_is_none() -> None:
    runs = [_pulled(1.0, 1.0, 10.0), _pulled(6.0, 6.0, 6.0), _pulled(50.0, 50.0, 50.0)]
    assert pull_samples(runs) == [PullSample(1e3, 3.0, 6.0)]
    assert pull_samples(runs[:1]) == [PullSample(1e3, 3.0, 4.0)]


SENT = ((0.0, 5.0, 5.0), (0.0, 0.0, 20.0), (0.0, 0.0, 0.0))
"""Ranks send 10, 20 and 0 bytes and receive 0, 5 and 25."""


def _exchanged(*went_on: Sequence[float]) -> Ran:
    """In each layer all ranks are ready at 10 us, enter at 12, leave at 14, and go on at these times."""
    ops: list[list[Op]] = [[], [], []]
    spans = []
    for layer, moments in enumerate(went_on):
        for rank, moment in enumerate(moments):
            ops[rank] += [
                Op("route", "compute", 0, layer, signals=f"routed {layer}", work=WORK),
                Op(
                    "dispatch",
                    "comm",
                    0,
                    layer,
                    (f"routed {layer}",),
                    f"received {layer}",
                    collective=Collective(SENT[rank]),
                ),
                Op("experts", "compute", 0, layer, (f"received {layer}",), work=MORE),
            ]
            times: list[tuple[Kind, float, float]] = [
                ("route", 0.0, 10.0),
                ("dispatch", 12.0, 14.0),
                ("experts", moment, moment + 5.0),
            ]
            spans += [Span(rank, "x", kind, 0, layer, start, end) for kind, start, end in times]
    return _ran(ops, spans)


def test_an_exchange_lasts_from_when_ranks_were_ready_to_when_they_went_on() -> None:
    """Means over ranks of 6 us in one layer, 8 and 100 in the others; the busiest rank receives 25 bytes."""
    one = _exchanged((15.0, 16.0, 17.0), (16.0, 18.0, 20.0), (110.0, 110.0, 110.0))
    assert exchange_samples([one]) == [ExchangeSample("dispatch", 25.0, pytest.approx(8.0))]
    quick, slow = _exchanged((13.0, 13.0, 13.0)), _exchanged((60.0, 60.0, 60.0))
    assert exchange_samples([quick, one, slow]) == [ExchangeSample("dispatch", 25.0, pytest.approx(8.0))]


def test_slowdowns_are_of_operations_beside_the_ranks_own_pulls() -> None:
    def compute(rank: int, kind: Kind, layer: int, start_us: float, end_us: float) -> Span:
        return Span(rank, "compute", kind, 0, layer, start_us, end_us)

    alone = _ran(
        [[], []],
        [
            compute(0, "attention", 0, 0.0, 10.0),
            compute(0, "experts", 0, 10.0, 20.0),
            compute(0, "route", 0, 20.0, 30.0),
            compute(0, "attention", 1, 30.0, 40.0),
            compute(0, "experts", 1, 40.0, 40.0),
            compute(1, "attention", 0, 0.0, 10.0),
        ],
    )
    beside = _ran(
        [[], []],
        [
            Span(0, "copy", "pull", 0, 0, 0.0, 20.0),
            Span(0, "copy", "pull", 0, 1, 20.0, 100.0),
            compute(0, "attention", 0, 0.0, 12.0),
            compute(0, "experts", 0, 12.0, 27.0),  # beside two pulls, one after the other
            compute(0, "route", 0, 27.0, 50.0),  # tells of no unit
            compute(0, "experts", 1, 50.0, 60.0),  # took no time alone
            compute(0, "attention", 1, 90.0, 110.0),  # half of it beside a pull
            compute(0, "attention", 2, 60.0, 70.0),  # there is none alone
            compute(1, "attention", 0, 0.0, 12.0),  # the other rank's pulls
        ],
    )
    assert slowed_samples(beside, alone) == [SlowedSample("attention", 1.2), SlowedSample("experts", 1.5)]
