"""What is kept of one run's timeline and of its GPUs' sensors. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import fmean, median
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from dwdp_lab.execute.gpu_sample import GpuSample
from dwdp_lab.timeline.compare import kind_times_ms
from dwdp_lab.timeline.metrics import metrics, step_times_ms
from dwdp_lab.timeline.span import Timeline

DIGITS = 6
"""Significant ones that are kept: more than any repeat repeats."""


class GpuFigures(BaseModel):
    """Means over what the sensors of all GPUs said while a run was under way; None for what they do not tell.

    `throttled_pct` is the share of looks at which some clock was held down, `reasons` say why.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    looks: Annotated[int, Field(ge=1)]
    sm_mhz: float | None = None
    power_w: float | None = None
    nvlink_received_gbps: float | None = None
    throttled_pct: float = 0.0
    reasons: list[str] = []


class Figures(BaseModel):
    """Means over ranks of one run, in milliseconds per step (timeline/metrics.py).

    `kind_ms` has the time of each kind of operation, hidden behind others or not; `steps_ms` how long each step of the
    run took (empty in files of earlier versions).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    step_ms: Annotated[float, Field(gt=0)]
    compute_ms: float
    communication_ms: float
    exposed_copy_ms: float
    wait_on_peers_ms: float
    idle_ms: float
    overlap_pct: float
    tokens_per_s: Annotated[float, Field(gt=0)]
    kind_ms: dict[str, float] = {}
    steps_ms: list[float] = []
    gpu: GpuFigures | None = None

    @classmethod
    def of(cls, timeline: Timeline, samples: Iterable[Sequence[GpuSample]] = ()) -> Figures:
        """What is kept of a run; `samples` are those of each GPU."""
        whole = metrics(timeline)
        return cls(
            **{name: getattr(whole, name) for name in _NUMBERS},
            kind_ms={kind: _short(ms) for kind, ms in sorted(kind_times_ms(timeline).items())},
            steps_ms=[_short(ms) for ms in step_times_ms(timeline)],
            gpu=_gpu(timeline, samples),
        )

    @classmethod
    def middle(cls, repeats: Sequence[Figures]) -> Figures:
        """The median of each number over repeats of a run."""
        kinds = sorted(set[str]().union(*(one.kind_ms for one in repeats)))
        return cls(
            **{name: median(getattr(one, name) for one in repeats) for name in _NUMBERS},
            kind_ms={kind: median(one.kind_ms.get(kind, 0.0) for one in repeats) for kind in kinds},
            steps_ms=[median(of_step) for of_step in zip(*(one.steps_ms for one in repeats), strict=False)],
            gpu=_middle_gpu([one.gpu for one in repeats if one.gpu is not None]),
        )

    @classmethod
    def blend(cls, cool: Figures, lasting: Figures, cool_share: float) -> Figures:
        """A run of the same steps of which this share (0 to 1) is as in `cool`, the rest as in `lasting`.

        Each number is the mean over the steps; tokens per second follow from the step time. Single steps, and what
        sensors said, are of one run and in none.
        """
        rest = 1.0 - cool_share

        def mean(one: float, other: float) -> float:
            # a share of 0 or 1 gives one of them as it is, and rounding leads out of neither
            return min(max(cool_share * one + rest * other, min(one, other)), max(one, other))

        numbers = {name: mean(getattr(cool, name), getattr(lasting, name)) for name in _NUMBERS}
        if 0.0 < cool_share < 1.0:
            tokens = mean(cool.tokens_per_s * cool.step_ms, lasting.tokens_per_s * lasting.step_ms)
            numbers["tokens_per_s"] = tokens / numbers["step_ms"]
        kinds = sorted({*cool.kind_ms, *lasting.kind_ms})
        return cool.model_copy(
            update={
                **numbers,
                "kind_ms": {kind: mean(cool.kind_ms.get(kind, 0.0), lasting.kind_ms.get(kind, 0.0)) for kind in kinds},
                "steps_ms": [],
                "gpu": None,
            }
        )


_NUMBERS = [name for name, field in Figures.model_fields.items() if field.annotation is float]


def _gpu(timeline: Timeline, samples: Iterable[Sequence[GpuSample]]) -> GpuFigures | None:
    """Looks before the run begins and after it has ended see an idle GPU."""
    end_us = max((span.end_us for span in timeline.spans), default=0.0)
    looks = [look for of_gpu in samples for look in of_gpu if 0.0 <= look.at_us <= end_us]
    if not looks:
        return None
    return GpuFigures(
        looks=len(looks),
        sm_mhz=_mean(look.sm_mhz for look in looks),
        power_w=_mean(look.power_w for look in looks),
        nvlink_received_gbps=_mean(look.nvlink_received_gbps for look in looks),
        throttled_pct=_short(100.0 * fmean(bool(look.throttled) for look in looks)),
        reasons=sorted({reason for look in looks for reason in look.throttled}),
    )


def _middle_gpu(found: Sequence[GpuFigures]) -> GpuFigures | None:
    if not found:
        return None

    def middle(name: str) -> Any:
        known = [value for one in found if (value := getattr(one, name)) is not None]
        return median(known) if known else None

    return GpuFigures(
        looks=sum(one.looks for one in found),
        **{name: middle(name) for name in ("sm_mhz", "power_w", "nvlink_received_gbps", "throttled_pct")},
        reasons=sorted({reason for one in found for reason in one.reasons}),
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return _short(fmean(known)) if known else None


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
