"""Hardware profiles: what the simulator knows of a machine, each number with its source."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from dwdp_lab.scenario.errors import MISSING, ScenarioError, nearest
from dwdp_lab.scenario.precision import Precision
from dwdp_lab.scenario.refusal import refusal
from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.simulate.reached import Number, Reached


class Calibration(BaseModel):
    """Where and when a profile was measured, and by which command."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    device: str
    versions: dict[str, str]
    date: str
    command: str
    notes: tuple[str, ...] = ()


class Hardware(BaseModel):
    """One GPU (or CPU) and its link. Rates are dense, one direction, in 1e12 FLOP/s and 1e9 bytes/s.

    `tflops` maps a precision to the peak of its unit; `link_gbps` is what one GPU can send, and receive, at once.
    `pair_gbps` is what goes from one GPU to another at most, where they are joined one to one and not by a switch.
    Groups of more than `gpus_per_node` ranks fill one node (or rack) after another; `inter_node_gbps` is what one GPU
    can send to, and receive from, other nodes. Without these two a group is on one node, however large.
    `provenance` is `limit` for data sheets, `calibrated` when `reached` was measured on such a machine, `fitted` when
    it was fitted to a publication or taken over from a machine of the same kind; `calibration` says more of the former.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    provenance: Literal["limit", "calibrated", "fitted"] = "limit"
    tflops: dict[Precision, Number]
    hbm_gbps: Number
    memory_gb: Number
    link_gbps: Number
    pair_gbps: Number | None = None
    gpus_per_node: Number | None = None
    inter_node_gbps: Number | None = None
    reached: Reached | None = None
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _nodes_are_whole(self) -> Hardware:
        if (self.gpus_per_node is None) != (self.inter_node_gbps is None):
            missing = "gpus_per_node" if self.gpus_per_node is None else "inter_node_gbps"
            raise ScenarioError(f"hardware.{missing}", MISSING, "goes with the other of the two", "add it, or neither")
        if self.gpus_per_node is not None and self.gpus_per_node.value % 1:
            raise ScenarioError("hardware.gpus_per_node", self.gpus_per_node.value, "must be a whole number from 1 up")
        return self

    def nodes(self, ranks: int) -> int:
        """How many nodes (or racks) so many ranks take."""
        return 1 if self.gpus_per_node is None else -int(-ranks // self.gpus_per_node.value)


def profile_for(device: str) -> str | None:
    """The shipped profile of a GPU: its name is a word of the device's, as `h200` of `NVIDIA H200`; None without."""
    words = re.findall("[a-z0-9]+", device.lower())  # whole words: a GB200 is no B200, and a GH200 has an H100
    # "Laptop GPU" ends the name of many a GPU, and that profile is of a CPU's core
    return next((name for name in shipped("hardware", ".json") if name in words and name != "laptop"), None)


def load_hardware(name_or_path: str) -> Hardware:
    """A shipped profile (data/hardware/) by name, or one from a JSON file: a profile, or what `calibrate --json` wrote.

    Raises ScenarioError (field `hardware`) for an unknown name or a file that does not hold a profile.
    """
    known = shipped("hardware", ".json")
    path = known.get(name_or_path) or Path(os.path.expanduser(name_or_path))
    if not path.is_file():
        raise ScenarioError(
            "hardware",
            name_or_path,
            f"neither a profile ({', '.join(known)}) nor a file",
            nearest(name_or_path.lower(), known) or "`dwdp-lab calibrate` makes one of a machine",
        )
    try:
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ScenarioError("hardware", name_or_path, f"is not JSON: {error}") from None
    if not isinstance(fields, dict):
        raise ScenarioError("hardware", name_or_path, "needs a JSON object", "begin with a file of data/hardware/")
    if isinstance(fields.get("profile"), dict):
        fields = fields["profile"]
    try:
        return Hardware.model_validate(fields)
    except ValidationError as error:
        raise refusal(error, Hardware, fields, whole="a hardware profile") from None
