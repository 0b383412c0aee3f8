"""What one run of one rank needs of the experts: tables, copies, slots. All of it is made before the run is timed."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor

from dwdp_lab.execute.cuda.experts.expert_store import ExpertStore
from dwdp_lab.execute.cuda.experts.pulls import Pulls
from dwdp_lab.execute.cuda.experts.resident import local_tensors
from dwdp_lab.execute.cuda.experts.staging import LayerTables, MergedStaging, Place, Staging
from dwdp_lab.execute.cuda.gpu.device import Copy


@dataclass
class RunExperts:
    """Ready to run; `close` it after the device has done its work, also after a failure."""

    cuts: tuple[range, ...]
    """The experts each rank computes under DEP."""
    rank: int
    store: ExpertStore | None = None
    """The rank's shard, for programs that pull or exchange anything."""
    resident: Mapping[int, LayerTables] = field(default_factory=dict)
    """By decoder layer."""
    staging: Staging | None = None
    pulls: Pulls | None = None
    copies_of: Mapping[Place, tuple[Copy, ...]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def cut(self) -> range:
        """The experts this rank computes under DEP."""
        return self.cuts[self.rank]

    def copies(self, layer: int, slot: int) -> tuple[Copy, ...]:
        """The pull of all that the rank lacks of a layer into a slot, in the plan's order; always the same object."""
        return self.copies_of[layer, slot]

    def copies_for(self, layer: int, slot: int, wanted: Collection[int]) -> tuple[Copy, ...]:
        """The pull of no more than the wanted experts."""
        if self.pulls is None:
            raise ValueError("the program pulls nothing")
        return self.pulls.copies(layer, partial(self._slots.target, layer, slot), wanted)

    def tables(self, layer: int, slot: int | None) -> LayerTables:
        """What an `experts` operation reads: all E experts with the remote ones in the slot, or resident ones.

        Under DEP the resident ones are `cut`: expert cut.start is entry 0.
        """
        return self.resident[layer] if slot is None else self._slots.tables(layer, slot)

    def merge(self, layer: int, slot: int) -> None:
        """Launch the kernels that copy the local experts into the slot, on torch's current stream."""
        self._slots.merge(layer, slot)

    def local(self, layer: int) -> dict[str, Tensor]:
        """[experts of `cut`, ...] by parameter, in the store's form: what it gives to an all-gather of weights."""
        if self.store is None:
            raise ValueError("the program moves no weights")
        return local_tensors(self.store, layer, self.cut)

    def slot(self, slot: int) -> dict[str, Tensor]:
        """[E, ...] by parameter, in the store's form: where an all-gather of weights puts what it receives."""
        if not isinstance(self._slots, MergedStaging):
            raise ValueError("weights are gathered into slots that have room for all experts")
        return self._slots.tensors(slot)

    def close(self) -> None:
        """Give back what only this run needed. Doing it again does nothing."""
        self.resident, self.copies_of = {}, {}
        staging, self.staging = self.staging, None
        if staging is not None:
            staging.close()

    @property
    def _slots(self) -> Staging:
        if self.staging is None:
            raise ValueError("the program has no operation that fills a slot")
        return self.staging
