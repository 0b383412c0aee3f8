"""What each knob offers, given where the others stand, and what its wish comes to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, NamedTuple, get_args

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.model_config import read_model
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.scenario.strategy import Collectives, CopyCalls, DepForm, DepRows, PeerOrder, WeightView
from dwdp_lab.scenario.workload import MAX_CV
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.physics import REALISTIC, SWITCHES
from dwdp_lab.view.control.settings import Settings


class Choice(NamedTuple):
    """A value and how it is written, unit included."""

    label: str
    value: Any


Offer = Callable[[Settings], list[Choice]]

STRATEGY_WORDS: dict[str, str] = {
    "dwdp": "DWDP: weights move",
    "dep": "DEP: tokens move",
    "weight_gather": "weight gather: collective",
    "replicated": "replicated: ideal",
    "tensor": "tensor: layers cut across",
    "pipeline": "pipeline: layers dealt out",
}
MOST_ON_RANKS = 8
LINKS_GBPS = (25, 50, 100, 200, 300, 450, 600, 900, 1800, math.inf)
PACES_GBPS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
SIZES = {
    None: "whole share",
    16 << 10: "16 KiB",
    64 << 10: "64 KiB",
    256 << 10: "256 KiB",
    1 << 20: "1 MiB",
    2 << 20: "2 MiB",
    4 << 20: "4 MiB",
    8 << 20: "8 MiB",
}


_NEAREST = {"lasting": "realistic"}
"""What stands for a word where it is not offered, if not the first that is."""


def choices(settings: Settings, name: str) -> tuple[Choice, ...]:
    """What a knob offers now; empty for one that takes any text."""
    make = _OFFERS.get(name)
    return tuple(make(settings)) if make is not None else ()


def value(settings: Settings, name: str) -> Any:
    """What a knob's wish comes to: itself where that is offered, else the nearest that is."""
    wish = settings.wish(name)
    offered = [choice.value for choice in choices(settings, name)]
    if not offered or wish in offered:
        return wish
    numbers = [other for other in offered if _is_number(other)]
    if not numbers or not _is_number(wish) or (None in offered and wish < min(numbers)):
        return _NEAREST.get(wish, offered[0])
    return min(numbers, key=lambda other: abs(other - wish))


def shape(settings: Settings) -> ModelShape:
    """The chosen model with all its layers."""
    name = value(settings, "model")
    base = settings.base
    if base is not None and base.model.name == name and name not in _shipped("models"):
        return base.model
    return _preset(name)


@lru_cache(maxsize=16)
def _preset(name: str) -> ModelShape:
    return read_model(name)


@lru_cache(maxsize=4)
def _shipped(folder: str) -> tuple[str, ...]:
    return tuple(shipped(folder, ".json"))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numbers(name: str, values: Iterable[float], unit: str = "", digits: int | None = None) -> Offer:
    """Numbers with their unit, and the wish."""
    known = sorted(values)
    written = f",.{digits}f" if digits is not None else ",.10g"

    def offer(settings: Settings) -> list[Choice]:
        return [Choice(f"{each:{written}}{unit}", each) for each in sorted({*known, settings.wish(name)})]

    return offer


def _steps_of(step: float, stop: float) -> list[float]:
    return [round(i * step, 6) for i in range(round(stop / step) + 1)]


def _words(literal: Any) -> Offer:
    return lambda _: [Choice(str(word).replace("_", " "), word) for word in get_args(literal)]


def _models(settings: Settings) -> list[Choice]:
    own = [settings.base.model.name] if settings.base is not None else []
    names: Iterable[str] = ["tiny"] if settings.machine == "cpu" else _shipped("models")
    return [Choice(name, name) for name in dict.fromkeys([*own, *names])]


def _layers(settings: Settings) -> list[Choice]:
    model = shape(settings)
    return [Choice(f"{n} of {model.layers}", n) for n in range(model.layers_with_experts[0] + 1, model.layers + 1)]


def _ranks(settings: Settings) -> list[Choice]:
    most = 128 if settings.machine == "sim" else MOST_ON_RANKS
    known = {1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 48, 64, 72, settings.wish("ranks")}
    return [Choice(str(n), n) for n in sorted(known) if n <= most]


