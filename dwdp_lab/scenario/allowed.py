"""What a field accepts, in the words of its error message; and the short forms people write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Says(NamedTuple):
    """Put in a field's Annotated: its own words for what it accepts, where the type's would not do."""

    words: str


def _no_value(value: object) -> object:
    return None if isinstance(value, str) and value.strip().lower() in ("none", "null", "") else value


def _size(value: object) -> object:
    """`"2MiB"` to 2097152; what is no size stays, for pydantic to refuse."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*", value) if isinstance(value, str) else None
    if match is None or match[2].upper() not in _UNITS:
        return value
    return float(match[1]) * _UNITS[match[2].upper()]  # pydantic turns a whole float into an int


NoneWord = BeforeValidator(_no_value)
"""Lets `none` (as typed after --set) stand for None."""

SizeWord = BeforeValidator(_size)
"""Lets sizes be written with a unit."""


def bare(kind: Any) -> Any:
    """The type without Annotated and without an optional None."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        rest = [each for each in get_args(kind) if each is not NoneType]
        return bare(rest[0]) if len(rest) == 1 else kind
    return kind


def models_of(kind: Any) -> list[type[BaseModel]]:
    """The pydantic models that a type stands for: one, the members of a union, or none."""
    kind = bare(kind)
    members = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    return [each for each in map(bare, members) if isinstance(each, type) and issubclass(each, BaseModel)]


def tag_of(model: type[BaseModel]) -> str | None:
    """The value of a model's `kind`, by which a union of models tells its members apart."""
    kind = model.model_fields.get("kind")
    return str(get_args(kind.annotation)[0]) if kind is not None else None


def allowed(kind: Any) -> str:
    """`a whole number from 1 to 3, or none` for `Annotated[int, Field(ge=1, le=3)] | None`."""
    limits = list(_limits(kind))
    own = next((limit.words for limit in limits if isinstance(limit, Says)), None)
    return (own or _type_words(bare(kind), limits)) + (", or none" if _takes_none(kind) else "")


def _type_words(kind: Any, limits: list[object]) -> str:
    origin = get_origin(kind)
    if origin is Literal:
        choices = [str(choice) for choice in get_args(kind)]
        return choices[0] if len(choices) == 1 else f"one of {', '.join(choices)}"
    if origin in (list, tuple):
        least = next((limit.min_length for limit in limits if isinstance(limit, MinLen)), 0)
        return f"a list of {'at least ' + str(least) + ' of ' if least else ''}[{allowed(get_args(kind)[0])}]"
    models = models_of(kind)
    if len(models) > 1:
        return f"a mapping whose kind is one of {', '.join(str(tag_of(model)) for model in models)}"
    if models:
        return f"a mapping of the fields {', '.join(models[0].model_fields)}"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
    return words.get(kind, "another value") + _range(kind, limits)


def _range(kind: Any, limits: list[object]) -> str:
    low = high = ""
    for limit in limits:
        if isinstance(limit, Gt):
            low = " from 1" if kind is int and limit.gt == 0 else f" above {limit.gt}"
        elif isinstance(limit, Ge):
            low = f" from {limit.ge}"
        elif isinstance(limit, Lt):
            high = f" to below {limit.lt}"
        elif isinstance(limit, Le):
            high = f" to {limit.le}"
    return low + (high or " up" * (low.startswith(" from")))


def _limits(kind: Any) -> Iterator[object]:
    """Metadata of an Annotated type, of those inside it and of the fields it is made with."""
    if get_origin(kind) is Annotated:
        inner, *metadata = get_args(kind)
        for item in metadata:
            yield from item.metadata if isinstance(item, FieldInfo) else (item,)
        yield from _limits(inner)
    elif get_origin(kind) in (Union, UnionType):
        for member in get_args(kind):
            yield from _limits(member)


def _takes_none(kind: Any) -> bool:
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    return get_origin(kind) in (Union, UnionType) and NoneType in get_args(kind)
