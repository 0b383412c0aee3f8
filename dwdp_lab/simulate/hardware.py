"""Hardware profiles: what the simulator knows of a machine, each number with its source."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dwdp_lab.program.operation import Unit
from dwdp_lab.scenario.errors import ScenarioError, nearest
from dwdp_lab.scenario.precision import Precision
from dwdp_lab.scenario.refusal import refusal
from dwdp_lab.scenario.shipped import shipped

Positive = Annotated[float, Field(gt=0)]


class Number(BaseModel):
    """A value and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Positive
    source: Annotated[str, Field(min_length=3)]


class Reached(BaseModel):
    """What a machine reaches of its peaks, and how copies disturb compute: measured, or fitted to a publication.

    - `efficiency`: share of the peak rate (FLOPs or memory bandwidth) each unit reaches.
    - `half_rows`: rows per expert with which a grouped GEMM reaches half of its efficiency.
    - `link`, `collective`: share of the link's rate that copies and collectives reach.
    - `copy_us`, `collective_us`: fixed cost of each copy and of each collective.
    - `copy_slowdown`: how many times longer a unit takes beside a pull (see links.py for what is only read from).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    efficiency: dict[Unit, Number]
    half_rows: Number | None = None
    link: Number
    collective: Number
    copy_us: Number | None = None
    collective_us: Number | None = None
    copy_slowdown: dict[Unit, Number] = {}


class Hardware(BaseModel):
    """One GPU (or CPU) and its link. Rates are dense, one direction, in 1e12 FLOP/s and 1e9 bytes/s.

    `tflops` maps a precision to the peak of its unit; `link_gbps` is what one GPU can send, and receive, at once.
    `pair_gbps` is what goes from one GPU to another at most, where they are joined one to one and not by a switch.
    `provenance` is `limit` for data sheets, `calibrated` when `reached` was measured on such a machine, `fitted` when
    it was fitted to a publication or taken over from a machine of the same kind.
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
    reached: Reached | None = None


def load_hardware(name_or_path: str) -> Hardware:
    """A shipped profile (data/hardware/) by name, or one from a JSON file.

    Raises ScenarioError (field `hardware`) for an unknown name or a file that does not hold a profile.
    """
    known = shipped("hardware", ".json")
    path = known.get(name_or_path) or Path(os.path.expanduser(name_or_path))
    if not path.is_file():
        raise ScenarioError(
            "hardware",
            name_or_path,
            f"neither a profile ({', '.join(known)}) nor a file",
            nearest(name_or_path, known),
        )
    try:
        fields: Any = json.loads(path.read_text(encoding="utf-8"))
        return Hardware.model_validate(fields)
    except ValidationError as error:
        raise refusal(error, Hardware, fields) from None
    except ValueError as error:
        raise ScenarioError("hardware", name_or_path, f"is not JSON: {error}") from None
