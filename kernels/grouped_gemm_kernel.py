"""The Triton kernel of the grouped GEMM: persistent programs, expert weights found by a table of addresses.

Row r of x belongs to the expert e with offsets[e] <= r < offsets[e + 1]; out[r] = x[r] @ w[e].T, summed in fp32.
A tile is block_m rows of one expert times block_n output columns. Rows of a tile that the next expert owns
are computed with the wrong weights and never stored, so loads need no mask per row.

How a weight tile is found (WEIGHTS):
- "reach": one TMA descriptor over every buffer at once. Its outermost stride is the largest unit that divides the
  distances between all experts (see expert_table.py), so that an expert is a coordinate and nothing is built
  inside the loop.
- "each": a TMA descriptor per tile, built from the expert's address. For tables that no single descriptor spans.
- "plain": pointer loads; every GPU, and the CPU interpreter.

With SWIGLU the weights are [2I, K], I rows of gate above I rows of up, as checkpoints have them. They are read as
[2, I, K]: one load brings block_n / 2 rows of both, one product makes both halves, and the halves of the
accumulator lie in the same thread, so the product silu(gate) * up costs no exchange and nothing is re-packed.

With SCALED x and w are e4m3: a row of x and a row of w each have an fp32 scale, those of w right behind its expert's
last row (see scaled_experts.py). One product of two scales is left of them after the sum over K, so they cost nothing
in the loop. Ada's and Hopper's tensor cores add e4m3 products with 13 bits behind the leading one, whatever the type of
the sum (DeepSeek-V3, arXiv 2412.19437, section 3.3.2; SageAttention2, arXiv 2411.10958). With PROMOTE they sum so many
columns of x and w, and these sums are added in fp32 outside of them; with 0 they sum all of K.
"""

# triton.jit compiles these functions from their source: constexpr is the only annotation it knows, and capitals
# mark what is fixed when it compiles
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs, allow-untyped-decorators
# ruff: noqa: N803, N806, SIM102, SIM108
from __future__ import annotations

import triton
import triton.language as tl

ANY_COORDINATE = tl.constexpr(0x7FFF0000)
"""The length of a descriptor's dimension that only serves to place the others."""


@triton.jit
def tile_place(tile, m_tiles, n_tiles, GROUP_M: tl.constexpr):
    """Which rows and columns the tile-th piece of work is.

    GROUP_M row tiles take turns within one column before the next column starts, so that concurrent programs
    share weights and rows in L2.
    """
    per_group = GROUP_M * n_tiles
    first = tile // per_group * GROUP_M
    height = tl.minimum(m_tiles - first, GROUP_M)
    within = tile % per_group
    return first + within % height, within // height


