"""Which effects the simulator takes into account: each a switch, so that one can see what it changes."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from dwdp_lab.scenario.errors import ScenarioError, nearest


@dataclass(frozen=True)
class Physics:
    """All off but `shared_links` is the bound that data sheets give; what the switches add needs a profile's `reached`.

    - `shared_links`: concurrent pulls share the egress of their source and the ingress of their reader.
    - `efficiency`: units reach the measured or fitted share of their peak, grouped GEMMs less with few rows per expert.
    - `activations`: kernels that are not fused into a product read and write their activations.
    - `latencies`: every copy, every collective and every piece of compute has a fixed cost beside its bytes and FLOPs.
    - `hbm_traffic`: transfers, in and out, take memory bandwidth from memory-bound work.
    - `power`: transfers beside heavy compute lower the clock of compute-bound work.
    - `collective_sms`: collectives take processors from compute beside them, which copy engines do not.
    - `lasting`: steps last: the GPU has been at full load for so long that its clock is what the power limit allows.
      Compute takes longer; with `power`, longer again beside transfers. It needs a profile's `reached.lasting`.
    """

    shared_links: bool = True
    efficiency: bool = False
    activations: bool = False
    latencies: bool = False
    hbm_traffic: bool = False
    power: bool = False
    collective_sms: bool = False
    lasting: bool = False

    @property
    def interference(self) -> bool:
        """Compute speed depends on what is copied or exchanged at the same time."""
        return self.hbm_traffic or self.power or self.collective_sms

    def __str__(self) -> str:
        """As `physics_named` reads it: the nearest of the names, and the switches that are other than there."""
        name, base = min(PHYSICS.items(), key=lambda named: len(_differing(self, named[1])))
        return ",".join([name, *(f"{switch}={_word(getattr(self, switch))}" for switch in _differing(self, base))])


BOUND = Physics()
"""What the data sheets allow."""

REALISTIC = Physics(
    efficiency=True, activations=True, latencies=True, hbm_traffic=True, power=True, collective_sms=True
)
"""All effects in steps short enough to find a GPU cool, some tens of milliseconds; for profiles that say what is
reached."""

LASTING = replace(REALISTIC, lasting=True)
"""All effects in steps that last; for profiles that say what is slower then."""

PHYSICS = {"bound": BOUND, "realistic": REALISTIC, "lasting": LASTING}
"""Those that have names."""

SWITCHES = tuple(switch.name for switch in fields(Physics))
FORM = f"{' or '.join(PHYSICS)}, and switches after it: {', '.join(SWITCHES)}, each =on or =off"


def physics_named(text: str) -> Physics:
    """Physics from `realistic`, `bound,latencies=on` or `lasting,power=off`.

    Raises ScenarioError (field `physics`) for anything else.
    """
    name, *switches = (part.strip() for part in text.split(","))
    if name not in PHYSICS:
        raise ScenarioError("physics", text, f"needs {FORM}", nearest(name, PHYSICS))
    changes: dict[str, bool] = {}
    for each in switches:
        switch, _, state = (part.strip() for part in each.partition("="))
        if switch not in SWITCHES or state not in ("on", "off"):
            raise ScenarioError("physics", text, f"needs {FORM}", nearest(switch, SWITCHES))
        changes[switch] = state == "on"
    return replace(PHYSICS[name], **changes)


def _differing(one: Physics, other: Physics) -> list[str]:
    return [switch for switch in SWITCHES if getattr(one, switch) != getattr(other, switch)]


def _word(on: bool) -> str:
    return "on" if on else "off"
