"""The arithmetic of a GPU: this project's Triton kernels."""

from __future__ import annotations

from dataclasses import replace

import torch
from dwdp_kernels.choice import choose_experts
from dwdp_kernels.expert_mlp import LayerConfig, expert_mlp, visit_experts
from dwdp_kernels.gemm_config import Problem
from dwdp_kernels.grouped_gemm import config_for
from dwdp_kernels.grouped_mlp import ExpertRows, Rows
from dwdp_kernels.launch import device_of
from dwdp_kernels.masked_rows import add_rows, put_rows, visited_ranks
from dwdp_kernels.quantise_rows import quantise_rows
from dwdp_kernels.residual import add_norm, combine, combine_norm, norm
from dwdp_kernels.rotary import rotate_in_place
from dwdp_kernels.routing import route_visits
from torch import Tensor
from torch.nn import functional

from dwdp_lab.execute.cuda.compute.arithmetic import ExpertTables, Sorted

PARTS_BESIDE_COLLECTIVES = 8
"""A GEMM's programs stay until all their tiles are done, as many as fit at once. Where NCCL holds some processors, the
programs that find no place begin when the others have ended, and the GEMM takes twice as long. Cut into so many times
as many programs, each with as many times fewer tiles, it is late by a part of that."""


class TritonArithmetic:
    """Nothing here waits for the GPU. `parts`: how many times as many programs as fit at once share a GEMM's tiles."""

    norm = staticmethod(norm)
    add_norm = staticmethod(add_norm)
    rotate = staticmethod(rotate_in_place)
    choose = staticmethod(choose_experts)
    quantise = staticmethod(quantise_rows)
    combine = staticmethod(combine)
    combine_norm = staticmethod(combine_norm)
    visited_ranks = staticmethod(visited_ranks)
    put_rows = staticmethod(put_rows)
    add_rows = staticmethod(add_rows)

    def __init__(self, parts: int = 1) -> None:
        self.parts = parts

    def logits(self, x: Tensor, router: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return functional.linear(x, router)
        # tensor cores add up products of 16-bit numbers in fp32, which is all that a product of fp32 copies would do
        return torch.mm(x, router.T, out_dtype=torch.float32)

    def sort(self, ids: Tensor, groups: int) -> Sorted:
        return Sorted(*route_visits(ids, groups))

    def experts(self, x: Rows, ids: Tensor, weights: Tensor, tables: ExpertTables, visits: int) -> Tensor:
        config = layer_config(weights, tables, visits, self.parts)
        return expert_mlp(x, ids, weights, tables.w13, tables.w2, config)

    def visit_experts(self, x: Rows, ids: Tensor, weights: Tensor, tables: ExpertTables, visits: int) -> ExpertRows:
        config = layer_config(weights, tables, visits, self.parts)
        return visit_experts(x, ids, weights, tables.w13, tables.w2, config)

    def beside_collectives(self) -> TritonArithmetic:
        return TritonArithmetic(PARTS_BESIDE_COLLECTIVES)


def layer_config(x: Tensor, tables: ExpertTables, visits: int, parts: int = 1) -> LayerConfig:
    """The tiles for so many visits. They follow from sizes alone, never from where weights lie: every weight view
    computes in the same order, and so gives the same bits."""
    device = device_of(x)
    hidden, inner = tables.w13.columns, tables.w13.rows // 2
    up = Problem("swiglu", tables.w13.experts, visits, hidden, inner, tables.w13.dtype.itemsize)
    both = (config_for(one, device) for one in (up, up._replace(kind="product", k=inner, n=hidden)))
    return LayerConfig(*(replace(one, programs_per_processor=parts * one.programs_per_processor) for one in both))