@triton.jit
def weight_rows(start, inner, BLOCK_N: tl.constexpr, SWIGLU: tl.constexpr):
    """The BLOCK_N rows of w that make the output columns from `start` on, and which of them exist."""
    j = tl.arange(0, BLOCK_N)
    if SWIGLU:
        half: tl.constexpr = BLOCK_N // 2
        column = start + j % half
        return column + (j // half) * inner, column < inner
    return start + j, start + j < inner


@triton.jit
def halves(tile, HEIGHT: tl.constexpr, WIDTH: tl.constexpr):
    """The left and the right half of a tile, each [HEIGHT, WIDTH / 2]."""
    return tl.split(tl.permute(tl.reshape(tile, (HEIGHT, 2, WIDTH // 2)), (0, 2, 1)))


@triton.jit
def swiglu(both, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """[BLOCK_M, BLOCK_N / 2]: silu(gate) * up of an accumulator that holds gate to the left of up."""
    gate, up = halves(both, BLOCK_M, BLOCK_N)
    return gate * tl.sigmoid(gate) * up


@triton.jit(do_not_specialize=["rows"])
def grouped_gemm_kernel(
    x,
    x_scales,
    row_of_x,
    table,
    out,
    offsets,
    tile_expert,
    tile_row,
    tile_count,
    rows,
    K,
    OUT,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    GROUP_M: tl.constexpr,
    WEIGHTS: tl.constexpr,
    TMA_ROWS: tl.constexpr,
    GATHER: tl.constexpr,
    SWIGLU: tl.constexpr,
    WHOLE_K: tl.constexpr,
    STORES: tl.constexpr,
    SCALED: tl.constexpr,
    PROMOTE: tl.constexpr,
):
    """out[r, :OUT] for the rows of all tiles. OUT is N, or I with SWIGLU.

    With GATHER row r is x[row_of_x[r]]. `rows` are the rows of `out`, and of x without GATHER. `table` is an
    ExpertTable's: base address, unit in elements, then an address for each expert. `x_scales` has one for each row
    of x with SCALED, and is not read without.
    """
    dtype: tl.constexpr = x.dtype.element_ty
    BLOCK_OUT: tl.constexpr = BLOCK_N // 2 if SWIGLU else BLOCK_N
    stride_k = K.to(tl.int64)
    n_tiles = tl.cdiv(OUT, BLOCK_OUT)
    m_tiles = tl.load(tile_count)
    if TMA_ROWS:
        if not GATHER:
            x_tiles = tl.make_tensor_descriptor(
                x, shape=[rows, K], strides=[stride_k, 1], block_shape=[BLOCK_M, BLOCK_K]
            )
        # a store must end with its expert's rows, wherever in the tile that is, and only the hardware's bounds
        # check clips for free: rows `first` on are reached from BLOCK_M before `out` by going first + height
        # along one dimension and BLOCK_M - height along another, of which nothing past BLOCK_M is stored
        stride_out = OUT.to(tl.int64)
        out_tiles = tl.make_tensor_descriptor(
            out - BLOCK_M * stride_out,
            shape=[ANY_COORDINATE, BLOCK_M, OUT],
            strides=[stride_out, stride_out, 1],
            block_shape=[1, BLOCK_M, BLOCK_OUT // STORES],
        )
    if WEIGHTS == "reach":
        base = tl.load(table)
        unit = tl.load(table + 1)
        all_weights = tl.multiple_of(base.to(tl.pointer_type(dtype)), 16)
        if SWIGLU:
            reach = tl.make_tensor_descriptor(
                all_weights,
                shape=[ANY_COORDINATE, 2, OUT, K],
                strides=[unit, OUT * stride_k, stride_k, 1],
                block_shape=[1, 2, BLOCK_OUT, BLOCK_K],
            )
        else:
            reach = tl.make_tensor_descriptor(
                all_weights,
                shape=[ANY_COORDINATE, OUT, K],
                strides=[unit, stride_k, 1],
                block_shape=[1, BLOCK_N, BLOCK_K],
            )
    for tile in tl.range(tl.program_id(0), m_tiles * n_tiles, tl.num_programs(0)):
        m_tile, n_tile = tile_place(tile, m_tiles, n_tiles, GROUP_M)
        expert = tl.load(tile_expert + m_tile).to(tl.int64)
        first = tl.load(tile_row + m_tile)
        end = tl.load(offsets + expert + 1)
        column = n_tile * BLOCK_OUT
        address = tl.load(table + 2 + expert)
        row = first + tl.arange(0, BLOCK_M)
        ks = tl.arange(0, BLOCK_K)
        if GATHER:
            source = tl.load(row_of_x + row, mask=row < end, other=0)
            x_rows = x + source.to(tl.int64)[:, None] * stride_k + ks[None, :]
        elif not TMA_ROWS:
            x_rows = x + tl.minimum(row, rows - 1).to(tl.int64)[:, None] * stride_k + ks[None, :]
        if WEIGHTS == "reach":
            coordinate = ((address - base) // (unit * (dtype.primitive_bitwidth // 8))).to(tl.int32)
        else:
            pointer = tl.multiple_of(address.to(tl.pointer_type(dtype)), 16)
            if WEIGHTS == "each":
                if SWIGLU:
                    each = tl.make_tensor_descriptor(
                        pointer,
                        shape=[2, OUT, K],
                        strides=[OUT * stride_k, stride_k, 1],
                        block_shape=[2, BLOCK_OUT, BLOCK_K],
                    )
                else:
                    each = tl.make_tensor_descriptor(
                        pointer, shape=[OUT, K], strides=[stride_k, 1], block_shape=[BLOCK_N, BLOCK_K]
                    )
            else:
                w_row, w_real = weight_rows(column, OUT, BLOCK_N, SWIGLU)
                w_rows = pointer + w_row.to(tl.int64)[:, None] * stride_k + ks[None, :]
        if SCALED:
            # read before the loop, which hides how long that takes
            behind = (OUT * 2 if SWIGLU else OUT) * stride_k
            w_scales = tl.multiple_of((address + behind).to(tl.pointer_type(tl.float32)), 16)
            scale_row, scale_real = weight_rows(column, OUT, BLOCK_N, SWIGLU)
            w_scale = tl.load(w_scales + scale_row, mask=scale_real, other=0.0)
            if GATHER:
                x_scale = tl.load(x_scales + source)
            else:
                x_scale = tl.load(x_scales + row, mask=row < end, other=0.0)
        both = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        if PROMOTE:
            total = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        for k in range(0, K, BLOCK_K):
            if GATHER or not TMA_ROWS:
                if WHOLE_K:
                    a = tl.load(x_rows + k)
                else:
                    a = tl.load(x_rows + k, mask=ks[None, :] < K - k, other=0.0)
            else:
                a = x_tiles.load([first, k])
            if WEIGHTS == "reach":
                if SWIGLU:
                    w = reach.load([coordinate, 0, column, k])
                else:
                    w = reach.load([coordinate, column, k])
                w = tl.reshape(w, (BLOCK_N, BLOCK_K))
            elif WEIGHTS == "each":
                if SWIGLU:
                    w = tl.reshape(each.load([0, column, k]), (BLOCK_N, BLOCK_K))
                else:
                    w = each.load([column, k])
            elif WHOLE_K:
                w = tl.load(w_rows + k, mask=w_real[:, None], other=0.0)
            else:
                w = tl.load(w_rows + k, mask=w_real[:, None] & (ks[None, :] < K - k), other=0.0)
            both = tl.dot(a, w.T, both, input_precision="ieee")
            if PROMOTE:
                if (k + BLOCK_K) % PROMOTE == 0:
                    total += both
                    both = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        if PROMOTE:
            both += total
        if SCALED:
            both = both * x_scale[:, None] * w_scale[None, :]
        if SWIGLU:
            result = swiglu(both, BLOCK_M, BLOCK_N).to(out.dtype.element_ty)
        else:
            result = both.to(out.dtype.element_ty)
        if TMA_ROWS:
            height = tl.minimum(end - first, BLOCK_M)
            if STORES == 1:
                out_tiles.store([first + height, BLOCK_M - height, column], tl.reshape(result, (1, BLOCK_M, BLOCK_OUT)))
            else:
                left, right = halves(result, BLOCK_M, BLOCK_OUT)
                out_tiles.store(
                    [first + height, BLOCK_M - height, column], tl.reshape(left, (1, BLOCK_M, BLOCK_OUT // 2))
                )
                out_tiles.store(
                    [first + height, BLOCK_M - height, column + BLOCK_OUT // 2],
                    tl.reshape(right, (1, BLOCK_M, BLOCK_OUT // 2)),
                )
        else:
            columns = column + tl.arange(0, BLOCK_OUT)
            places = out + row.to(tl.int64)[:, None] * OUT + columns[None, :]
            tl.store(places, result, mask=(row < end)[:, None] & (columns < OUT)[None, :])
