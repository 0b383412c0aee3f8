"""Which configuration a shape gets: a measured neighbour's, or a rule's."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dwdp_kernels import gemm_config
from dwdp_kernels.gemm_config import (
    GemmConfig,
    Problem,
    choose_config,
    default_config,
    distance,
    forget_tables,
    table_entry,
    table_folders,
    table_name,
    table_of_device,
    write_table,
)
from hypothesis import given
from hypothesis import strategies as st

PROBLEMS = st.builds(
    Problem,
    kind=st.sampled_from(["product", "swiglu"]),
    experts=st.integers(1, 512),
    rows=st.integers(1, 10**6),
    k=st.integers(1, 1000).map(lambda k: 16 * k),
    n=st.integers(1, 2000).map(lambda n: 16 * n),
    element_bytes=st.sampled_from([1, 2, 4]),
)
CAPABILITIES = st.sampled_from([(0, 0), (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (10, 3), (12, 0)])
ONE = Problem("product", 64, 65536, 2048, 1024, 2)
MEASURED = GemmConfig(64, 64, 64, warps=4)
OTHER = GemmConfig(32, 32, 32, warps=4)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Tables are read from a folder of the test's own, beside the shipped rules."""
    shipped = table_folders()[1]
    (tmp_path / "default.json").write_text((shipped / "default.json").read_text())
    monkeypatch.setattr(gemm_config, "table_folders", lambda: [tmp_path / "own", tmp_path])
    forget_tables()
    yield tmp_path
    forget_tables()


def table(triton: str, *entries: tuple[Problem, GemmConfig]) -> dict[str, Any]:
    return {
        "device": "Some GPU/80GB",
        "triton": triton,
        "entries": [table_entry(problem, config, {"median_us": 1.0}) for problem, config in entries],
    }


@given(problem=PROBLEMS, capability=CAPABILITIES)
def test_every_device_gets_a_configuration_for_every_problem(problem: Problem, capability: tuple[int, int]) -> None:
    config = default_config(problem, capability)
    for block in (config.block_m, config.block_n, config.block_k):
        assert block >= 16
        assert block & (block - 1) == 0
    if capability < (9, 0):
        assert config.weights == "plain"
    assert choose_config(problem, "a GPU nobody has measured", capability, "9.9.9") == config


def test_few_rows_per_expert_get_lower_tiles_on_hopper() -> None:
    many, few = (default_config(ONE._replace(rows=64 * each), (9, 0)) for each in (1024, 16))
    assert many.block_m > few.block_m


def test_sums_are_promoted_after_whole_blocks() -> None:
    assert GemmConfig(64, 64, 128, promote=512).promote == 512
    with pytest.raises(ValueError, match=r"promote is 64: whole blocks of k \(128 columns\)"):
        GemmConfig(64, 64, 128, promote=64)


@pytest.mark.usefixtures("tables")
def test_the_nearest_measured_shape_decides() -> None:
    write_table(table("3.6.0", (ONE, MEASURED), (ONE._replace(k=512), OTHER)))
    near = ONE._replace(rows=60000, n=1408)
    assert choose_config(near, "Some GPU/80GB", (9, 0), "3.6.0") == MEASURED
    assert choose_config(near._replace(k=640), "Some GPU/80GB", (9, 0), "3.6.0") == OTHER
    far = ONE._replace(rows=1024)
    assert choose_config(far, "Some GPU/80GB", (9, 0), "3.6.0") == default_config(far, (9, 0))
    assert choose_config(near, "Another GPU", (9, 0), "3.6.0") == default_config(near, (9, 0))
    swiglu = near._replace(kind="swiglu")
    assert choose_config(swiglu, "Some GPU/80GB", (9, 0), "3.6.0") == default_config(swiglu, (9, 0))


@pytest.mark.usefixtures("tables")
def test_a_table_of_the_same_triton_comes_first_and_another_is_better_than_none() -> None:
    write_table(table("3.6.0", (ONE, MEASURED)))
    write_table(table("3.7.1", (ONE, OTHER)))
    assert choose_config(ONE, "Some GPU/80GB", (9, 0), "3.6.0") == MEASURED
    assert choose_config(ONE, "Some GPU/80GB", (9, 0), "3.7.1") == OTHER
    assert choose_config(ONE, "Some GPU/80GB", (9, 0), "4.0.0") in (MEASURED, OTHER)


def test_a_table_is_kept_beside_the_rules_or_in_the_users_cache(tables: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = table("3.6.0", (ONE, MEASURED))
    assert write_table(made) == tables / "some-gpu-80gb-triton-3.6.0.json"
    assert table_of_device("Some GPU/80GB", "3.6.0") == made
    monkeypatch.setattr(gemm_config, "table_folders", lambda: [tables / "own", tables / "missing"])
    newer = table("3.6.0", (ONE, OTHER))
    assert write_table(newer) == tables / "own" / "some-gpu-80gb-triton-3.6.0.json"
    monkeypatch.setattr(gemm_config, "table_folders", lambda: [tables / "own", tables])
    forget_tables()
    assert choose_config(ONE, "Some GPU/80GB", (9, 0), "3.6.0") == OTHER


@given(a=PROBLEMS, b=PROBLEMS)
def test_distance_is_symmetric_and_counts_octaves(a: Problem, b: Problem) -> None:
    assert distance(a, b) == pytest.approx(distance(b, a))
    assert distance(a, a) == 0
    assert distance(a, a._replace(k=2 * a.k)) == pytest.approx(1)


def test_shipped_tables_can_be_read() -> None:
    for path in table_folders()[1].glob("*-triton-*.json"):
        read = json.loads(path.read_text())
        assert path.name == table_name(read["device"], read["triton"])
        assert read["source"]
        for entry in read["entries"]:
            assert Problem(**entry["problem"]).rows > 0
            assert GemmConfig(**entry["config"]).block_m >= 16
