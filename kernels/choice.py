"""Each token's experts from the router's logits, in one kernel. Beside it the plain-torch reference."""

from __future__ import annotations

import torch
import triton
from dwdp_kernels.choice_kernel import choice_kernel
from dwdp_kernels.launch import device_of, launch
from torch import Tensor


def choose_experts(
    logits: Tensor, bias: Tensor, top_k: int, normalise: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """ids [T, k] int32, best first, and weights [T, k] in `dtype`, from finite fp32 logits [T, E] and bias [E].

    The k largest of logit + bias are chosen, of equal ones the lower. Weights are the softmax of the logits without the
    bias, scaled to sum to 1 if `normalise`. Raises ValueError for tensors that do not fit.
    """
    _check(logits, bias, top_k)
    tokens, experts = logits.shape
    ids = torch.empty(tokens, top_k, dtype=torch.int32, device=logits.device)
    weights = torch.empty(tokens, top_k, dtype=dtype, device=logits.device)
    if tokens:
        device_of(logits)
        launch(
            choice_kernel,
            (tokens,),
            logits,
            logits.contiguous(),
            bias.contiguous(),
            ids,
            weights,
            experts,
            TOP_K=top_k,
            NORMALISE=normalise,
            PADDED=triton.next_power_of_2(experts),
            PLACES=triton.next_power_of_2(top_k),
            num_warps=1,
        )
    return ids, weights


def choose_experts_reference(
    logits: Tensor, bias: Tensor, top_k: int, normalise: bool, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """What choose_experts gives."""
    _check(logits, bias, top_k)
    ids = (logits + bias).argsort(dim=1, descending=True, stable=True)[:, :top_k]
    chosen = logits.softmax(-1).gather(1, ids)
    if normalise:
        chosen = chosen / chosen.sum(-1, keepdim=True)
    return ids.int(), chosen.to(dtype)


def _check(logits: Tensor, bias: Tensor, top_k: int) -> None:
    if logits.dim() != 2 or bias.shape != logits.shape[1:] or not 0 < top_k <= logits.shape[1]:
        raise ValueError(
            f"logits are {list(logits.shape)}, the bias {list(bias.shape)} and top_k is {top_k}: [T, E], [E] and 1 to "
            "E are needed"
        )
    if {logits.dtype, bias.dtype} != {torch.float32}:
        raise ValueError(f"logits are {logits.dtype} and the bias {bias.dtype}: torch.float32 is needed")
