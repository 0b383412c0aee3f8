"""A grid of runs: tokens per rank, imbalance, and strategies with their knobs. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import yaml

from dwdp_lab.program.build import STRATEGIES
from dwdp_lab.scenario.errors import ScenarioError, nearest
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import Strategy

FORM = "a strategy, and its knobs after colons, such as dep or dwdp:weight_view=merged:slice_bytes=1MiB"
PATHS: dict[str, str] = {field: f"strategy.{field}" for field in Strategy.model_fields if field != "name"} | {
    "local_experts": "group.local_experts"
}
"""Of what a variant may set, also how many experts a rank keeps: what it keeps beyond its share it need not pull."""
USUAL: dict[str, object] = Strategy().model_dump(mode="json")


class Variant(NamedTuple):
    """A strategy with some of its knobs set."""

    label: str
    knobs: dict[str, object]


def read_variants(text: str) -> tuple[Variant, ...]:
    """Variants from `dep,dwdp,dwdp:weight_view=merged`. Raises ScenarioError for anything else."""
    return tuple(_variant(part.strip()) for part in text.split(","))


def _variant(text: str) -> Variant:
    name, *knobs = text.split(":")
    if name not in STRATEGIES:
        raise ScenarioError("--strategies", text, f"needs {FORM}", nearest(name, STRATEGIES))
    changes: dict[str, object] = {"strategy.name": name}
    for knob in knobs:
        field, equals, value = (part.strip() for part in knob.partition("="))
        if not equals or field not in PATHS:
            raise ScenarioError("--strategies", text, f"needs {FORM}", nearest(field, PATHS))
        try:
            changes[PATHS[field]] = yaml.safe_load(value)
        except yaml.YAMLError:
            raise ScenarioError("--strategies", text, f"has no value of {field} that can be read: {value}") from None
    return Variant(text, changes)


def scenarios_of(
    base: Scenario,
    tokens: Sequence[int],
    cvs: Sequence[float],
    variants: Sequence[Variant],
    links: Sequence[float | None] = (None,),
) -> list[Scenario]:
    """One scenario per cell and variant; DEP in both of its forms where a variant does not name one.

    The base's workload must be of kind `cv`, whose tokens and CV the grid sets; `links` are values of `link_gbps`.
    Raises ScenarioError for what cannot be used, before anything is run.
    """
    if base.workload.kind != "cv":
        allowed = "the grid sets tokens per rank and CV, so it needs kind cv"
        raise ScenarioError("workload.kind", base.workload.kind, allowed, "leave workload out, or set its other fields")
    found = []
    for count, cv, link in product(tokens, cvs, links):
        changes: dict[str, object] = {
            "workload.tokens_per_rank": count,
            "workload.isl_tokens": min(base.workload.isl_tokens, count),
            "workload.cv": cv,
            "link_gbps": link,
        }
        cell = base.replace(**changes)
        for variant in variants:
            found += _forms(cell.replace(**variant.knobs), variant)
    return found


def _forms(scenario: Scenario, variant: Variant) -> list[Scenario]:
    if scenario.strategy.name != "dep" or "strategy.dep_form" in variant.knobs:
        return [scenario]
    return [scenario.replace(**{"strategy.dep_form": form}) for form in ("all_to_all", "all_gather")]


def label_of(scenario: Scenario) -> str:
    """The strategy and the knobs that are other than by default, as `read_variants` reads them."""
    return label_of_fields(scenario.model_dump(mode="json"))


def label_of_fields(scenario: Mapping[str, Any]) -> str:
    """The same of a scenario's plain fields."""
    knobs = scenario["strategy"] | {"local_experts": scenario["group"].get("local_experts")}
    usual = USUAL | {"local_experts": None}
    differing = [f"{field}={knobs[field]}" for field in PATHS if knobs.get(field, usual[field]) != usual[field]]
    return ":".join([knobs["name"], *differing])
