"""Which effects the simulator takes into account: each a switch, so that one can see what it changes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Physics:
    """All off but `shared_links` is the bound that data sheets give; what the switches add needs a profile's `reached`.

    - `shared_links`: concurrent pulls share the egress of their source and the ingress of their reader.
    - `efficiency`: units reach the measured or fitted share of their peak, grouped GEMMs less with few rows per expert.
    - `activations`: kernels that are not fused into a product read and write their activations.
    - `latencies`: every copy and every collective has a fixed cost beside its bytes.
    - `hbm_traffic`: transfers, in and out, take memory bandwidth from memory-bound work.
    - `power`: transfers beside heavy compute lower the clock of compute-bound work.
    """

    shared_links: bool = True
    efficiency: bool = False
    activations: bool = False
    latencies: bool = False
    hbm_traffic: bool = False
    power: bool = False

    @property
    def interference(self) -> bool:
        """Compute speed depends on what is copied at the same time."""
        return self.hbm_traffic or self.power


BOUND = Physics()
"""What the data sheets allow."""

REALISTIC = Physics(efficiency=True, activations=True, latencies=True, hbm_traffic=True, power=True)
"""All effects; for profiles that say what is reached."""
