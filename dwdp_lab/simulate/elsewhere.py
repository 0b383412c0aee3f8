"""What others measured on other machines (data/paper/elsewhere.json), predicted: nothing was fitted to it."""

from __future__ import annotations

from typing import Any

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.outcome import outcome
from dwdp_lab.simulate.paper_data import paper_data
from dwdp_lab.simulate.physics import Physics
from dwdp_lab.simulate.predict import physics_for

STEPS = 4


def measured_elsewhere() -> list[tuple[dict[str, Any], float]]:
    """The rows of the file, each with the simulator's tokens per GPU of DWDP over the fastest of the row's DEP forms.

    All effects where a profile says what the machine reaches, else the bound of its data sheet.
    """
    return [(row, _predicted(row)) for row in paper_data("elsewhere")["rows"]]


def physics_of(row: dict[str, Any]) -> Physics:
    """The effects that a row is predicted with."""
    return physics_for(load_hardware(row["hardware"]))


def _predicted(row: dict[str, Any]) -> float:
    hardware, physics = load_hardware(row["hardware"]), physics_of(row)

    def tokens_per_s(name: str, **knobs: Any) -> float:
        scenario = Scenario.create(
            model=row["model"],
            hardware=row["hardware"],
            group={"ranks": row["ranks"]},
            strategy={"name": name, **knobs},
            workload={"kind": "isl", "steps": STEPS, **row["workload"]},
        )
        return outcome(scenario, hardware, physics).metrics.tokens_per_s

    return tokens_per_s("dwdp", **row["strategy"]) / max(
        tokens_per_s("dep", dep_form=form) for form in row["dep_forms"]
    )
