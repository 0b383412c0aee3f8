"""Where, when and with what something was measured. No torch."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from dwdp_lab.measure.transfers.transfers import MachineName

VERSIONS = ("python", "torch", "triton", "cuda", "driver")


class Where(NamedTuple):
    """What a record of a measurement begins with. `notes` say what it may be worth less for."""

    machine: MachineName
    ranks: int
    device: str
    versions: dict[str, str]
    date: str
    command: str
    notes: tuple[str, ...]

    @property
    def words(self) -> str:
        """One line, without the command."""
        versions = ", ".join(f"{name} {version}" for name, version in self.versions.items())
        return f"{self.ranks} {self.machine} ranks on {self.device}, {versions}, {self.date[:10]}"


def where_measured(environment: Mapping[str, Any], machine: MachineName, ranks: int, command: str) -> Where:
    """From what a measured timeline says of its environment (execute/run_result.py)."""
    notes = []
    cores = environment["cpus_allowed"]
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if machine == "cpu" and ranks > cores:
        notes.append(f"crowded: {ranks} ranks on {cores} CPU cores")
    if machine == "cpu" and load > 2 * cores:
        notes.append(f"busy: load average {load:.1f} on {cores} CPU cores at the end")
    sharing = environment.get("ranks_per_gpu", 1) if machine == "cuda" else 1
    if sharing > 1:
        notes.append(f"crowded: {sharing} ranks share a GPU")
    versions = {name: str(environment[name]) for name in VERSIONS if environment.get(name)}
    gpus = min(ranks, environment.get("gpus", 1)) if machine == "cuda" else 1
    device = f"{gpus} x {environment['device']}" if gpus > 1 else str(environment["device"])
    return Where(machine, ranks, device, versions, str(environment["date"]), command, tuple(notes))
