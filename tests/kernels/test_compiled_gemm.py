"""What the grouped GEMM compiles to, on any machine that has Triton: TMA and tensor cores are lost silently."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dwdp_data
import pytest
from dwdp_kernels.gemm_config import GemmConfig, Kind, WeightLoads

pytest.importorskip("triton", reason="Triton has no build for this machine")
if sys.platform != "linux":
    pytest.skip("Triton's compiler for CUDA runs on Linux", allow_module_level=True)

from compiled_gemm import ELEMENTS, compile_gemm, instructions

RULES = json.loads((Path(dwdp_data.__file__).parent / "kernels" / "default.json").read_text())["rules"]
SHARED_KIB = {(7, 5): 64, (8, 0): 163, (8, 6): 99, (8, 9): 99, (9, 0): 227, (10, 0): 227, (12, 0): 99}
"""Shared memory of one program: CUDA programming guide, table of compute capabilities."""
FIRST = {"bf16": (8, 0), "fp8e4nv": (8, 9)}
"""Where a type begins to exist."""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def rules() -> Iterator[tuple[dict[str, Any], Kind, tuple[int, int], str]]:
    """Every rule on every device and type that it is meant for, as far as no earlier rule takes it."""
    for capability in SHARED_KIB:
        for element, size in ELEMENTS.items():
            for kind in ("product", "swiglu"):
                for rule in RULES:
                    fits = kind in rule["kinds"] and size <= rule["element_bytes_at_most"]
                    if fits and capability >= tuple(rule["capability_at_least"]):
                        if (element, kind) != ("fp16", "swiglu"):  # as bf16
                            yield rule, kind, capability, element
                        if not rule["rows_per_expert_at_least"]:
                            break


@pytest.mark.parametrize(
    ("rule", "kind", "capability", "element"),
    [
        pytest.param(*case, id=f"{case[1]}-{case[2][0]}.{case[2][1]}-{case[3]}-{case[0]['config']['block_m']}")
        for case in rules()
        if case[2] >= FIRST.get(case[3], (0, 0))
        # one of a family with equal shared memory is enough, unless it is the first with e4m3
        and (case[2] not in ((8, 9), (10, 0)) or case[2] == FIRST.get(case[3]))
    ],
)
def test_every_default_compiles_and_fits_its_devices(
    rule: dict[str, Any], kind: Kind, capability: tuple[int, int], element: str
) -> None:
    made = compile_gemm(GemmConfig(**rule["config"]), kind, capability, element)
    assert made.shared_bytes <= 1024 * SHARED_KIB[capability]
    # tiles are sized for data centres' GPUs; Triton 3.6 spills a few registers on the newest consumers'
    assert not (made.spills and (8, 0) <= capability < (12, 0))


HOPPER = GemmConfig(128, 256, 64, stages=3)


@pytest.mark.parametrize("kind", ["product", "swiglu"])
@pytest.mark.parametrize("loads", ["reach", "each"])
def test_hopper_loads_and_stores_by_tma_and_multiplies_by_wgmma(kind: Kind, loads: WeightLoads) -> None:
    config = GemmConfig(**{**HOPPER.__dict__, "weights": loads, "gather": "separate"})
    made = compile_gemm(config, kind, (9, 0), whole_k=False)
    # rows are two-dimensional; weights have a dimension more for the table, and one for gate and up
    dimensions = 2 + (loads == "reach") + (kind == "swiglu")
    loaded = instructions(made.ptx, r"cp\.async\.bulk\.tensor\.\dd\.shared")
    assert {name.split(".")[4] for name in loaded} == {"2d", f"{dimensions}d"}
    assert instructions(made.ptx, r"cp\.async\.bulk\.tensor\.3d\.global")
    assert instructions(made.ptx, r"wgmma\.mma_async\.sync\.aligned\.m64n256k16\.f32\.bf16")
    # nothing else touches memory: accumulators go to the stores without an exchange between threads
    assert not instructions(made.ptx, r"cp\.async\.c[ag]")
    assert not instructions(made.ptx, r"ld\.shared|ldmatrix")
    assert not instructions(made.ptx, r"st\.global\.v")
    assert not made.spills


def test_hopper_gathers_rows_in_pieces_of_16_bytes_while_weights_come_by_tma() -> None:
    made = compile_gemm(HOPPER, "swiglu", (9, 0))
    assert instructions(made.ptx, r"cp\.async\.cg\.shared")
    assert instructions(made.ptx, r"cp\.async\.bulk\.tensor\.4d\.shared")
    assert instructions(made.ptx, r"wgmma\.mma_async\.sync\.aligned\.m64n256k16\.f32\.bf16")
    assert not made.spills


E4M3_TILES = {
    "fast": GemmConfig(128, 256, 128, stages=3, gather="separate"),
    "promoted": GemmConfig(128, 128, 128, stages=4, gather="separate", promote=512),
}


@pytest.mark.parametrize("kind", ["product", "swiglu"])
@pytest.mark.parametrize("sums", ["fast", "promoted"])
def test_hopper_multiplies_e4m3_by_wgmma_and_waits_for_none_but_promoted_sums(kind: Kind, sums: str) -> None:
    config = E4M3_TILES[sums]
    made = compile_gemm(config, kind, (9, 0), "fp8e4nv", whole_k=False)
    assert len(instructions(made.ptx, r"cp\.async\.bulk\.tensor\.\dd\.shared")) == 2
    assert instructions(made.ptx, r"cp\.async\.bulk\.tensor\.3d\.global")
    assert instructions(made.ptx, rf"wgmma\.mma_async\.sync\.aligned\.m64n{config.block_n}k32\.f32\.e4m3\.e4m3")
    waits = re.findall(r"wgmma\.wait_group\.sync\.aligned (\d)", made.ptx)
    assert waits.count("1") == 1, "each block's products run while the next block is issued"
    # for all at the end of a tile; with promoted sums also where they are added
    assert waits.count("0") == 1 + (sums == "promoted")
    assert not made.spills


@pytest.mark.parametrize(("capability", "adds"), [((8, 9), True), ((9, 0), True), ((10, 0), False)])
def test_sums_are_promoted_where_tensor_cores_keep_few_bits(capability: tuple[int, int], adds: bool) -> None:
    """Ada's do as Hopper's; what is added outside of them shows as additions, one for each of a thread's sums."""
    config = GemmConfig(128, 128, 64, stages=3, weights="plain", promote=256)
    made = compile_gemm(config, "product", capability, "fp8e4nv")
    added = len(re.findall(r"^\s*add(?:\.rn)?\.f32 ", made.ptx, re.MULTILINE))
    sums = config.block_m * config.block_n // (32 * config.warps)
    assert (added >= sums) == adds
    assert not made.spills


def test_devices_before_hopper_use_plain_loads_and_tensor_cores() -> None:
    made = compile_gemm(GemmConfig(128, 128, 32, stages=4), "product", (8, 0))
    assert instructions(made.ptx, r"mma\.sync")
    assert instructions(made.ptx, r"cp\.async\.cg\.shared")
    assert not instructions(made.ptx, r"cp\.async\.bulk")
