"""The small kernels compile for GPUs that need not be here, keep everything in registers and read what they may."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton has no build for this machine")
if sys.platform != "linux":
    pytest.skip("Triton's compiler for CUDA runs on Linux", allow_module_level=True)

import triton
from dwdp_kernels.choice_kernel import choice_kernel
from dwdp_kernels.quantise_kernel import quantise_kernel
from dwdp_kernels.rotary_kernel import rotary_kernel
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def compiled(kernel: Any, kinds: dict[str, str], fixed: dict[str, Any], capability: int, warps: int) -> str:
    names = {name: kinds.get(name, "constexpr") for name in kernel.arg_names}
    target = GPUTarget("cuda", capability, 32)
    ptx: str = triton.compile(ASTSource(kernel, names, fixed), target, {"num_warps": warps}).asm["ptx"]
    return ptx


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("element", ["bf16", "fp16", "fp32"])
def test_they_compile_without_local_memory(element: str, capability: int) -> None:
    turned = {"x": f"*{element}", "cos": "*fp32", "sin": "*fp32", "heads": "i32", "row_stride": "i32"}
    ptx = compiled(rotary_kernel, turned, {"HALF": 64, "PADDED": 64, "HEADS": 4}, capability, 4)
    assert ".local" not in ptx
    chosen = {"logits": "*fp32", "bias": "*fp32", "ids": "*i32", "weights": f"*{element}", "experts": "i32"}
    sizes = {"TOP_K": 8, "NORMALISE": True, "PADDED": 128, "PLACES": 8}
    assert ".local" not in compiled(choice_kernel, chosen, sizes, capability, 1)


@pytest.mark.parametrize("capability", [89, 90, 100])
@pytest.mark.parametrize(("block", "warps"), [(1024, 1), (8192, 8)])
@pytest.mark.parametrize("up_to_end", [False, True])
def test_quantising_keeps_rows_in_registers_and_casts_by_one_instruction(
    capability: int, block: int, warps: int, up_to_end: bool
) -> None:
    kinds = {"x": "*bf16", "values": "*fp8e4nv", "scales": "*fp32", "K": "i32", "least": "fp32", "factor": "fp32"}
    kinds["end"] = "*i32" if up_to_end else "*fp32"
    rounds = capability < 90
    fixed = {"BLOCK": block, "ROUND": rounds, "UP_TO_END": up_to_end}
    ptx = compiled(quantise_kernel, kinds, fixed, capability, warps)
    assert ("cvt.rn.satfinite.e4m3x2.f32" in ptx) == (not rounds), (
        "elsewhere by way of fp16, with nothing left to round"
    )
    assert ".local" not in ptx
