"""How far a decoder's output may be from the exact one, and the comparison that holds it to that."""

from __future__ import annotations

import math

import torch
from dwdp_kernels.e4m3 import largest_error
from torch import Tensor

from dwdp_lab.model.supported import grouped_query, torch_dtype
from dwdp_lab.scenario.model_shape import ModelShape

# Roundings to the activation type on a token's way through a layer.
# Attention: norm, q/k/v, rotation, attention weights, their sum, output projection, residual.
_ATTENTION_ROUNDINGS = 7
# MLP or experts: norm, gate and up, silu, product, w2, expert weights, their sum, shared sum, residual.
_MLP_ROUNDINGS = 9
# Rounding to e4m3 in the root mean square: the spacing in [1, 2) is 1/8, an error spread evenly over it has deviation
# 1/8 / sqrt(12), and the mean of 1/x^2 over [1, 2) is 1/2.
_E4M3_DEVIATION = 1 / 8 / math.sqrt(12) / math.sqrt(2)
# The lambda of Higham and Mary's bound: how many deviations of the accumulated error still count as rounding.
# Measured errors are near 0.4 u sqrt(n) at 4 layers, and, because layers pass earlier errors on enlarged, near
# 1.3 u sqrt(n) at 64; in outputs of a few elements they reach 1.7.
_DEVIATIONS = 3.0


class OracleMismatch(AssertionError):  # noqa: N818 - it reads as what it reports
    """A run does not agree with the oracle: not rounding, but a wrong weight, token or order."""


def error_bound(shape: ModelShape) -> float:
    """The largest max |a - b| / max |b| that rounding explains, for output a of `shape` against the exact b.

    n independent roundings with unit roundoff u leave a relative error of at most lambda u sqrt(n), lambda a
    small constant (Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019). Two
    kinds count: those to `shape.dtype`, a fixed number a layer, and those of fp32 sums, one for each term of
    a dot product. The context's length does not enter: attention is an average, which enlarges no error.

    With experts in `fp8_channel`, whose quantised weights are the model's, two more roundings a layer are to e4m3: of
    the experts' input and of the product of gate and up. They are told by their deviation, 2.6 %, which is 40 % of the
    unit roundoff; each product of them may also be summed with few bits (kernels/e4m3.py).
    """
    heads = grouped_query(shape)
    width = heads.heads * heads.head_dim
    attention_terms = 3 * shape.hidden + heads.head_dim + width
    mlp = max(shape.expert_intermediate * max(1, shape.shared_experts), shape.dense_intermediate)
    terms = attention_terms + 3 * shape.hidden + mlp + shape.top_k
    roundings = _ATTENTION_ROUNDINGS + _MLP_ROUNDINGS
    scaled = shape.expert_dtype == "fp8_channel"
    if shape.expert_dtype != shape.dtype and not scaled:  # w13 and w2 are cast
        roundings += 2
    in_dtype = shape.layers * roundings + 1  # 1: the final norm
    variance = in_dtype * _unit_roundoff(torch_dtype(shape.dtype, "model.dtype")) ** 2
    variance += shape.layers * terms * _unit_roundoff(torch.float32) ** 2
    if scaled:
        sums = sum(largest_error(columns) ** 2 for _, (_, columns) in shape.expert_matrices)
        variance += shape.moe_layers * (2 * _E4M3_DEVIATION**2 + sums)
    return _DEVIATIONS * math.sqrt(variance)


def relative_error(output: Tensor, exact: Tensor) -> float:
    """max |output - exact| / max |exact| in fp64, 0 for empty tensors.

    Raises OracleMismatch for unequal sizes.
    """
    if output.shape != exact.shape:
        raise OracleMismatch(f"output has size {tuple(output.shape)}, the oracle's {tuple(exact.shape)}")
    if not exact.numel():
        return 0.0
    exact = exact.double().cpu()
    return float((output.double().cpu() - exact).abs().max() / exact.abs().max())


def compare(output: Tensor, oracle_output: Tensor, shape: ModelShape) -> float:
    """The relative error of an output [T, H] against the oracle's.

    Raises OracleMismatch, with the error, the bound and the worst token, when rounding does not explain it.
    """
    error, bound = relative_error(output, oracle_output), error_bound(shape)
    if not error <= bound:  # this way round a NaN fails too
        errors = (output.double().cpu() - oracle_output.double().cpu()).abs().amax(1)
        worst = errors.nan_to_num(torch.inf).argmax()
        told = f"{shape.dtype} and e4m3" if shape.expert_dtype == "fp8_channel" else shape.dtype
        raise OracleMismatch(
            f"relative error {error:.3g} is more than rounding in {told} explains ({bound:.3g}); "
            f"the worst of {len(output)} tokens is token {int(worst)}"
        )
    return error


def _unit_roundoff(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2
