"""Where the knobs stand, and the scenario that follows. No widget, no torch.

A person's wish is kept as it is. What it means now, `value`, depends on the other knobs: a knob with fewer choices than
before takes the nearest, and goes back to the wish once it can. Ranks and the simulator differ by orders of magnitude,
so knobs of size (model, tokens, link) have one wish per machine.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import StrategyName

MachineName = Literal["sim", "cpu", "cuda"]

PER_MACHINE = ("model", "layers", "ranks", "tokens", "isl", "mnt", "divide", "slice", "link", "hardware")

SIMULATED_DEFAULTS: dict[str, Any] = {
    "model": "qwen3-30b-a3b",
    "layers": 6,
    "ranks": 4,
    "tokens": 16384,
    "isl": 2048,
    "mnt": 32768,
    "divide": 1,
    "slice": None,
    "link": None,
    "hardware": "h100",
}
CPU_DEFAULTS: dict[str, Any] = {
    "model": "tiny",
    "layers": 4,
    "ranks": 2,
    "tokens": 1024,
    "isl": 256,
    "mnt": 8192,
    "divide": 1,
    "slice": None,
    "link": 0.02,
    "hardware": "laptop",
}
CUDA_DEFAULTS: dict[str, Any] = SIMULATED_DEFAULTS | {"layers": 8, "ranks": 2}
DEFAULTS: dict[str, Any] = {
    "machine": "sim",
    "strategy": "dwdp",
    "workload": "cv",
    "cv": 0.2,
    "ratio": 0.8,
    "std": 0.0,
    "steps": 1,
    "prefix": 0.0,
    "file": "azure-2023-conv-64",
    "assign": "round_robin",
    "cache": True,
    "skew": 0.0,
    "seed": 0,
    "local": None,
    "overlap": True,
    "slots": 2,
    "distance": None,
    "cross_step": False,
    "order": "rotated",
    "view": "split",
    "pulled": "all",
    "dep_form": "auto",
    "dep_rows": "per_rank",
    "micro": 1,
    "meet": "auto",
    "calls": "auto",
    "physics": "bound",
}

COMMON_FIELDS = {
    "strategy": "strategy.name",
    "overlap": "strategy.overlap",
    "slots": "strategy.slots",
    "distance": "strategy.prefetch_distance",
    "cross_step": "strategy.cross_step",
    "slice": "strategy.slice_bytes",
    "order": "strategy.peer_order",
    "view": "strategy.weight_view",
    "pulled": "strategy.pull",
    "dep_form": "strategy.dep_form",
    "dep_rows": "strategy.dep_rows",
    "micro": "strategy.micro_batches",
    "meet": "strategy.collectives",
    "calls": "strategy.copy_calls",
    "ranks": "group.ranks",
    "local": "group.local_experts",
    "workload": "workload.kind",
    "skew": "workload.router_skew",
    "seed": "workload.seed",
    "link": "link_gbps",
    "hardware": "hardware",
    "model": "model",
    "layers": "model.layers",
}
WORKLOAD_FIELDS: dict[str, dict[str, str]] = {
    "cv": {"tokens": "tokens_per_rank", "cv": "cv", "isl": "isl_tokens", "steps": "steps", "prefix": "prefix_hit"},
    "isl": {
        "isl": "isl_tokens",
        "ratio": "isl_ratio",
        "std": "isl_std_tokens",
        "mnt": "mnt_tokens",
        "steps": "steps",
        "prefix": "prefix_hit",
    },
    "trace": {
        "file": "file",
        "divide": "divide_by",
        "mnt": "mnt_tokens",
        "assign": "assign",
        "cache": "prefix_cache",
    },
    "explicit": {"prefix": "prefix_hit"},
}
"""Knobs that belong to one kind of workload, with their fields."""
ON_GPUS = frozenset({"meet", "calls"})
"""Knobs of GPU ranks alone."""


@dataclass
class Settings:
    """The wishes of all knobs. `base` is the scenario the room was opened with: what no knob shows stays as there."""

    wishes: dict[str, Any] = field(default_factory=lambda: dict(DEFAULTS))
    sized: dict[str, dict[str, Any]] = field(
        default_factory=lambda: {
            "sim": dict(SIMULATED_DEFAULTS),
            "cpu": dict(CPU_DEFAULTS),
            "cuda": dict(CUDA_DEFAULTS),
        }
    )
    base: Scenario | None = None
    compared: StrategyName | None = None
    """The strategy shown beside this one: its knobs count too."""

    @classmethod
    def of(cls, scenario: Scenario | None, machine: MachineName = "sim") -> Settings:
        """The settings that give this scenario."""
        settings = cls()
        settings.wishes["machine"] = machine
        if scenario is not None:
            settings.take(scenario)
        return settings

    def take(self, scenario: Scenario) -> None:
        """Set every knob to what the scenario says, for the machine that is chosen."""
        self.base = scenario
        fields = scenario.to_dict()
        kind = scenario.workload.kind
        paths = COMMON_FIELDS | {name: f"workload.{field}" for name, field in WORKLOAD_FIELDS[kind].items()}
        for name, path in paths.items():
            value: Any = fields
            for part in path.split("."):
                value = value[part]
            self.set(name, scenario.model.name if name == "model" else value)
        self.set("link", scenario.link_gbps)  # JSON has no infinity

    @property
    def machine(self) -> MachineName:
        machine: MachineName = self.wishes["machine"]
        return machine

    @property
    def strategies(self) -> frozenset[str]:
        """The strategies that are shown."""
        return frozenset(filter(None, (self.wishes["strategy"], self.compared)))

    def _store(self, name: str) -> dict[str, Any]:
        return self.sized[self.machine] if name in PER_MACHINE else self.wishes

    def wish(self, name: str) -> Any:
        """What the person chose last, for this machine."""
        return self._store(name)[name]

    def set(self, name: str, value: Any) -> None:
        """Note a wish. Raises KeyError for a knob that does not exist."""
        store = self._store(name)
        if name not in store:
            raise KeyError(f"{name!r} is no knob; knobs are {', '.join((*DEFAULTS, *SIMULATED_DEFAULTS))}")
        store[name] = value


def knob_of(error: ScenarioError) -> str | None:
    """The knob at which an error is shown; None for a field without one."""
    for name, path in COMMON_FIELDS.items():
        if error.field == path:
            return name
    for fields in WORKLOAD_FIELDS.values():
        for name, last in fields.items():
            if error.field == f"workload.{last}":
                return name
    room = error.field.split(".")[0]
    return room if room in ("model", "hardware", "workload", "physics") else None
