"""Why a knob does not apply now, in a few words; and which knobs belong to another kind of workload or machine."""

from __future__ import annotations

from collections.abc import Callable

from dwdp_lab.program.mailbox import MEETING
from dwdp_lab.timeline.palette import STRATEGY_NAMES
from dwdp_lab.view.control.choices import value
from dwdp_lab.view.control.settings import ON_GPUS, WORKLOAD_FIELDS, Settings

PREFETCHING = frozenset({"dwdp", "weight_gather"})


def hidden(settings: Settings, name: str) -> bool:
    """The knob belongs to another kind of workload, or to another machine."""
    if name in ON_GPUS:
        return settings.machine != "cuda"
    owners = [kind for kind, fields in WORKLOAD_FIELDS.items() if name in fields]
    return bool(owners) and settings.wish("workload") not in owners


def reason(settings: Settings, name: str) -> str:
    """Why the knob changes nothing now; empty when it does. A knob of either strategy that is shown applies."""
    why = _REASONS.get(name)
    return why(settings) if why is not None else ""


def _alone(settings: Settings) -> str:
    return "one rank has no peers" if value(settings, "ranks") == 1 else ""


def _fetches(settings: Settings) -> str:
    if settings.strategies & PREFETCHING:
        return _alone(settings)
    return _alone(settings) or _none(settings, "fetches no weights", "fetches weights")


def _ahead(settings: Settings) -> str:
    return _fetches(settings) or ("" if value(settings, "overlap") else "without overlap nothing is fetched ahead")


def _distance(settings: Settings) -> str:
    return _ahead(settings) or ("one slot: nothing to choose" if value(settings, "slots") == 1 else "")


def _cross_step(settings: Settings) -> str:
    steps = value(settings, "steps") if settings.wish("workload") in ("cv", "isl") else 2
    return _ahead(settings) or ("there is one step" if steps == 1 else "")


def _view(settings: Settings) -> str:  # a rank alone pulls nothing, and still merges
    return "" if "dwdp" in settings.strategies else _none(settings, "pulls nothing", "pulls anything")


def _pulls(settings: Settings) -> str:
    return _alone(settings) or _view(settings)


def _order(settings: Settings) -> str:
    return _pulls(settings) or ("two ranks: each has one peer" if value(settings, "ranks") == 2 else "")


def _dep(settings: Settings) -> str:
    if "dep" in settings.strategies:
        return _alone(settings)
    return _alone(settings) or _none(settings, "sends no tokens to experts", "sends tokens to experts")


def _dep_rows(settings: Settings) -> str:
    gathers = value(settings, "dep_form") == "all_gather"
    return _dep(settings) or ("an all-gather sends every token to all" if gathers else "")


def _meet(settings: Settings) -> str:
    if settings.strategies & MEETING:
        return _alone(settings)
    return _alone(settings) or _none(settings, "never meets", "ever meets")


def _micro(settings: Settings) -> str:  # one rank cuts its batches too
    if "pipeline" in settings.strategies:
        return ""
    return _none(settings, "leaves its batches whole", "cuts its batches")


def _local(settings: Settings) -> str:
    keeps = {"replicated": "all experts", "tensor": "a share of every expert", "pipeline": "its layers' experts"}
    if settings.strategies <= keeps.keys():
        return " and ".join(f"{name} keeps {keeps[name]}" for name in sorted(settings.strategies))
    return ""


def _link(settings: Settings) -> str:
    if settings.machine == "cuda":
        return "real links have their own speed"
    if settings.strategies == {"replicated"}:
        return "replicated moves nothing"
    return _alone(settings)


def _hardware(settings: Settings) -> str:
    return (
        ""
        if settings.machine == "sim"
        else "these ranks are real; profile and physics are of the simulation beside them"
    )


def _cv(settings: Settings) -> str:
    return "one rank cannot be uneven" if value(settings, "ranks") == 1 else ""


def _none(settings: Settings, one: str, of_two: str) -> str:
    """That the strategy shown does not do something (`one`), or that neither of two does (`of_two`)."""
    first, *second = (STRATEGY_NAMES.get(name, name) for name in sorted(settings.strategies))
    return f"neither {first} nor {second[0]} {of_two}" if second else f"{first} {one}"


_REASONS: dict[str, Callable[[Settings], str]] = {
    "overlap": _fetches,
    "slots": _fetches,
    "distance": _distance,
    "cross_step": _cross_step,
    "order": _order,
    "slice": _pulls,
    "view": _view,
    "pulled": _pulls,
    "dep_form": _dep,
    "dep_rows": _dep_rows,
    "meet": _meet,
    "calls": _pulls,
    "micro": _micro,
    "local": _local,
    "link": _link,
    "hardware": _hardware,
    "physics": _hardware,
    "cv": _cv,
}
