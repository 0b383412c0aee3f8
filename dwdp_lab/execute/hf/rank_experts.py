"""The routed experts of one rank's model: local ones in memory that peers may map, the others pulled ahead of use."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from dwdp_kernels.grouped_mlp import Weight
from torch import Tensor

from dwdp_lab.execute.cpu.composite import CompositeStaging
from dwdp_lab.execute.cpu.expert_store import ExpertStore
from dwdp_lab.execute.cpu.lanes import Times
from dwdp_lab.execute.cpu.operations import slot_of
from dwdp_lab.execute.cpu.shared_memory import Mapping
from dwdp_lab.execute.cpu.staging import ExpertTensors, Staging, resident
from dwdp_lab.execute.hf.stepped_program import SteppedProgram
from dwdp_lab.model.hf.expert_source import Compute, ExpertWeights
from dwdp_lab.program.operation import Op
from dwdp_lab.program.pull_plan import pull_plan
from dwdp_lab.scenario.scenario import Scenario


@dataclass
class Pass:
    """One forward pass that has ended."""

    ops: tuple[Op, ...]
    times: list[Times]
    pulled_bytes: dict[int, int]
    """By layer."""


@dataclass
class RankExperts:
    """Brings the experts of every layer to a model, by a program that is run once for each of the model's passes.

    `store` has the experts the rank keeps, `peers` every rank's store. Close it after the last pass.
    """

    scenario: Scenario
    rank: int
    ops: tuple[Op, ...]
    store: ExpertStore
    peers: list[Mapping]
    passes: list[Pass] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._plan = pull_plan(self.scenario, self.rank)
        slots = {op.slot for op in self.ops if op.slot is not None}
        composite = self.scenario.strategy.weight_view == "composite"
        make = CompositeStaging if composite else Staging
        self._staging: Staging | None = make(self.store, self._plan.slot, 1 + max(slots)) if slots else None
        self._weights: dict[tuple[int, int | None], ExpertWeights] = {}
        self._program: SteppedProgram | None = None
        self._chosen: dict[int, Tensor] = {}
        self._pulled_bytes: dict[int, int] = {}
        self._computed: Tensor | None = None
        self._compute: Compute | None = None

    def begin(self) -> None:
        """A pass of the model begins, and with it the first pulls."""
        self._chosen, self._pulled_bytes = {}, {}
        self._program = SteppedProgram(self.ops, self._perform)

    def end(self) -> None:
        """The pass has ended. Raises RuntimeError when the model left out a layer."""
        program, self._program = self._program, None
        if program is None:
            raise RuntimeError("a pass of the model ended that never began")
        self.passes.append(Pass(self.ops, program.end(), self._pulled_bytes))

    def run(self, layer: int, ids: Tensor, compute: Compute) -> Tensor:
        """What `compute` makes of the layer's experts, as soon as the program has brought them."""
        if self._program is None:
            raise RuntimeError(f"the experts of layer {layer} are asked for outside of a pass of the model")
        self._chosen[layer], self._compute = ids, compute
        self._program.experts(layer)
        computed, self._computed, self._compute = self._computed, None, None
        if computed is None:
            raise RuntimeError(f"the program computed nothing in layer {layer}")
        return computed

    def close(self) -> None:
        """Give the slots back; nobody computes any more."""
        self._weights.clear()
        if self._staging is not None:
            self._staging.close()

    def _perform(self, op: Op) -> None:
        if op.kind == "pull":
            self._pull(op)
        elif op.kind == "merge":
            self._staged.merge(op.layer, slot_of(op))
        elif op.kind == "experts" and self._compute is not None:
            self._computed = self._compute(self._expert_weights(op))

    def _pull(self, op: Op) -> None:
        slices = self._plan.slices
        if op.pull is not None and op.pull.routed:
            slices = pull_plan(self.scenario, self.rank, set(self._chosen[op.layer].flatten().tolist())).slices
        self._pulled_bytes[op.layer] = sum(piece.nbytes for piece in slices)
        self._staged.pull(slices, self.peers, op.layer, slot_of(op), self.scenario.link_gbps)

    def _expert_weights(self, op: Op) -> ExpertWeights:
        """Made once for each layer and slot: tables of addresses cost more than a small layer."""
        key = op.layer, op.slot
        if key not in self._weights:
            found: ExpertTensors = (
                resident(self.store, op.layer, range(self.scenario.model.experts))
                if op.slot is None
                else self._staged.weights(op.layer, op.slot)
            )
            self._weights[key] = ExpertWeights(_plain(found.w13), _plain(found.w2))
        return self._weights[key]

    @property
    def _staged(self) -> Staging:
        if self._staging is None:
            raise ValueError("the program has no operation that fills a slot")
        return self._staging


def _plain(weights: Sequence[Weight]) -> tuple[Tensor, ...]:
    """The weights of a model of transformers, which have no scales. Raises TypeError for others."""
    found = tuple(weight for weight in weights if isinstance(weight, Tensor))
    if len(found) != len(weights):
        raise TypeError("a model of transformers cannot compute with weights that have scales")
    return found
