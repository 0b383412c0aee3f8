"""A scenario: everything that decides what runs. It is read from and written to YAML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator, model_validator

from dwdp_lab.scenario.allowed import NoneWord
from dwdp_lab.scenario.batches import Batches
from dwdp_lab.scenario.errors import ScenarioError, nearest
from dwdp_lab.scenario.group import Group
from dwdp_lab.scenario.model_config import is_hugging_face, read_model
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.refusal import refusal
from dwdp_lab.scenario.strategy import Strategy, StrategyName
from dwdp_lab.scenario.workload import CvWorkload, Workload


class Scenario(BaseModel):
    """Model, group, strategy and workload, and what the simulator and paced CPU ranks take for the machine.

    `hardware` names a profile of the simulator. `link_gbps` (1e9 bytes/s) replaces the profile's link speed
    and paces the copies of CPU ranks; None leaves the profile's speed and CPU copies as fast as they are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: ModelShape
    group: Group = Group()
    strategy: Strategy = Strategy()
    workload: Workload = CvWorkload()
    hardware: str = "h100"
    link_gbps: Annotated[Annotated[float, Field(ge=1e-6)] | None, NoneWord] = None

    @field_validator("model", mode="before")
    @classmethod
    def _read_model(cls, value: Any) -> Any:
        return value if isinstance(value, ModelShape) else read_model(value)

    @model_validator(mode="after")
    def _every_expert_has_an_owner(self) -> Self:
        experts, ranks = self.model.experts, self.group.ranks
        least = self.group.least_local_experts(experts)
        if not least <= self.local_experts <= experts:
            raise ScenarioError(
                "group.local_experts",
                self.local_experts,
                f"allowed are {least} to {experts} (ceil(E / N) to E for {experts} experts on {ranks} ranks)",
            )
        return self

    @field_serializer("link_gbps", when_used="json")
    def _json_has_no_infinity(self, value: float | None) -> float | str | None:
        return "inf" if value is not None and math.isinf(value) else value

    @classmethod
    def create(cls, fields: Mapping[str, Any] | None = None, **more: Any) -> Self:
        """A scenario from plain fields, `tiny` on two ranks where nothing is said.

        >>> Scenario.create(model="tiny", group={"ranks": 3}).local_experts
        3

        Raises ScenarioError for the first field that cannot be used.
        """
        given: dict[str, Any] = {"model": "tiny", **(fields or {}), **more}
        workload = given.get("workload")
        if isinstance(workload, Mapping) and "kind" not in workload:
            given["workload"] = {"kind": "cv", **workload}
        try:
            scenario = cls.model_validate(given)
        except ValidationError as error:
            raise refusal(error, cls, given) from None
        if scenario.workload.kind == "explicit":
            _ = scenario.batches  # its lists must match the group
        return scenario

    @classmethod
    def from_yaml(cls, source: str | Path) -> Self:
        """A scenario from a YAML file (a Path) or from YAML text (a str)."""
        return cls.create(read_yaml(source))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, the model spelled out; `Scenario.create` of it gives an equal scenario."""
        plain: dict[str, Any] = self.model_dump(mode="json")
        return plain

    def to_yaml(self) -> str:
        return yaml.safe_dump(self.to_dict(), sort_keys=False)

    def replace(self, **changes: Any) -> Self:
        """A copy with dotted fields changed and everything checked again.

        >>> Scenario.create().replace(**{"strategy.slots": 3}).strategy.slots
        3
        """
        fields = self.to_dict()
        for path, value in changes.items():
            set_field(fields, path, value)
        return self.create(fields)

    def with_strategy(self, name: StrategyName) -> Self:
        """The same scenario under another strategy; the batches are shared, not made again."""
        if name not in get_args(StrategyName):
            names = get_args(StrategyName)
            raise ScenarioError("strategy.name", name, f"must be one of {', '.join(names)}", nearest(name, names))
        if name == self.strategy.name:
            return self
        return self.model_copy(update={"strategy": self.strategy.model_copy(update={"name": name})})

    @property
    def ranks(self) -> int:
        """N, the ranks of the group."""
        return self.group.ranks

    @property
    def local_experts(self) -> int:
        """L, the experts of a layer each rank keeps for good."""
        return self.group.resolved_local_experts(self.model.experts)

    @cached_property
    def batches(self) -> Batches:
        """What each rank computes in each step. Raises ScenarioError when the workload's file is no use."""
        return self.workload.batches(self.ranks)


def read_yaml(source: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file (a Path) or text (a str). Raises ScenarioError (field `scenario`)."""
    try:
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        fields = yaml.safe_load(text)
    except OSError as error:
        raise ScenarioError("scenario", str(source), f"cannot be read: {error.strerror}") from None
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ScenarioError(
            "scenario", str(source), f"cannot be read as YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(fields, dict):
        needs = "needs a mapping of fields, such as `model: tiny`"
        if isinstance(source, Path):
            raise ScenarioError("scenario", str(source), f"{needs}; what it holds is {fields!r:.40}")
        raise ScenarioError("scenario", fields, needs, "a file is given as a Path")
    return fields


def set_field(fields: dict[str, Any], path: str, value: Any) -> None:
    """Set the dotted field `path` of nested fields; a model given by name or config becomes that with changes.

    Raises ScenarioError when something on the way is no mapping.
    """
    *parents, last = path.split(".")
    for place, name in enumerate(parents):
        inner = fields.get(name)
        if name == "model" and (isinstance(inner, str) or (isinstance(inner, Mapping) and is_hugging_face(inner))):
            inner = {"config": inner}
        if inner is not None and not isinstance(inner, Mapping):
            raise ScenarioError(".".join(parents[: place + 1]), inner, f"has no fields, so {path} cannot be set")
        fields[name] = inner = dict(inner or {})
        fields = inner
    fields[last] = value


def field_paths(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields, for messages and for the command line's help."""
    for name, info in model.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from field_paths(kind, f"{prefix}{name}.")
        else:
            yield prefix + name
