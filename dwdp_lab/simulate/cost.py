"""Durations: max(FLOPs / rate, bytes / bandwidth) for each piece of work, bytes / bandwidth for what is sent."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from dwdp_lab.program.operation import ALL_REDUCES, COLLECTIVES, Collective, Kind, Program, Pull, Unit, Work
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.simulate.hardware import Hardware
from dwdp_lab.simulate.links import Nodes
from dwdp_lab.simulate.physics import BOUND, Physics
from dwdp_lab.simulate.reached import Lasting, Number, Operation, Reached

MEMORY_UNITS: frozenset[Unit] = frozenset({"activations", "memory"})


class Piece(NamedTuple):
    """Part of an operation: how long it takes alone, and how many times longer while copies run at full rate."""

    unit: Unit
    alone_us: float
    slowdown: float


@dataclass(frozen=True)
class CostModel:
    """Costs on one kind of GPU under the given physics. Times in microseconds, rates in 1e9 bytes/s.

    `processors_taken` is the share of the GPU's processors that transfers beside compute take: those of collectives do,
    copy engines need none.
    """

    hardware: Hardware
    link_gbps: float
    collective_gbps: float
    physics: Physics = BOUND
    processors_taken: float = 0.0
    _known: dict[tuple[int, Kind | None], tuple[tuple[Work, ...], tuple[Piece, ...]]] = field(
        default_factory=dict, repr=False
    )

    @classmethod
    def of(cls, hardware: Hardware, link_gbps: float | None = None, physics: Physics = BOUND) -> CostModel:
        """The profile's costs, with another link speed (1e9 bytes/s) where one is given.

        Raises ScenarioError (field `hardware`) for physics that the profile has no numbers for.
        """
        link = hardware.link_gbps.value if link_gbps is None else link_gbps
        reached = hardware.reached
        if physics.lasting and reached is not None and reached.lasting is None:
            raise ScenarioError(
                "hardware",
                hardware.name,
                "the profile says nothing of steps that last",
                "take physics without lasting, or calibrate this machine on GPU ranks (`dwdp-lab calibrate`)",
            )
        if reached is None:
            if physics.efficiency or physics.latencies or physics.interference or physics.lasting:
                raise ScenarioError(
                    "hardware",
                    hardware.name,
                    "the profile says nothing of what the machine reaches, only peaks",
                    "take the bound's physics, another profile, or calibrate this machine",
                )
            return cls(hardware, link, link, physics)
        if physics.efficiency:
            return cls(hardware, link * reached.link.value, link * reached.collective.value, physics)
        return cls(hardware, link, link, physics)

    def beside(self, programs: Sequence[Program]) -> CostModel:
        """These costs for programs that exchange by collectives, if they do: what runs beside these has less room."""
        reached = self.hardware.reached
        if not self.physics.collective_sms or reached is None or reached.collective_sms is None:
            return self
        if not any(op.kind in COLLECTIVES for program in programs for op in program.ops):
            return self
        return replace(self, processors_taken=reached.collective_sms.value, _known={})

    @property
    def link_bytes_per_us(self) -> float:
        return self.link_gbps * 1e3

    @property
    def egress_bytes_per_us(self) -> float:
        """What a source gives to all its readers together; as much as one takes where no more is known."""
        reached = self.hardware.reached
        if not self.physics.efficiency or reached is None or reached.egress is None:
            return self.link_bytes_per_us
        return self.link_bytes_per_us * max(1.0, reached.egress.value / reached.link.value)

    @property
    def pair_bytes_per_us(self) -> float | None:
        """What goes from one rank to another at most, where that is less than a link; None behind a switch."""
        pair = self.hardware.pair_gbps
        return None if pair is None else pair.value / self.hardware.link_gbps.value * self.link_bytes_per_us

    def nodes(self, ranks: int) -> Nodes | None:
        """How a group of so many ranks lies on nodes, and what copies reach between them.

        None when one node has room, and when nodes are joined by as much as the ranks of one.
        """
        reached = self.hardware.reached
        return self._nodes(ranks, self.link_gbps, reached.link if reached is not None else None)

    def _nodes(self, ranks: int, link_gbps: float, share: Number | None) -> Nodes | None:
        size, between = self.hardware.gpus_per_node, self.hardware.inter_node_gbps
        if size is None or between is None or ranks <= size.value or math.isinf(link_gbps):
            return None  # a link made free is free everywhere
        # of what joins nodes, as much is taken to be reached as of what is within
        gbps = between.value * (share.value if share is not None and self.physics.efficiency else 1.0)
        return Nodes(int(size.value), gbps * 1e3) if gbps < link_gbps else None

    def work_us(self, work: tuple[Work, ...], kind: Kind | None = None) -> float:
        """Sum over the pieces of max(FLOPs / rate, bytes / bandwidth) (arXiv 2604.01621, section 3)."""
        return math.fsum([piece.alone_us for piece in self.pieces(work, kind)])

    def pieces(self, work: tuple[Work, ...], kind: Kind | None = None) -> tuple[Piece, ...]:
        """The pieces of an operation, in order; `kind` lets them use what the profile knows of this kind alone."""
        known = self._known.get((id(work), kind))
        if known is None or known[0] is not work:  # layers share their work: look each one up once
            found = [self._piece(w, kind) for w in self.counted(work)]
            own = self._operation(kind)
            if found and self.physics.latencies and own is not None and own.fixed_us is not None:
                found[0] = found[0]._replace(alone_us=found[0].alone_us + own.fixed_us.value)
            longer = 1.0 if self._lasting is None else self._lasting.longer(kind)
            known = (work, tuple(piece._replace(alone_us=longer * piece.alone_us) for piece in found))
            self._known[id(work), kind] = known
        return known[1]

    def counted(self, work: tuple[Work, ...]) -> list[Work]:
        """The pieces of an operation that take time under the given physics."""
        return [w for w in work if self.physics.activations or w.unit != "activations"]

    @property
    def _lasting(self) -> Lasting | None:
        reached = self.hardware.reached
        return reached.lasting if self.physics.lasting and reached is not None else None

    def _operation(self, kind: Kind | None) -> Operation | None:
        reached = self.hardware.reached
        return reached.operations.get(kind) if reached is not None and kind is not None else None

    def _piece(self, work: Work, kind: Kind | None) -> Piece:
        reached = self.hardware.reached
        efficiency = slowdown = 1.0
        if reached is not None:
            own = self._operation(kind)
            if self.physics.efficiency and work.unit == "activations" and own is not None and own.activations:
                efficiency = own.activations.value
            elif self.physics.efficiency and work.unit in reached.efficiency:
                efficiency = reached.efficiency[work.unit].value
                if work.rows_per_expert and reached.half_rows is not None:
                    efficiency *= work.rows_per_expert / (work.rows_per_expert + reached.half_rows.value)
            slowdown = self._slowdown(work.unit, reached)
        return Piece(work.unit, self._bound_us(work, efficiency), slowdown)

    def _slowdown(self, unit: Unit, reached: Reached) -> float:
        """How many times longer a unit takes beside transfers.

        What was measured is for the profile's own link. A slower one moves that much less in the same time, so it takes
        that much less of memory's bandwidth and of power; a faster one is taken to disturb no more at a time, but not
        for as long. Memory is not slower for fewer processors.

        At the power limit all units share one clock, and what transfers draw takes from it.
        """
        disturbed = self.physics.hbm_traffic if unit in MEMORY_UNITS else self.physics.power
        whole = self.hardware.link_gbps.value * (reached.link.value if self.physics.efficiency else 1.0)
        moved = min(1.0, self.link_gbps / whole)
        speed = 1.0
        if disturbed and unit in reached.copy_slowdown:
            speed = 1.0 - (1.0 - 1.0 / reached.copy_slowdown[unit].value) * moved
        lasting = self._lasting
        if self.physics.power and lasting is not None and lasting.copies is not None:
            speed *= 1.0 - (1.0 - 1.0 / lasting.copies.value) * moved
        if unit not in MEMORY_UNITS:
            speed *= 1.0 - self.processors_taken
        return 1.0 / speed

    def _bound_us(self, work: Work, efficiency: float) -> float:
        memory_us = work.hbm_bytes / (self.hardware.hbm_gbps.value * 1e3)
        if not work.flops:
            return memory_us / efficiency
        peak = self.hardware.tflops.get(work.dtype)
        if peak is None:
            raise ScenarioError(
                "hardware",
                self.hardware.name,
                f"has no rate for {work.dtype}; it knows {', '.join(self.hardware.tflops)}",
                "take a model in one of these precisions or another profile",
            )
        return float(max(work.flops / (peak.value * 1e6 * efficiency), memory_us))

    def pull_overhead(self, pull: Pull) -> float:
        """How many times longer a pull takes for the fixed cost of its copies (1: no cost, as on a link made free)."""
        reached = self.hardware.reached
        if math.isinf(self.link_gbps):
            return 1.0
        if not self.physics.latencies or reached is None or reached.copy_us is None or not pull.nbytes:
            return 1.0
        return 1.0 + pull.copies * reached.copy_us.value * self.link_bytes_per_us / pull.nbytes

    def message_us(self, sent: Collective, source: int, target: int) -> float:
        """Time of a message from one rank to another once both are there: one copy over the link between them."""
        reached = self.hardware.reached
        fixed_us = 0.0
        if self.physics.latencies and reached is not None and reached.copy_us is not None:
            fixed_us = 0.0 if math.isinf(self.link_gbps) else reached.copy_us.value
        rate = self.link_bytes_per_us
        if self.pair_bytes_per_us is not None:
            rate = min(rate, self.pair_bytes_per_us)
        nodes = self.nodes(len(sent.sent_bytes))
        if nodes is not None and nodes.far(source, target):
            rate = min(rate, nodes.rate)
        return fixed_us + math.fsum(sent.sent_bytes) / rate

    def collective_us(self, sent: Sequence[Collective], kind: Kind | None = None) -> float:
        """Time of a collective once all ranks are there: the busiest rank's outgoing or incoming bytes.

        `kind` lets it use what the profile knows of this kind alone.
        """
        ranks = len(sent)
        out = max(math.fsum(one.sent_bytes) for one in sent)
        into = max(map(math.fsum, zip(*[one.sent_bytes for one in sent], strict=True)))
        reached = self.hardware.reached
        fixed_us, gbps, share_reached = 0.0, self.collective_gbps, None
        if reached is not None:
            # an all-reduce that was not measured adds up as the exchange does that was
            known_by = "reduce_tokens" if kind in ALL_REDUCES and kind not in reached.exchanges else kind
            own = reached.exchanges.get(known_by) if known_by is not None else None
            fixed = reached.collective_us if own is None else own.fixed_us
            if self.physics.latencies and fixed is not None and ranks > 1:
                fixed_us = fixed.value
            share_reached = reached.collective if own is None else own.share
            if self.physics.efficiency and own is not None:
                gbps = self.link_gbps / reached.link.value * own.share.value
        took_us = max(out, into) / (gbps * 1e3)
        if self.hardware.pair_gbps is not None:
            share = self.hardware.pair_gbps.value / self.hardware.link_gbps.value
            took_us = max(took_us, max(max(one.sent_bytes) for one in sent) / (gbps * share * 1e3))
        nodes = self._nodes(ranks, gbps, share_reached)
        if nodes is not None:
            took_us = max(took_us, _between_nodes(sent, nodes) / nodes.rate)
        return fixed_us + took_us


def _between_nodes(sent: Sequence[Collective], nodes: Nodes) -> float:
    """What the busiest rank sends to other nodes, or receives from them, in bytes.

    Of what crosses once for all ranks of a node, each of these carries its part.
    """
    ranks, once = range(len(sent)), all(one.once_per_node for one in sent)
    busiest = 0.0
    for rank in ranks:
        far = [peer for peer in ranks if nodes.far(rank, peer)]
        out = math.fsum(sent[rank].sent_bytes[peer] for peer in far)
        into = math.fsum(sent[peer].sent_bytes[rank] for peer in far)
        busiest = max(busiest, max(out, into) / (len(ranks) - len(far) if once else 1))
    return busiest
