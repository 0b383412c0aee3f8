"""What a machine reaches of its peaks, as hardware profiles have it: each number with its source."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from dwdp_lab.program.operation import Kind, Unit
from dwdp_lab.scenario.errors import ScenarioError

Positive = Annotated[float, Field(gt=0)]


class Number(BaseModel):
    """A value and where it comes from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    value: Positive
    source: Annotated[str, Field(min_length=3)]


class Exchange(BaseModel):
    """One kind of collective: the share of the link's rate that it reaches, and its fixed cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    share: Number
    fixed_us: Number


class Operation(BaseModel):
    """One kind of operation as a machine's ranks do it.

    - `fixed_us`: what it takes beside FLOPs and bytes: launches, and the host between them.
    - `activations`: share of the memory bandwidth that its kernels reach on activations, if these are counted once
      (program/work.py); kernels that go over them again reach less.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    fixed_us: Number | None = None
    activations: Number | None = None


class Lasting(BaseModel):
    """What full load that lasts costs: a GPU's average power comes to its limit, and its clock falls with it.

    - `compute`: how many times longer a kind of operation takes from then on. Kinds that are not named are taken to be
      as the least slowed of those that are, which is bound by memory rather than by the clock.
    - `copies`: how many times longer again compute takes while a pull runs beside it, as that draws power too.
    - `after_ms`: so long after full load began.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    compute: dict[Kind, Number]
    copies: Number | None = None
    after_ms: Number

    @model_validator(mode="after")
    def _nothing_is_faster(self) -> Lasting:
        factors = {f"compute.{kind}": number for kind, number in self.compute.items()}
        if self.copies is not None:
            factors["copies"] = self.copies
        for name, number in factors.items():
            if number.value < 1.0:
                raise ScenarioError(f"hardware.reached.lasting.{name}", number.value, "must be at least 1")
        return self

    def longer(self, kind: Kind | None) -> float:
        """How many times longer an operation of this kind takes."""
        named = self.compute.get(kind) if kind is not None else None
        return min((one.value for one in self.compute.values()), default=1.0) if named is None else named.value

    @property
    def longest(self) -> float:
        """The largest of the factors of `compute`."""
        return max((number.value for number in self.compute.values()), default=1.0)


class Reached(BaseModel):
    """What a machine reaches of its peaks, and how copies disturb compute: measured, or fitted to a publication.

    - `efficiency`: share of the peak rate (FLOPs or memory bandwidth) each unit reaches.
    - `half_rows`: rows per expert with which a grouped GEMM reaches half of its efficiency.
    - `operations`: what is known of single kinds of operations beside their units.
    - `link`, `collective`: share of the link's rate that copies and collectives reach.
    - `egress`: share of its link's rate that a source gives to several readers together, where that is more than the
      `link` that one reader takes.
    - `copy_us`, `collective_us`: fixed cost of each copy and of each collective.
    - `exchanges`: both for single kinds of collectives, where these are known apart.
    - `copy_slowdown`: how many times longer a unit takes beside a pull (see links.py for what is only read from).
    - `collective_sms`: share of the processors that a collective takes from compute beside it; a pull takes none.
    - `lasting`: what is slower in steps that last; all else is of steps short enough to find the GPU cool.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    efficiency: dict[Unit, Number]
    half_rows: Number | None = None
    operations: dict[Kind, Operation] = {}
    link: Number
    collective: Number
    egress: Number | None = None
    copy_us: Number | None = None
    collective_us: Number | None = None
    exchanges: dict[Kind, Exchange] = {}
    copy_slowdown: dict[Unit, Number] = {}
    collective_sms: Number | None = None
    lasting: Lasting | None = None

    @model_validator(mode="after")
    def _processors_are_left(self) -> Reached:
        if self.collective_sms is not None and self.collective_sms.value >= 1:
            raise ScenarioError("hardware.reached.collective_sms", self.collective_sms.value, "must be below 1")
        return self
