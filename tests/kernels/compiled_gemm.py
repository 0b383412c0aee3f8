"""The grouped GEMM's kernel compiled for a GPU that need not be here, and what its machine code uses."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

import triton
from dwdp_kernels.gemm_config import GemmConfig, Kind
from dwdp_kernels.grouped_gemm_kernel import grouped_gemm_kernel
from dwdp_kernels.launch import Device
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

ELEMENTS = {"bf16": 2, "fp16": 2, "fp32": 4, "fp8e4nv": 1}


class Compiled(NamedTuple):
    """What one variant of the kernel became."""

    ptx: str
    shared_bytes: int
    spills: bool
    """whether registers went to local memory"""


def compile_gemm(
    config: GemmConfig,
    kind: Kind,
    capability: tuple[int, int],
    element: str = "bf16",
    whole_k: bool = True,
) -> Compiled:
    """Compile as launching would: every pointer, K and the output's width are multiples of 16."""
    tma = config.weights != "plain" and capability >= (9, 0)
    few_bits = Device("none that is here", capability, 1).sums_e4m3_in_few_bits
    kinds = {
        "x": f"*{element}",
        "x_scales": "*fp32",
        "out": "*bf16" if element == "fp8e4nv" else f"*{element}",
        **dict.fromkeys(("row_of_x", "offsets", "tile_expert", "tile_row", "tile_count"), "*i32"),
        "table": "*i64",
        **dict.fromkeys(("rows", "K", "OUT"), "i32"),
    }
    fixed = {
        "BLOCK_M": config.block_m,
        "BLOCK_N": config.block_n,
        "BLOCK_K": config.block_k,
        "GROUP_M": config.group_m,
        "WEIGHTS": config.weights if tma else "plain",
        "TMA_ROWS": tma,
        "GATHER": kind == "swiglu" and config.gather == "fused",
        "SWIGLU": kind == "swiglu",
        "WHOLE_K": whole_k,
        "STORES": config.stores,
        "SCALED": element == "fp8e4nv",
        "PROMOTE": config.promote if element == "fp8e4nv" and few_bits else 0,
    }
    names = grouped_gemm_kernel.arg_names
    source = ASTSource(
        grouped_gemm_kernel,
        {name: kinds.get(name, "constexpr") for name in names},
        {(names.index(name),): value for name, value in fixed.items()},
        {(place,): [["tt.divisibility", 16]] for place, name in enumerate(names) if name in kinds and name != "rows"},
    )
    target = GPUTarget("cuda", 10 * capability[0] + capability[1], 32)
    made = triton.compile(source, target, {"num_warps": config.warps, "num_stages": config.stages})
    return Compiled(made.asm["ptx"], made.metadata.shared, _spills(made.asm["cubin"]))


def instructions(ptx: str, pattern: str) -> list[str]:
    """The different instructions whose name fits a pattern."""
    return sorted(set(re.findall(rf"^\s*(?:@\S+ )?({pattern}\S*)", ptx, re.MULTILINE)))


def _spills(cubin: bytes) -> bool:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        told = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"STACK:(\d+).*LOCAL:(\d+)", told)
    assert found, told
    return found.groups() != ("0", "0")
