"""How far the model is from the measurement, kind by kind."""

from __future__ import annotations

from typing import NamedTuple

from dwdp_lab.timeline.compare import kind_times_ms
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.palette import KIND_STYLES, style
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.timeline.words import figures


class KindError(NamedTuple):
    """Milliseconds per step and rank, simulated and measured; `error_pct` is the model's, None where nothing was
    measured."""

    label: str
    simulated_ms: float
    measured_ms: float

    @property
    def error_pct(self) -> float | None:
        return 100.0 * (self.simulated_ms / self.measured_ms - 1.0) if self.measured_ms else None


def kind_errors(simulated: Timeline, measured: Timeline) -> list[KindError]:
    """The whole step first, then each kind that either run has, in the order of the legend.

    Raises ValueError when the runs are not of the same strategy and batches: their difference would not be an error.
    """
    if (simulated.strategy, simulated.tokens) != (measured.strategy, measured.tokens):
        raise ValueError(
            f"simulated is {simulated.strategy} on {simulated.tokens} tokens, measured {measured.strategy} on "
            f"{measured.tokens}: simulate the scenario that was measured"
        )
    model, real = kind_times_ms(simulated), kind_times_ms(measured)
    kinds = [kind for kind in KIND_STYLES if kind in model or kind in real]
    kinds += sorted((model.keys() | real.keys()) - set(kinds))
    step = KindError("step", metrics(simulated).step_ms, metrics(measured).step_ms)
    return [step, *[KindError(style(kind).label, model.get(kind, 0.0), real.get(kind, 0.0)) for kind in kinds]]


def errors_text(errors: list[KindError]) -> str:
    """The errors as a plain table."""
    lines = [f"{'':20}{'simulated ms':>14}{'measured ms':>14}{'error':>9}"]
    for error in errors:
        pct = "" if error.error_pct is None else f"{error.error_pct:+z,.0f} %"
        lines.append(f"{error.label:20}{figures(error.simulated_ms):>14}{figures(error.measured_ms):>14}{pct:>9}")
    return "\n".join(lines)
