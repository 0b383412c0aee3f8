"""The arithmetic of a GPU: this project's Triton kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from dwdp_kernels.choice import choose_experts
from dwdp_kernels.e4m3 import Quantised
from dwdp_kernels.expert_mlp import LayerConfig, expert_mlp
from dwdp_kernels.gemm_config import Problem
from dwdp_kernels.grouped_gemm import config_for
from dwdp_kernels.grouped_mlp import Rows
from dwdp_kernels.launch import device_of
from dwdp_kernels.masked_rows import add_rows, put_rows, visited_ranks
from dwdp_kernels.quantise_rows import quantise_rows
from dwdp_kernels.residual import combine
from dwdp_kernels.rotary import rotate_in_place
from dwdp_kernels.routing import route_visits
from torch import Tensor
from torch.nn import functional

from dwdp_lab.execute.cuda.arithmetic import ExpertTables, Sorted

PARTS_BESIDE_COLLECTIVES = 8
"""A GEMM's programs stay until all their tiles are done, as many as fit at once. Where NCCL holds some processors, the
programs that find no place begin when the others have ended, and the GEMM takes twice as long. Cut into so many times
as many programs, each with as many times fewer tiles, it is late by a part of that."""


class TritonArithmetic:
    """Nothing here waits for the GPU. `parts`: how many times as many programs as fit at once share a GEMM's tiles."""

    def __init__(self, parts: int = 1) -> None:
        self.parts = parts

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return functional.rms_norm(x, weight.shape, weight, eps)  # one kernel, from torch 2.9 on

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> None:
        rotate_in_place(x, cos, sin)

    def logits(self, x: Tensor, router: Tensor) -> Tensor:
        if x.dtype == torch.float32:
            return functional.linear(x, router)
        # tensor cores add up products of 16-bit numbers in fp32, which is all that a product of fp32 copies would do
        return torch.mm(x, router.T, out_dtype=torch.float32)

    def choose(
        self, logits: Tensor, bias: Tensor, top_k: int, normalise: bool, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        return choose_experts(logits, bias, top_k, normalise, dtype)

    def sort(self, ids: Tensor, groups: int) -> Sorted:
        return Sorted(*route_visits(ids, groups))

    def quantise(self, x: Tensor) -> Quantised:
        return quantise_rows(x)

    def experts(self, x: Rows, ids: Tensor, weights: Tensor, tables: ExpertTables, visits: int) -> Tensor:
        config = layer_config(weights, tables, visits, self.parts)
        return expert_mlp(x, ids, weights, tables.w13, tables.w2, config)

    def combine(self, rows: Tensor, row_of_visit: Tensor, weights: Tensor) -> Tensor:
        return combine(rows, row_of_visit, weights)

    def visited_ranks(self, ids: Tensor, owner_of_expert: Tensor, ranks: int) -> Tensor:
        return visited_ranks(ids, owner_of_expert, ranks)

    def put_rows(self, rows: Tensor, wanted: Tensor, first: int, target: Tensor) -> None:
        put_rows(rows, wanted, first, target)

    def add_rows(self, parts: Sequence[Tensor], given: Tensor, columns: int, first: int, out: Tensor) -> None:
        add_rows(parts, given, columns, first, out)

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
