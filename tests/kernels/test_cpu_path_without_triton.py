"""The plain-torch kernels, and what only chooses tile sizes, work where Triton is not installed."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    "module",
    [
        "grouped_mlp",
        "gemm_config",
        "bench_problems",
        "expert_table",
        "masked_rows_reference",
        "residual_reference",
        "scaled_experts",
        "scaled_grouped_mlp",
    ],
)
def test_it_does_not_load_triton(module: str) -> None:
    code = f"""
import sys
sys.modules["triton"] = None  # importing it fails, as if it were not installed
import dwdp_kernels.{module}
"""
    subprocess.run([sys.executable, "-c", code], check=True)
