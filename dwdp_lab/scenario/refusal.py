"""From what pydantic says about bad input to the one error a person reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from dwdp_lab.scenario.allowed import allowed, bare, models_of, tag_of
from dwdp_lab.scenario.errors import MISSING, ScenarioError, nearest


def refusal(
    error: ValidationError,
    model: type[BaseModel],
    given: Mapping[str, Any],
    prefix: str = "",
    whole: str = "a scenario",
) -> ScenarioError:
    """The first of pydantic's errors about `given` as a ScenarioError; a validator's own comes as it is.

    A missing field is told only when nothing else is wrong: next to an unknown field it is the same mistake.
    `prefix` is where `model` sits in the scenario (`model` for a ModelShape read on its own), `whole` what `given` is.
    """
    first = min(error.errors(include_url=False), key=lambda each: each["type"] == "missing")
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, ScenarioError):
        return raised
    path, kind = _place(model, first["loc"])
    field = _dotted(prefix, path) or "scenario"
    value = _value(given, path, first["input"])
    if first["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return _unknown_kind(field, value, [str(tag_of(each)) for each in models_of(kind)])
    if first["type"] == "extra_forbidden":
        parents, home = _place(model, first["loc"][:-1])
        known = [name for each in models_of(home) for name in each.model_fields]
        where = _dotted(prefix, parents) or whole
        if models_of(home) and tag_of(models_of(home)[0]):
            where += f" of kind {tag_of(models_of(home)[0])}"
        says = f"no such field; the fields of {where} are {', '.join(known)}"
        deeper = _deeper(str(path[-1]), model) if len(path) == 1 else ""
        return ScenarioError(field, value, says, deeper or nearest(str(path[-1]), known))
    if first["type"] == "missing":
        return ScenarioError(field, MISSING, f"is missing; it must be {allowed(kind)}", "add it")
    return ScenarioError(field, value, str(raised) if raised else f"must be {allowed(kind)}")


def _deeper(name: str, model: type[BaseModel]) -> str:
    """`did you mean 'strategy.slots'?` for `slots`: a field that lies one level deeper."""
    for parent, info in model.model_fields.items():
        if any(name in inner.model_fields for inner in models_of(info.annotation)):
            return f"did you mean '{parent}.{name}'?"
    return ""


def _dotted(prefix: str, path: Sequence[object]) -> str:
    return ".".join(str(part) for part in (prefix, *path) if part != "")


def _value(given: Any, path: Sequence[int | str], seen: object) -> object:
    """What stands at `path` in the input as written; `seen` is what became of it before it was refused."""
    for part in path:
        try:
            given = given[part]
        except (KeyError, IndexError, TypeError):
            return seen
    return given


def _place(model: type[BaseModel], loc: tuple[int | str, ...]) -> tuple[list[int | str], Any]:
    """The path of `loc` without pydantic's union tags, and the type expected there (None for nothing)."""
    path: list[int | str] = []
    kind: Any = model
    for part in loc:
        models = models_of(kind)
        tagged = next((each for each in models if part == tag_of(each)), None) if len(models) > 1 else None
        if tagged is not None:
            kind = tagged
            continue
        path.append(part)
        if models:
            info = models[0].model_fields.get(str(part))
            kind = Annotated[(info.annotation, *info.metadata, None)] if info else None
        else:
            items = get_args(bare(kind)) if get_origin(bare(kind)) in (list, tuple) else ()
            kind = items[0] if items else None
    return path, kind


def _unknown_kind(field: str, value: object, kinds: list[str]) -> ScenarioError:
    must_be = f"must be one of {', '.join(kinds)}"
    if isinstance(value, Mapping) and "kind" in value:
        return ScenarioError(f"{field}.kind", value["kind"], must_be, nearest(str(value["kind"]), kinds))
    return ScenarioError(f"{field}.kind", MISSING, f"is missing; it {must_be}", "add it")
