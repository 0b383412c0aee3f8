"""The arithmetic in plain torch, on any device: slow, obvious, and what the kernels have to agree with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from dwdp_kernels.e4m3 import quantise
from dwdp_kernels.expert_table import ExpertTable
from dwdp_kernels.grouped_mlp import ExpertRows, Rows, Weight, expert_rows, rows_of, sort_by_expert
from dwdp_kernels.masked_rows_reference import add_rows, put_rows, visited_ranks
from dwdp_kernels.residual_reference import add_norm, combine, combine_norm, norm
from dwdp_kernels.scaled_experts import quantised_experts
from torch import Tensor
from torch.nn import functional

from dwdp_lab.execute.cuda.compute.arithmetic import ExpertTables, Sorted
from dwdp_lab.model.attention import rotate
from dwdp_lab.model.layers import top_experts


class TorchArithmetic:
    """It waits for the device wherever it has to know a size."""

    norm = staticmethod(norm)
    add_norm = staticmethod(add_norm)
    quantise = staticmethod(quantise)
    combine = staticmethod(combine)
    combine_norm = staticmethod(combine_norm)
    visited_ranks = staticmethod(visited_ranks)
    put_rows = staticmethod(put_rows)
    add_rows = staticmethod(add_rows)

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> None:
        x.copy_(rotate(x, cos[:, None], sin[:, None]))

    def logits(self, x: Tensor, router: Tensor) -> Tensor:
        return functional.linear(x.float(), router.float())

    def choose(
        self, logits: Tensor, bias: Tensor, top_k: int, normalise: bool, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        ids = top_experts(logits + bias, top_k)
        chosen = logits.softmax(-1).gather(1, ids)
        if normalise:
            chosen = chosen / chosen.sum(-1, keepdim=True)
        return ids.int(), chosen.to(dtype)

    def sort(self, ids: Tensor, groups: int) -> Sorted:
        inside = (ids >= 0) & (ids < groups)
        order, offsets = sort_by_expert(torch.where(inside, ids, groups), groups + 1)
        rows = order.argsort().view_as(ids)
        ends = torch.tensor(offsets[:-1], dtype=torch.int32, device=ids.device)
        return Sorted((order // ids.shape[1]).int(), torch.where(inside, rows, -1).int(), ends)

    def experts(self, x: Rows, ids: Tensor, weights: Tensor, tables: ExpertTables, visits: int) -> Tensor:
        return combine(*self.visit_experts(x, ids, weights, tables, visits), weights)

    def visit_experts(self, x: Rows, ids: Tensor, weights: Tensor, tables: ExpertTables, visits: int) -> ExpertRows:
        del visits  # nothing is tiled here
        inside = (ids >= 0) & (ids < tables.w13.experts)
        token = inside.nonzero()[:, 0]
        order, offsets = sort_by_expert(ids[inside], tables.w13.experts)
        visitors = rows_of(x, token[order])
        rows = expert_rows(visitors, offsets, _weights(tables.w13), _weights(tables.w2), weights.dtype)
        row_of_visit = torch.full(ids.shape, -1, dtype=torch.int32, device=ids.device)
        row_of_visit[inside] = order.argsort().int()
        return ExpertRows(rows, row_of_visit)

    def beside_collectives(self) -> TorchArithmetic:
        return self


def _weights(table: ExpertTable) -> Sequence[Weight]:
    return quantised_experts(table) if table.scales else table.weights
