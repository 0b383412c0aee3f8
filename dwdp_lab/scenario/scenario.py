"""A scenario: everything that decides what runs. It is read from and written to YAML."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, field_validator

from dwdp_lab.scenario.allowed import NoneWord
from dwdp_lab.scenario.batches import Batches
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.group import Group
from dwdp_lab.scenario.model_config import read_model
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
    link_gbps: Annotated[Annotated[float, Field(gt=0)] | None, NoneWord] = None

    @field_validator("model", mode="before")
    @classmethod
    def _read_model(cls, value: Any) -> Any:
        return value if isinstance(value, ModelShape) else read_model(value)

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
        least = scenario.group.least_local_experts(scenario.model.experts)
        local = scenario.local_experts
        if not least <= local <= scenario.model.experts:
            raise ScenarioError(
                "group.local_experts",
                local,
                f"allowed are {least} to {scenario.model.experts} "
                f"(ceil(E / N) to E for {scenario.model.experts} experts on {scenario.group.ranks} ranks)",
            )
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
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ScenarioError("scenario", str(source), f"cannot be read as YAML: {error}") from None
    if not isinstance(fields, dict):
        raise ScenarioError(
            "scenario",
            fields,
            "needs a mapping of fields, such as `model: tiny`",
            "a file is given as a Path",
        )
    return fields


def set_field(fields: dict[str, Any], path: str, value: Any) -> None:
    """Set the dotted field `path` of nested fields; a model given by name becomes that name with changes."""
    *parents, last = path.split(".")
    for name in parents:
        inner = fields.get(name)
        if name == "model" and isinstance(inner, str):
            inner = {"preset": inner}
        fields[name] = inner = dict(inner) if isinstance(inner, Mapping) else {}
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
