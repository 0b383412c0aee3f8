"""Grouped GEMM over expert weights in any number of buffers: out[r] = x[r] w[e]^T for the rows r of each expert e.

Beside it the plain-torch reference. The kernel is in grouped_gemm_kernel.py, and tells how it works.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
from dwdp_kernels.expert_table import ALIGNMENT, ExpertTable
from dwdp_kernels.gemm_config import GemmConfig, Kind, Problem, WeightLoads, choose_config
from dwdp_kernels.grouped_gemm_kernel import grouped_gemm_kernel
from dwdp_kernels.launch import Device, device_of, launch
from dwdp_kernels.routing import Routes, Tiles, tiles_of
from torch import Tensor
from torch.nn import functional

TYPES = (torch.bfloat16, torch.float16, torch.float32)


class Rows(NamedTuple):
    """A GEMM's input rows, and which expert each belongs to."""

    x: Tensor
    """[R, K] in expert-sorted order; or [T, K], from which `token_of_row` picks the sorted rows"""
    offsets: Tensor
    """[E + 1] int32 on x's device: the first row of each expert, and the end"""
    token_of_row: Tensor | None = None
    """[R] int32, or None when x is sorted"""

    @property
    def total(self) -> int:
        """R."""
        return len(self.x if self.token_of_row is None else self.token_of_row)


def grouped_gemm(x: Tensor, weights: ExpertTable, offsets: Tensor, config: GemmConfig | None = None) -> Tensor:
    """[R, N] from x [R, K] in expert-sorted order, weights [N, K] of each expert and offsets [E + 1] (int32).

    Row r is multiplied by the weights of the expert e with offsets[e] <= r < offsets[e + 1], in fp32, and rounded
    once to x's type; rows from offsets[E] on are not written. Any row count, any spread. Nothing on the host waits
    for the device. Raises ValueError for tensors that do not fit together.
    """
    return multiply(Rows(x, offsets), weights, "product", config)


def grouped_swiglu(
    x: Tensor, weights: ExpertTable, routes: Routes, config: GemmConfig | None = None, tiles: Tiles | None = None
) -> Tensor:
    """[R, I]: silu(gate) * up of each row's token, expert-sorted. x is [T, K], weights [2I, K], gate above up."""
    return multiply(Rows(x, routes.offsets, routes.token_of_row), weights, "swiglu", config, tiles)


def multiply(
    rows: Rows, weights: ExpertTable, kind: Kind, config: GemmConfig | None = None, tiles: Tiles | None = None
) -> Tensor:
    """The grouped GEMM of one kind. `config` and `tiles` (of the config's height) save choosing and building them."""
    _check(rows, weights, kind)
    device = device_of(rows.x)
    columns = weights.rows // 2 if kind == "swiglu" else weights.rows
    x, token_of_row = _readable(rows.x), rows.token_of_row
    out = torch.empty(rows.total, columns, dtype=x.dtype, device=x.device)
    if not rows.total:
        return out
    if config is None:
        config = config_for(problem_of(rows, weights, kind), device)
    if tiles is None or tiles.height != config.block_m:
        tiles = tiles_of(rows.offsets, rows.total, config.block_m)
    if token_of_row is not None and config.gather == "separate":
        # rows from offsets[E] on belong to nobody, and their tokens are undefined
        x, token_of_row = x.index_select(0, token_of_row.clamp(0, len(x) - 1)), None
    loads = usable_loads(config.weights, weights, device)
    out_width = config.block_n // 2 if kind == "swiglu" else config.block_n
    most = len(tiles.expert) * triton.cdiv(columns, out_width)
    launch(
        grouped_gemm_kernel,
        (min(device.processors * config.programs_per_processor, most),),
        x,
        x,
        tiles.used if token_of_row is None else token_of_row,
        weights.table,
        out,
        rows.offsets,
        tiles.expert,
        tiles.row,
        tiles.used,
        rows.total,
        weights.columns,
        columns,
        BLOCK_M=config.block_m,
        BLOCK_N=config.block_n,
        BLOCK_K=config.block_k,
        GROUP_M=config.group_m,
        WEIGHTS=loads,
        TMA_ROWS=loads != "plain",
        GATHER=token_of_row is not None,
        SWIGLU=kind == "swiglu",
        WHOLE_K=weights.columns % config.block_k == 0,
        STORES=config.stores,
        num_warps=config.warps,
        num_stages=config.stages,
    )
    return out


def problem_of(rows: Rows, weights: ExpertTable, kind: Kind) -> Problem:
    """What the choice of a configuration depends on."""
    n = weights.rows // 2 if kind == "swiglu" else weights.rows
    return Problem(kind, weights.experts, rows.total, weights.columns, n, weights.dtype.itemsize)


def config_for(problem: Problem, device: Device) -> GemmConfig:
    """The configuration for a problem on a device under the Triton at hand."""
    return choose_config(problem, device.name, device.capability, triton.__version__)


def usable_loads(wanted: WeightLoads, weights: ExpertTable, device: Device) -> WeightLoads:
    """How weight tiles are found: as wanted where the device and the addresses allow it, else the next best way."""
    if wanted == "plain" or not device.has_tma:
        return "plain"
    return wanted if weights.reach else "each"


def grouped_gemm_reference(x: Tensor, weights: Sequence[Tensor], offsets: Tensor) -> Tensor:
    """[R, N]: what grouped_gemm gives, expert by expert, in x's own type."""
    ends = offsets.tolist()
    parts = [functional.linear(x[ends[e] : ends[e + 1]], weight) for e, weight in enumerate(weights)]
    return torch.cat([*parts, x.new_zeros(len(x) - ends[-1], len(weights[0]))])


def grouped_swiglu_reference(x: Tensor, weights: Sequence[Tensor], routes: Routes) -> Tensor:
    """[R, I]: what grouped_swiglu gives, in x's own type."""
    rows = x[routes.token_of_row[: int(routes.offsets[-1])]]
    gate, up = grouped_gemm_reference(rows, weights, routes.offsets).chunk(2, dim=-1)
    return functional.silu(gate) * up


def _readable(x: Tensor) -> Tensor:
    """x where its rows are dense and aligned, otherwise a copy that is."""
    if x.is_contiguous() and x.data_ptr() % ALIGNMENT == 0:
        return x
    return x.clone(memory_format=torch.contiguous_format)


def _check(rows: Rows, weights: ExpertTable, kind: Kind) -> None:
    x, offsets = rows.x, rows.offsets
    if x.dtype not in TYPES or x.dtype != weights.dtype:
        raise ValueError(f"x is {x.dtype} and the weights {weights.dtype}: one of {TYPES} for both is needed")
    if x.dim() != 2 or x.shape[1] != weights.columns:
        raise ValueError(f"x is {list(x.shape)}: rows of {weights.columns} columns are needed, as the weights have")
    if len(offsets) != weights.experts + 1 or offsets.dtype != torch.int32:
        raise ValueError(
            f"offsets are {list(offsets.shape)} {offsets.dtype}: {weights.experts + 1} of torch.int32 are needed for "
            f"{weights.experts} experts"
        )
    if {offsets.device, weights.table.device} != {x.device}:
        raise ValueError(f"x is on {x.device}, offsets on {offsets.device}, weights on {weights.table.device}")
    if kind == "swiglu" and weights.rows % 32:
        raise ValueError(f"weights have {weights.rows} rows: SwiGLU needs gate and up of a multiple of 16 each")
