"""How a grouped GEMM is cut into tiles: a choice per shape, from measured tables in data/kernels/ and from rules.

A table belongs to one device and Triton version, as `dwdp-lab bench kernels --tune` writes it. Where there is none,
or none of its shapes is near, the rules of default.json decide, which need no measurement.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import dwdp_data

Kind = Literal["product", "swiglu"]
WeightLoads = Literal["reach", "each", "plain"]
Gather = Literal["fused", "separate"]


class Problem(NamedTuple):
    """A grouped GEMM as far as the choice of its configuration depends on it."""

    kind: Kind
    """"product": x w^T. "swiglu": silu(x gate^T) * (x up^T), whose rows are gathered"""
    experts: int
    rows: int
    k: int
    n: int
    """output columns"""
    element_bytes: int


@dataclass(frozen=True)
class GemmConfig:
    """Tile sizes and ways of loading; see grouped_gemm_kernel.py."""

    block_m: int
    block_n: int
    """columns of the product; with SwiGLU twice those of the output"""
    block_k: int
    group_m: int = 8
    """row tiles that take turns within a column of tiles"""
    warps: int = 8
    stages: int = 3
    """tiles of x and w that are in flight or in use at once"""
    stores: int = 1
    """2: a tile is stored in two halves, through half the shared memory"""
    programs_per_processor: int = 1
    weights: WeightLoads = "reach"
    """how weight tiles are found; falls back from reach to each to plain"""
    gather: Gather = "fused"
    """whether SwiGLU's rows are gathered while multiplying, or copied into order before"""
    promote: int = 0
    """e4m3 on Ada and Hopper: columns (whole blocks of k) that tensor cores sum in few bits before fp32 does; 0: all"""

    def __post_init__(self) -> None:
        if self.promote % self.block_k:
            raise ValueError(f"promote is {self.promote}: whole blocks of k ({self.block_k} columns) are needed, or 0")


TOO_FAR = 1.0
"""Distance from which on a measured shape says nothing: a factor 2 in rows per expert, in k or in n, say."""


def choose_config(problem: Problem, device: str, capability: tuple[int, int], triton: str) -> GemmConfig:
    """The configuration for a problem on a device; of a table for exactly this Triton version if there is one.

    `device` is the name CUDA gives it, `capability` its compute capability, `triton` a version. Always finds one.
    """
    return _choose(problem, device, capability, triton)


@functools.lru_cache(maxsize=4096)
def _choose(problem: Problem, device: str, capability: tuple[int, int], triton: str) -> GemmConfig:
    tables = [table for table in _tables() if table["device"] == device]
    tables.sort(key=lambda table: table["triton"] != triton)
    for table in tables:
        near = [(distance(problem, _problem(entry)), i) for i, entry in enumerate(table["entries"])]
        if near and min(near)[0] < TOO_FAR:
            return GemmConfig(**table["entries"][min(near)[1]]["config"])
    return default_config(problem, capability)


def default_config(problem: Problem, capability: tuple[int, int]) -> GemmConfig:
    """The configuration that default.json's first fitting rule gives."""
    for rule in _rules():
        if (
            problem.kind in rule["kinds"]
            and problem.element_bytes <= rule["element_bytes_at_most"]
            and problem.rows >= rule["rows_per_expert_at_least"] * problem.experts
            and capability >= tuple(rule["capability_at_least"])
        ):
            return GemmConfig(**rule["config"])
    raise AssertionError("default.json ends with a rule that fits everything")


def distance(a: Problem, b: Problem) -> float:
    """How far two problems are apart: octaves in rows per expert, k and n; infinite for another kind or type."""
    if (a.kind, a.element_bytes) != (b.kind, b.element_bytes) or not (a.rows and b.rows):
        return math.inf
    octaves = (
        math.log2((a.rows / a.experts) / (b.rows / b.experts)),
        math.log2(a.k / b.k),
        math.log2(a.n / b.n),
    )
    return math.hypot(*octaves)


def table_entry(problem: Problem, config: GemmConfig, measured: dict[str, float]) -> dict[str, Any]:
    """An entry of a table in data/kernels/."""
    return {"problem": problem._asdict(), "config": asdict(config), "measured": measured}


def table_folders() -> list[Path]:
    """Where tables are, best first: the user's own, then the shipped ones."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return [cache / "dwdp-lab" / "kernels", Path(dwdp_data.__file__).parent / "kernels"]


def table_name(device: str, triton: str) -> str:
    """The file name of a device's table."""
    return re.sub(r"[^a-z0-9.]+", "-", f"{device} triton {triton}".lower()) + ".json"


def write_table(table: dict[str, Any]) -> Path:
    """Write a table beside the shipped ones, or, where that is not allowed, into the user's cache. Returns where."""
    text = json.dumps(table, indent=1) + "\n"
    name = table_name(table["device"], table["triton"])
    own, shipped = table_folders()
    try:
        (shipped / name).write_text(text, encoding="utf-8")
        written = shipped / name
    except OSError:
        own.mkdir(parents=True, exist_ok=True)
        (own / name).write_text(text, encoding="utf-8")
        written = own / name
    forget_tables()
    return written


def table_of_device(device: str, triton: str) -> dict[str, Any] | None:
    """The table that decides for a device and a Triton version, if there is one."""
    return next((table for table in _tables() if (table["device"], table["triton"]) == (device, triton)), None)


def forget_tables() -> None:
    """Read the tables anew when the next configuration is chosen."""
    _tables.cache_clear()
    _choose.cache_clear()


@functools.cache
def _tables() -> list[dict[str, Any]]:
    files = [path for folder in table_folders() for path in sorted(folder.glob("*-triton-*.json"))]
    return [json.loads(path.read_text(encoding="utf-8")) for path in files]


@functools.cache
def _rules() -> list[dict[str, Any]]:
    rules: list[dict[str, Any]] = json.loads((table_folders()[1] / "default.json").read_text(encoding="utf-8"))["rules"]
    return rules


def _problem(entry: dict[str, Any]) -> Problem:
    return Problem(**entry["problem"])
