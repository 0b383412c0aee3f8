"""The experts a rank keeps: one range of experts of some MoE layers, in memory that peers may map."""

from __future__ import annotations

import os
from collections.abc import Sequence

from dwdp_kernels.grouped_mlp import Weight
from torch import Tensor

from dwdp_lab.execute.cpu.shared_memory import Mapping, shared_block, whole_pages
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.model.kept_experts import as_stored, kept_weights, stored_form, weight_at
from dwdp_lab.model.narrow import narrow_expert
from dwdp_lab.model.weights import ReadExpert
from dwdp_lab.program.pull_plan import Layout, parameter_bytes
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.shares import Share, narrowed


class ExpertStore:
    """Layer after layer, each beginning on a page: `layout` within a layer, `stride` bytes between two.

    `read` brings w13 and w2 of an expert. `layers` are those that are kept (None: all with experts); of `share` only
    its columns are, and `shape` is then the narrowed one.
    """

    def __init__(
        self,
        shape: ModelShape,
        experts: range,
        read: ReadExpert,
        layers: Sequence[int] | None = None,
        share: Share | None = None,
    ) -> None:
        self.shape = shape if share is None else narrowed(shape, share)
        self.experts = experts
        kept = shape.layers_with_experts if layers is None else layers
        self._places = {layer: place for place, layer in enumerate(kept)}
        self.layout = Layout(parameter_bytes(self.shape), len(experts))
        self.stride = whole_pages(self.layout.nbytes)
        self.nbytes = len(self._places) * self.stride
        self.fd = shared_block(self.nbytes)
        self.mapping = Mapping(self.fd, self.nbytes)
        for layer in self._places:
            for expert in experts:
                weights = kept_weights(shape, read(layer, expert))
                if share is not None:
                    weights = narrow_expert(*weights, share.columns)
                for (name, _), weight in zip(shape.expert_matrices, weights, strict=True):
                    self.tensor(layer, name, expert).copy_(as_stored(weight))

    def offset(self, layer: int) -> int:
        """Where a decoder layer's experts begin."""
        return self._places[layer] * self.stride

    def tensor(self, layer: int, name: str, expert: int) -> Tensor:
        """A view of one parameter of one expert (numbered as in the model), as it is stored."""
        return stored_at(self.mapping, self._offset_of(layer, name, expert), self.shape, name)

    def weight(self, layer: int, name: str, expert: int) -> Weight:
        """The same as it is computed with."""
        return expert_weight(self.mapping, self._offset_of(layer, name, expert), self.shape, name)

    def _offset_of(self, layer: int, name: str, expert: int) -> int:
        return self.offset(layer) + self.layout.offset(name, expert - self.experts.start)

    def close(self) -> None:
        """Give the memory back once no tensor over it is used any more."""
        self.mapping.close()
        os.close(self.fd)


def map_shards(session: RankSession, shard: ExpertStore) -> list[Mapping]:
    """Every rank's shard, read-only, in rank order. All ranks must call this together."""
    _, fds = session.gather("shards", None, [shard.fd])
    mapped = [Mapping(fd, shard.nbytes, writable=False) for fd in fds]
    for fd in fds:
        os.close(fd)
    return mapped


def stored_at(mapping: Mapping, offset: int, shape: ModelShape, name: str) -> Tensor:
    """A view of one expert's parameter that lies at `offset` of a mapping."""
    return mapping.tensor(offset, *stored_form(shape, name))


def expert_weight(mapping: Mapping, offset: int, shape: ModelShape, name: str) -> Weight:
    """The same as it is computed with."""
    return weight_at(shape, name, stored_at(mapping, offset, shape, name))
