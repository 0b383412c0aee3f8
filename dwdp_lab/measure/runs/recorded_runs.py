"""Runs that are kept: scenarios, what was measured, where and when. The form of the runs in data/measured/. No torch.

A file is a JSON object: what `RunsFile` says. It is written while runs are being measured, after every single one, so
that an interrupt loses nothing; what is read from it later is `recorded`, never `measured`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dwdp_lab.measure.runs.figures import Figures
from dwdp_lab.measure.where import Where
from dwdp_lab.scenario.errors import ScenarioError, nearest
from dwdp_lab.scenario.refusal import refusal
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.simulate.hardware import Hardware

Form = Literal["dwdp-lab runs 1"]
FORM: Form = "dwdp-lab runs 1"
MachineRun = Literal["sim", "cpu", "cuda"]


class Run(BaseModel):
    """One scenario under one strategy, with its repeats in the order they ran in.

    `outputs` are the SHA-256 of what ranks computed, all ranks' in one; more than one where repeats differ.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    scenario: dict[str, Any]
    repeats: Annotated[list[Figures], Field(min_length=1)]
    notes: list[str] = []
    outputs: list[str] = []

    @property
    def read_scenario(self) -> Scenario:
        """The scenario. Raises ScenarioError when it is none that this version can use."""
        return Scenario.create(self.scenario)

    @property
    def figures(self) -> Figures:
        """The median of each number over the repeats."""
        return Figures.middle(self.repeats)

    @property
    def cell(self) -> str:
        """What the scenario is but for its strategy and the experts that a rank keeps, as text that is the same for the
        same scenario."""
        fields = {name: value for name, value in self.scenario.items() if name != "strategy"}
        ranks = {name: value for name, value in fields["group"].items() if name != "local_experts"}
        return json.dumps(fields | {"group": ranks}, sort_keys=True)


class Row(BaseModel):
    """One run's medians for who only wants these: its tokens per second over those of the best DEP of its cell, and
    its times over those of `replicated` there, of the step and of each kind of operation that does the same work in
    both; and whether all its repeats computed the very bits that `replicated` did."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    strategy: str
    tokens: int | None = None
    cv: float | None = None
    link_gbps: float | str | None = None
    step_ms: float
    tokens_per_s: float
    over_best_dep: float | None = None
    best_dep: str | None = None
    exposed_copy_pct: float | None = None
    step_over_replicated: float | None = None
    kinds_over_replicated: dict[str, float] = {}
    same_bits: bool | None = None


class RunsFile(BaseModel):
    """Runs of one sitting. `hardware` is the profile that was calibrated on the machine, to predict the runs with.

    `summary` follows from the runs, a row each.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Form = FORM
    title: str
    provenance: Literal["measured", "simulated"]
    machine: MachineRun
    ranks: Annotated[int, Field(ge=1)]
    device: str
    versions: dict[str, str]
    date: str
    command: str
    seed: int = 0
    notes: list[str] = []
    hardware: Hardware | None = None
    runs: list[Run] = []
    summary: list[Row] = []

    @property
    def shown_provenance(self) -> str:
        """How a number that is read from the file is to be called."""
        return f"recorded {self.date[:10]} on {self.device} ({self.provenance} when it ran)"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        plain: dict[str, Any] = self.model_dump(mode="json", exclude_none=True)
        return plain


def new_file(title: str, where: Where, seed: int, hardware: Hardware | None) -> RunsFile:
    """A file of a sitting that begins."""
    return RunsFile(
        title=title,
        provenance="measured",
        machine=where.machine,
        ranks=where.ranks,
        device=where.device,
        versions=where.versions,
        date=where.date,
        command=where.command,
        seed=seed,
        notes=list(where.notes),
        hardware=hardware,
    )


def write_runs(path: Path, file: RunsFile) -> None:
    """Write the file whole or not at all: readers and an interrupt never see half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_text(json.dumps(file.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def kept_runs() -> dict[str, Path]:
    """The files of data/measured/ that hold runs, by name; that folder keeps other records too."""
    return {name: path for name, path in shipped("measured", ".json").items() if _form_of(path) == FORM}


def _form_of(path: Path) -> object:
    fields = json.loads(path.read_text(encoding="utf-8"))
    return fields.get("format") if isinstance(fields, Mapping) else None


def read_runs(name_or_path: str) -> RunsFile:
    """Runs from data/measured/ by name, or from a file.

    Raises ScenarioError, which names the field, for what is no such file or does not hold runs.
    """
    known = kept_runs()
    path = known.get(name_or_path) or Path(os.path.expanduser(name_or_path))
    if not path.is_file():
        names = ", ".join(known) or "none so far"
        raise ScenarioError("runs", name_or_path, f"neither a file nor kept runs ({names})", nearest(str(path), known))
    try:
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ScenarioError("runs", name_or_path, f"is not JSON: {error}") from None
    if not isinstance(fields, Mapping) or fields.get("format") != FORM:
        form = fields.get("format") if isinstance(fields, Mapping) else None
        raise ScenarioError(f"{path.name}: format", form, f"this version reads {FORM!r}")
    try:
        file = RunsFile.model_validate(fields)
    except ValidationError as error:
        raise refusal(error, RunsFile, fields, prefix=f"{path.name}: runs file") from None
    for number, run in enumerate(file.runs):
        try:
            _ = run.read_scenario
        except ScenarioError as error:
            raise ScenarioError(
                f"{path.name}: runs.{number}.scenario.{error.field}", error.value, error.allowed, error.hint
            ) from None
    return file
