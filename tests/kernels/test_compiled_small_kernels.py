"""The small kernels compile for GPUs that need not be here, keep everything in registers and read what they may."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("triton", reason="Triton has no build for this machine")
if sys.platform != "linux":
    pytest.skip("Triton's compiler for CUDA runs on Linux", allow_module_level=True)

import triton
from dwdp_kernels.choice_kernel import choice_kernel
from dwdp_kernels.masked_rows_kernels import add_kernel, put_kernel, visited_kernel
from dwdp_kernels.quantise_kernel import quantise_kernel
from dwdp_kernels.residual import warps_for
from dwdp_kernels.residual_kernels import add_norm_kernel, combine_kernel, norm_kernel
from dwdp_kernels.rotary_kernel import rotary_kernel
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def made(
    kernel: Any,
    kinds: dict[str, str],
    fixed: dict[str, Any],
    capability: int,
    sixteens: tuple[str, ...] = (),
    **options: Any,
) -> dict[str, str]:
    """The stages of compilation. `sixteens`: arguments that are multiples of 16."""
    names = {name: kinds.get(name, "constexpr") for name in kernel.arg_names}
    known = {(kernel.arg_names.index(name),): [["tt.divisibility", 16]] for name in sixteens}
    target = GPUTarget("cuda", capability, 32)
    stages: dict[str, str] = triton.compile(ASTSource(kernel, names, fixed, known), target, options).asm
    return stages


def compiled(
    kernel: Any,
    kinds: dict[str, str],
    fixed: dict[str, Any],
    capability: int,
    warps: int,
    sixteens: tuple[str, ...] = (),
) -> str:
    return made(kernel, kinds, fixed, capability, sixteens, num_warps=warps)["ptx"]


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


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_rows_go_into_peers_memory_16_bytes_at_once(capability: int) -> None:
    numbers = dict.fromkeys(("first", "end", "columns"), "i32")
    aligned = ("rows", "target", *numbers)
    kinds = {"rows": "*i32", "wanted": "*i1", "target": "i64", **numbers}
    ptx = compiled(put_kernel, kinds, {"ALIGNED": True, "ROWS": 4, "BLOCK": 1024}, capability, 4, aligned)
    assert len(re.findall(r"ld\.global\.v4\.b32", ptx)) == len(re.findall(r"st\.global\.v4\.b32", ptx)) == 8
    assert not re.findall(r"st\.global\.b\d", ptx)
    assert ".local" not in ptx


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("element", ["bf16", "fp16", "fp32"])
def test_sums_of_masked_rows_are_read_16_bytes_at_once(element: str, capability: int) -> None:
    kinds = {
        **dict.fromkeys(("total", "part", "out"), f"*{element}"),
        **dict.fromkeys(("total_given", "part_given"), "*i1"),
        **dict.fromkeys(("first", "end", "columns"), "i32"),
    }
    aligned = tuple(name for name in kinds if not name.endswith("_given"))
    ptx = compiled(add_kernel, kinds, {"WHOLE_TOTAL": False, "ROWS": 4, "BLOCK": 1024}, capability, 4, aligned)
    assert re.findall(r"ld\.global\.v4\.b32", ptx)
    assert not re.findall(r"(ld|st)\.global\.b(16|32)", ptx)
    assert ".local" not in ptx


@pytest.mark.parametrize("capability", [80, 90, 100])
def test_finding_ranks_keeps_tokens_in_registers(capability: int) -> None:
    kinds = {"ids": "*i32", "owners": "*i32", "visited": "*i1", "tokens": "i32", "experts": "i32", "ranks": "i32"}
    assert ".local" not in compiled(visited_kernel, kinds, {"TOP_K": 8, "PADDED": 8, "BLOCK": 64}, capability, 4)


@pytest.mark.parametrize("capability", [80, 90, 100])
@pytest.mark.parametrize("element", ["bf16", "fp16", "fp32"])
@pytest.mark.parametrize("hidden", [7, 64, 2048, 2880, 16384])
def test_each_kernel_with_a_norm_lays_a_row_out_alike_and_sums_it_without_contraction(
    hidden: int, element: str, capability: int
) -> None:
    """So the order in which a row's squares are summed, and with it the norm's bits, do not depend on the kernel."""
    one = dict.fromkeys(("x", "weight", "out"), f"*{element}") | {"eps": "fp32"}
    two = dict.fromkeys(("before", "added", "weight", "total", "normed"), f"*{element}") | {"eps": "fp32"}
    sums = dict.fromkeys(("rows", "weights", "norm_weight", "out", "normed"), f"*{element}")
    sums |= {"row_of_visit": "*i32", "eps": "fp32"}
    all_sums = sums | {"shared": f"*{element}", "before": f"*{element}"}
    block, layouts = triton.next_power_of_2(hidden), set()
    for kernel, kinds, more in (
        (norm_kernel, one, {}),
        (add_norm_kernel, two, {}),
        (combine_kernel, sums, {"TOP_K": 2, "shared": None, "before": None}),
        (combine_kernel, all_sums, {"TOP_K": 8}),
    ):
        aligned = tuple(name for name, kind in kinds.items() if kind.startswith("*"))
        fixed = {"H": hidden, "BLOCK": block, **more}
        options = {"num_warps": warps_for(hidden), "enable_fp_fusion": False}
        stages = made(kernel, kinds, fixed, capability, aligned, **options)
        layouts |= set(layouts_summed(stages["ttgir"]))
        ptx = stages["ptx"]
        assert ".local" not in ptx
        fused = sum(2 if packed else 1 for packed in re.findall(r"fma\.rn\.f32(x2)?", ptx))
        elements = block // (32 * warps_for(hidden)) or 1
        assert fused == fixed.get("TOP_K", 0) * elements, "those that are written, and no other"
        if hidden >= 2048:
            assert re.findall(r"ld\.global\.v4\.b32", ptx)
            assert not re.findall(r"st\.global\.b(16|32)", ptx)
    assert len(layouts) == 1


def layouts_summed(ttgir: str) -> list[str]:
    """How what is summed is spread over threads."""
    names = re.findall(r'"tt\.reduce".*?\}\) : \(tensor<\w+, (#\w+)>\)', ttgir, re.DOTALL)
    assert len(names) == 1
    return [re.findall(rf"^{name} = (.*)$", ttgir, re.MULTILINE)[0] for name in names]