def _local(settings: Settings) -> list[Choice]:
    experts, ranks = shape(settings).experts, value(settings, "ranks")
    least = -(-experts // ranks)
    return [
        Choice(f"{least} (fewest)", None),
        *[Choice(f"{n} of {experts}", n) for n in range(least + 1, experts + 1)],
    ]


def _workloads(settings: Settings) -> list[Choice]:
    offered = [
        Choice("given CV", "cv"),
        Choice("ISL ratio or spread", "isl"),
        Choice("real trace", "trace"),
    ]
    if settings.base is not None and settings.base.workload.kind == "explicit":
        offered.append(Choice("the given lists", "explicit"))
    return offered


def _slices(settings: Settings) -> list[Choice]:
    wish = settings.wish("slice")
    sizes = SIZES if wish in SIZES else {**SIZES, wish: f"{wish:,} B"}
    return [Choice(label, size) for size, label in sizes.items()]


def _links(settings: Settings) -> list[Choice]:
    if settings.machine == "cuda":
        return [Choice("the real one", None)]
    wish = settings.wish("link")
    known = {*(LINKS_GBPS if settings.machine == "sim" else PACES_GBPS), *([wish] if wish is not None else [])}
    free = "profile's" if settings.machine == "sim" else "not paced"
    words = {each: "no limit" if math.isinf(each) else f"{each:,g} GB/s" for each in sorted(known)}
    return [Choice(free, None), *[Choice(label, each) for each, label in words.items()]]


def _distances(settings: Settings) -> list[Choice]:
    slots = value(settings, "slots")
    return [Choice("as slots allow", None), *[Choice(f"{d} MoE layer" + "s" * (d > 1), d) for d in range(1, slots + 1)]]


_TOKENS = [2**n for n in range(7, 18)] + [3 * 2**n for n in range(8, 16)]


def _physics(settings: Settings) -> list[Choice]:
    known = {"bound": "the limit: data sheet", "realistic": "all effects"}
    if _tells_of_lasting(value(settings, "hardware")):
        known["lasting"] = "all effects, steps that last"
    counted = [switch for switch in SWITCHES if getattr(REALISTIC, switch)]
    without = {f"realistic,{switch}=off": f"all but {switch.replace('_', ' ')}" for switch in counted}
    return [Choice(words, name) for name, words in (known | without).items()]


def _tells_of_lasting(profile: str) -> bool:
    try:
        reached = load_hardware(profile).reached
    except ScenarioError:  # said where it is simulated
        return False
    return reached is not None and reached.lasting is not None


_OFFERS: dict[str, Offer] = {
    "strategy": lambda _: [Choice(words, name) for name, words in STRATEGY_WORDS.items()],
    "model": _models,
    "layers": _layers,
    "ranks": _ranks,
    "local": _local,
    "workload": _workloads,
    "tokens": _numbers("tokens", _TOKENS),
    "cv": _numbers("cv", _steps_of(0.01, MAX_CV), digits=2),
    "ratio": _numbers("ratio", _steps_of(0.05, 1.0)[1:], digits=2),
    "std": _numbers("std", [0, *[2**n for n in range(4, 15)]], " tok"),
    "isl": _numbers("isl", [2**n for n in range(5, 18)], " tok"),
    "mnt": _numbers("mnt", _TOKENS, " tok"),
    "divide": _numbers("divide", [1, 2, 4, 8, 16, 32, 64]),
    "steps": _numbers("steps", [1, 2, 3, 4, 6, 8]),
    "prefix": _numbers("prefix", _steps_of(0.05, 0.95), digits=2),
    "assign": lambda _: [Choice("in turn", "round_robin"), Choice("to the least loaded", "least_loaded")],
    "skew": _numbers("skew", _steps_of(0.05, 2.0), digits=2),
    "seed": _numbers("seed", range(10)),
    "physics": _physics,
    "pulled": lambda _: [Choice("all experts", "all"), Choice("only routed ones", "routed")],
    "slots": _numbers("slots", [1, 2, 3]),
    "distance": _distances,
    "slice": _slices,
    "order": _words(PeerOrder),
    "view": _words(WeightView),
    "dep_form": _words(DepForm),
    "dep_rows": _words(DepRows),
    "meet": lambda _: [
        Choice({"copy": "by copies", "nccl": "over NCCL"}.get(how, how), how) for how in get_args(Collectives)
    ],
    "calls": _words(CopyCalls),
    "micro": _numbers("micro", [1, 2, 3, 4, 6, 8, 16, 32, 64]),
    "link": _links,
    "hardware": lambda settings: [
        Choice(name, name) for name in dict.fromkeys([settings.wish("hardware"), *_shipped("hardware")])
    ],
}
