"""The experts a rank keeps: one range of experts of every MoE layer, in memory that peers may map."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.shared_memory import Mapping, shared_block, whole_pages
from dwdp_lab.model.supported import torch_dtype
from dwdp_lab.model.weights import expert_parameters, expert_weights
from dwdp_lab.program.pull_plan import Layout, parameter_bytes
from dwdp_lab.scenario.model_shape import ModelShape


class ExpertStore:
    """Layer after layer, each beginning on a page: `layout` within a layer, `stride` bytes between two."""

    def __init__(self, shape: ModelShape, experts: range, seed: int) -> None:
        self.shape = shape
        self.experts = experts
        self.layout = Layout(parameter_bytes(shape), len(experts))
        self.stride = whole_pages(self.layout.nbytes)
        self.nbytes = shape.moe_layers * self.stride
        self.fd = shared_block(self.nbytes)
        self.mapping = Mapping(self.fd, self.nbytes)
        for layer in range(shape.dense_layers, shape.layers):
            for expert in experts:
                for (name, _), drawn in zip(
                    expert_parameters(shape), expert_weights(shape, layer, expert, seed), strict=True
                ):
                    self.tensor(layer, name, expert).copy_(drawn)

    def offset(self, layer: int) -> int:
        """Where a decoder layer's experts begin."""
        return (layer - self.shape.dense_layers) * self.stride

    def tensor(self, layer: int, name: str, expert: int) -> Tensor:
        """A view of one parameter of one expert (numbered as in the model)."""
        offset = self.offset(layer) + self.layout.offset(name, expert - self.experts.start)
        return expert_tensor(self.mapping, offset, self.shape, name)

    def close(self) -> None:
        """Give the memory back once no tensor over it is used any more."""
        self.mapping.close()
        os.close(self.fd)


def expert_tensor(mapping: Mapping, offset: int, shape: ModelShape, name: str) -> Tensor:
    """A view of one expert's parameter that lies at `offset` of a mapping."""
    dtype: torch.dtype = torch_dtype(shape.expert_dtype)
    return mapping.tensor(offset, dict(expert_parameters(shape))[name], dtype)
