"""What the benchmark calls transformers' own experts: the installed transformers computes the same layer."""

from __future__ import annotations

import pytest
import torch
from dwdp_kernels.grouped_mlp import grouped_mlp
from kernel_cases import relative_error, routed_case
from tiny_models import transformers_here


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_transformers_grouped_experts_are_the_same_layer(dtype: torch.dtype) -> None:
    transformers_here()
    pytest.importorskip("triton")
    from dwdp_kernels.bench_layer import transformers_experts

    case = routed_case(37, 3, 8, 64, 32, dtype)
    theirs = transformers_experts(torch.stack(list(case.w13)), torch.stack(list(case.w2)), 3)
    assert theirs is not None
    with torch.inference_mode():
        result = theirs(case.x, case.ids, case.weights)
    wide = ([weight.double() for weight in weights] for weights in (case.w13, case.w2))
    exact = grouped_mlp(case.x.double(), case.ids, case.weights.double(), *wide)
    assert relative_error(result, exact) <= 8 * torch.finfo(dtype).eps
