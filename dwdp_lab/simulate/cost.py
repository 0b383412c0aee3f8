"""Durations: max(FLOPs / rate, bytes / bandwidth) for each piece of work, bytes / bandwidth for what is sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dwdp_lab.program.operation import Collective, Work
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.simulate.hardware import Hardware


@dataclass(frozen=True)
class CostModel:
    """Costs on one kind of GPU. Times in microseconds, link rates in bytes per microsecond."""

    hardware: Hardware
    link_gbps: float
    collective_gbps: float
    _known: dict[int, tuple[tuple[Work, ...], float]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, hardware: Hardware, link_gbps: float | None = None) -> CostModel:
        """The profile's costs, with another link speed (1e9 bytes/s) where one is given."""
        if link_gbps is not None:
            return cls(hardware, link_gbps, link_gbps)
        collective = hardware.collective_gbps or hardware.link_gbps
        return cls(hardware, hardware.link_gbps.value, collective.value)

    @property
    def link_bytes_per_us(self) -> float:
        return self.link_gbps * 1e3

    def work_us(self, work: tuple[Work, ...]) -> float:
        """Sum over the pieces of max(FLOPs / rate, bytes / bandwidth) (arXiv 2604.01621, section 3)."""
        known = self._known.get(id(work))
        if known is None or known[0] is not work:  # layers share their work: look each one up once
            known = (work, sum(self._piece_us(piece) for piece in work))
            self._known[id(work)] = known
        return known[1]

    def _piece_us(self, piece: Work) -> float:
        memory_us = piece.hbm_bytes / (self.hardware.hbm_gbps.value * 1e3)
        if not piece.flops:
            return memory_us
        peak = self.hardware.tflops.get(piece.dtype)
        if peak is None:
            raise ScenarioError(
                "hardware",
                self.hardware.name,
                f"has no rate for {piece.dtype}; it knows {', '.join(self.hardware.tflops)}",
                "take a model in one of these precisions or another profile",
            )
        return float(max(piece.flops / (peak.value * 1e6), memory_us))

    def collective_us(self, sent: Sequence[Collective]) -> float:
        """Time of a collective once all ranks are there: the busiest rank's outgoing or incoming bytes."""
        ranks = len(sent)
        out = max(sum(one.sent_bytes) for one in sent)
        into = max(sum(one.sent_bytes[rank] for one in sent) for rank in range(ranks))
        return max(out, into) / (self.collective_gbps * 1e3)
