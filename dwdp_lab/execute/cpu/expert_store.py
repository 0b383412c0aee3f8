"""The experts a rank keeps: one range of experts of some MoE layers, in memory that peers may map."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.shared_memory import Mapping, shared_block, whole_pages
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.model.narrow import narrow_expert
from dwdp_lab.model.supported import torch_dtype
from dwdp_lab.model.weights import ReadExpert, expert_parameters
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
                weights = read(layer, expert)
                if share is not None:
                    weights = narrow_expert(*weights, share.columns)
                for (name, _), parameter in zip(expert_parameters(shape), weights, strict=True):
                    self.tensor(layer, name, expert).copy_(parameter)

    def offset(self, layer: int) -> int:
        """Where a decoder layer's experts begin."""
        return self._places[layer] * self.stride

    def tensor(self, layer: int, name: str, expert: int) -> Tensor:
        """A view of one parameter of one expert (numbered as in the model)."""
        offset = self.offset(layer) + self.layout.offset(name, expert - self.experts.start)
        return expert_tensor(self.mapping, offset, self.shape, name)

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


def expert_tensor(mapping: Mapping, offset: int, shape: ModelShape, name: str) -> Tensor:
    """A view of one expert's parameter that lies at `offset` of a mapping."""
    dtype: torch.dtype = torch_dtype(shape.expert_dtype)
    return mapping.tensor(offset, dict(expert_parameters(shape))[name], dtype)
