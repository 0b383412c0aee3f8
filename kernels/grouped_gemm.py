"""Grouped GEMM over expert weights in any number of buffers: out[r] = x[r] w[e]^T for the rows r of each expert e.

Beside it the plain-torch reference. The kernel is in grouped_gemm_kernel.py, and tells how it works. With weights in
e4m3 (scaled_experts.py) x is quantised too, each row by itself, and tensor cores multiply e4m3 by e4m3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import triton
from dwdp_kernels.e4m3 import E4M3
from dwdp_kernels.expert_table import ALIGNMENT, ExpertTable
from dwdp_kernels.gemm_config import GemmConfig, Kind, Problem, WeightLoads, choose_config
from dwdp_kernels.grouped_gemm_kernel import grouped_gemm_kernel
from dwdp_kernels.launch import Device, device_of, launch
from dwdp_kernels.quantise_rows import check_e4m3, quantise_rows
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
    scales: Tensor | None = None
    """of each row of an x in e4m3, fp32; None for other types"""
    dtype: torch.dtype | None = None
    """of the result; None: x's own"""

    @property
    def total(self) -> int:
        """R."""
        return len(self.x if self.token_of_row is None else self.token_of_row)

    def quantised(self) -> Rows:
        """The same rows in e4m3, for a result of x's type; of sorted ones those that belong to an expert."""
        end = self.offsets[-1:] if self.token_of_row is None else None
        values, scales = quantise_rows(_readable(self.x), end)
        return self._replace(x=values, scales=scales, dtype=self.x.dtype)

    def in_order(self) -> Rows:
        """The same rows, copied into the experts' order if they are not in it."""
        if self.token_of_row is None:
            return self
        # rows from offsets[E] on belong to nobody, and their tokens are undefined
        chosen = self.token_of_row.clamp(0, len(self.x) - 1)
        if self.scales is None:
            return self._replace(x=self.x.index_select(0, chosen), token_of_row=None)
        x = self.x.view(torch.uint8).index_select(0, chosen).view(E4M3)
        return self._replace(x=x, scales=self.scales.index_select(0, chosen), token_of_row=None)


def grouped_gemm(x: Tensor, weights: ExpertTable, offsets: Tensor, config: GemmConfig | None = None) -> Tensor:
    """[R, N] from x [R, K] in expert-sorted order, weights [N, K] of each expert and offsets [E + 1] (int32).

    Row r is multiplied by the weights of the expert e with offsets[e] <= r < offsets[e + 1], in fp32, and rounded
    once to x's type; rows from offsets[E] on are not written. Any row count, any spread. Nothing on the host waits
    for the device. With weights in e4m3 x is quantised first, and "in fp32" holds as far as the device does it (see
    grouped_gemm_kernel.py). Raises ValueError for tensors that do not fit together.
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
    """The grouped GEMM of one kind. `config` and `tiles` (of the config's height) save choosing and building them.

    Rows for weights in e4m3 may come quantised or not.
    """
    _check(rows, weights, kind)
    device = device_of(rows.x)
    columns = weights.rows // 2 if kind == "swiglu" else weights.rows
    out = torch.empty(rows.total, columns, dtype=rows.dtype or rows.x.dtype, device=rows.x.device)
    if not rows.total:
        return out
    if config is None:
        config = config_for(problem_of(rows, weights, kind), device)
    if tiles is None or tiles.height != config.block_m:
        tiles = tiles_of(rows.offsets, rows.total, config.block_m)
    if weights.scales and rows.scales is None:
        rows = rows.quantised()
    if config.gather == "separate":
        rows = rows.in_order()
    x, token_of_row = _readable(rows.x), rows.token_of_row
    loads = usable_loads(config.weights, weights, device)
    out_width = config.block_n // 2 if kind == "swiglu" else config.block_n
    most = len(tiles.expert) * triton.cdiv(columns, out_width)
    launch(
        grouped_gemm_kernel,
        (min(device.processors * config.programs_per_processor, most),),
        x,
        x,
        x if rows.scales is None else rows.scales,
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
        SCALED=rows.scales is not None,
        PROMOTE=config.promote if rows.scales is not None and device.sums_e4m3_in_few_bits else 0,
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
    if weights.dtype == E4M3:
        _check_scaled(rows, weights)
    elif x.dtype not in TYPES or x.dtype != weights.dtype:
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


def _check_scaled(rows: Rows, weights: ExpertTable) -> None:
    check_e4m3(rows.x)
    if not weights.scales:
        raise ValueError("weights in e4m3 need their scales behind them: make the table by scaled_expert_table")
    if (rows.x.dtype if rows.scales is None else rows.dtype) not in TYPES:
        raise ValueError(f"x is {rows.x.dtype}, the result {rows.dtype}: one of {TYPES} is needed for weights in e4m3")
    if rows.scales is not None and (rows.x.dtype, rows.scales.dtype, rows.scales.shape) != (
        E4M3,
        torch.float32,
        rows.x.shape[:1],
    ):
        raise ValueError(
            f"x is {list(rows.x.shape)} {rows.x.dtype}, its scales {list(rows.scales.shape)} {rows.scales.dtype}: "
            f"{E4M3} and a torch.float32 for each row are needed"
        )
