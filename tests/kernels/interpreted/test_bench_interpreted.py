"""The benchmark and the tuning from end to end on small shapes: everything but the clock and the GPU is real."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from dwdp_kernels import (
    bench,
    bench_grouped,
    bench_layer,
    bench_scaled_grouped,
    bench_scaled_layer,
    bench_timing,
    gemm_config,
    tune,
)
from dwdp_kernels.bench_problems import GroupedShape, LayerShape
from dwdp_kernels.bench_timing import Ceilings, Run, Timing
from dwdp_kernels.e4m3 import E4M3, Quantised
from dwdp_kernels.expert_table import ExpertTable
from dwdp_kernels.gemm_config import GemmConfig, Kind, Problem, choose_config, table_folders
from dwdp_kernels.grouped_gemm import Rows
from dwdp_kernels.launch import INTERPRETER, Device
from torch import Tensor

HAS_SCALED_GROUPED_MM = bench_scaled_grouped.torch_has_scaled_grouped_mm
"""Itself: tests run as if it were there."""
GROUPED = GroupedShape(4, 24, 32, 48)
LAYER = LayerShape("small", 4, 2, 32, 16, 12)
PLAN = bench.Plan([GROUPED], [LAYER], torch.float16, repeats=2)


def run_each(runs: Mapping[str, Run], _repeats: int, sets: int = 1) -> dict[str, Timing]:
    """Instead of time_runs: runs each on every set, and says that the first took 1 us, the second 2, and so on."""
    for run in runs.values():
        for i in range(sets):
            run(i)
    return {name: Timing(float(place), 1.0, 2.0) for place, name in enumerate(runs, 1)}


@pytest.fixture(autouse=True)
def no_gpu_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bench_grouped, bench_layer, bench_scaled_layer, tune):
        monkeypatch.setattr(module, "time_runs", run_each)
    monkeypatch.setattr(bench_grouped, "sets_beyond_l2", lambda *_: 2)
    monkeypatch.setattr(bench, "measure_ceilings", lambda *_: Ceilings(1.0, 1.0))
    monkeypatch.setattr(bench, "machine", lambda _: {"device": "none"})
    monkeypatch.setattr(bench.Plan, "device", torch.device("cpu"))
    monkeypatch.setattr(bench_grouped, "torch_grouped_mm", by_expert)
    monkeypatch.setattr(bench_scaled_grouped, "torch_has_scaled_grouped_mm", lambda _: True)
    monkeypatch.setattr(bench_scaled_grouped, "torch_scaled_grouped_mm", by_scaled_expert)
    monkeypatch.setattr(bench_scaled_grouped, "dense_e4m3", lambda x, weight: x.half() @ weight.half().T)
    monkeypatch.setattr(bench, "WIDE", torch.float16)
    for name in ("synchronize", "empty_cache"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)


def by_expert(x: Tensor, weights: Tensor, offsets: Tensor) -> Tensor:
    """Instead of torch's grouped product, which knows bf16 alone on some CPUs."""
    ends = offsets.tolist()
    return torch.cat([x[ends[e] : ends[e + 1]] @ weights[e].T for e in range(len(weights))])


def by_scaled_expert(rows: Rows, weights: Quantised) -> Tensor:
    """Instead of torch's scaled grouped product, which no CPU has."""
    return by_expert(rows.x.half(), weights.values.half(), rows.offsets)


def test_a_plan_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    figures = bench.run_bench(PLAN, print)
    (row,), (layer,) = figures["grouped"], figures["layers"]
    assert (row["experts"], row["rows"], row["k"], row["n"]) == GROUPED
    assert row["torch_time_over_ours"] == 2
    assert row["ours"]["tflops"] == pytest.approx(GROUPED.flops / 1e6)
    assert row["limit_us"] == pytest.approx(GROUPED.moved_bytes(2) / 1e3)
    assert 0 < row["relative_error"] < 1e-3
    assert set(row["buffers"]) == {"2", "4"}
    assert all(split["bit_equal"] for split in row["buffers"].values())
    assert layer["time_over_ours"]["eager_loop"] == 3
    assert 0 < layer["relative_error"] < 2e-3
    ours = {"route", "combine", "add_norm", "combine_norm"}
    assert set(layer["parts"]) == ours | {f"{part}_torch" for part in ours}
    moved_bytes = {part: round(1e3 * layer["parts"][part]["limit_us"]) for part in ours}
    row_bytes = 2 * LAYER.hidden
    assert moved_bytes["add_norm"] == LAYER.tokens * 4 * row_bytes
    assert moved_bytes["combine_norm"] == LAYER.tokens * (LAYER.top_k + 3) * row_bytes
    assert figures["summary"]["torch_time_over_ours_geometric_mean"] == pytest.approx(2)
    assert figures["summary"]["layer_tflops"] == {"small": layer["ours"]["tflops"]}
    assert "MoE layer small" in capsys.readouterr().out


def test_a_plan_in_e4m3_is_measured_beside_the_wide_type() -> None:
    figures = bench.run_bench(PLAN._replace(dtype=E4M3), print)
    (row,), (layer,) = figures["grouped"], figures["layers"]
    assert figures["dtype"] == "float8_e4m3fn"
    assert row["torch_time_over_ours"] == 4  # the fourth: ours, dense, ours_bf16, torch
    assert {"dense", "ours_bf16"} < set(row)
    assert row["limit_us"] == pytest.approx((24 * 32 + 4 * 32 * 48 + 2 * 24 * 48) / 1e3)
    assert 0 < row["relative_error"] < 1e-3 < row["error_of_unquantised"] < 0.1
    assert all(split["bit_equal"] for split in row["buffers"].values())
    assert layer["time_over_ours"] == {"ours_two_buffers": 2, "ours_bf16": 3}
    assert layer["relative_error"] < 1e-2 < layer["error_of_unquantised"] < 0.15
    assert layer["buffers_bit_equal"]
    assert layer["parts"]["quantise_rows"]["limit_us"] == pytest.approx(24 * 16 * 3 / 1e3)


def test_a_torch_without_the_scaled_product_is_no_rival(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_scaled_grouped, "torch_has_scaled_grouped_mm", HAS_SCALED_GROUPED_MM)
    figures = bench.run_bench(PLAN._replace(dtype=E4M3, layers=[]), print)
    assert figures["grouped"][0]["torch_time_over_ours"] is None
    assert figures["summary"]["torch_time_over_ours_geometric_mean"] is None
    assert "torch" not in figures["grouped"][0]


def test_the_scaled_product_is_looked_for_where_it_is_known_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    hopper, ada = (Device("some GPU", capability, 132) for capability in ((9, 0), (8, 9)))
    assert HAS_SCALED_GROUPED_MM(hopper)
    assert not HAS_SCALED_GROUPED_MM(ada)
    assert not HAS_SCALED_GROUPED_MM(INTERPRETER)
    monkeypatch.delattr(torch, "_scaled_grouped_mm")
    assert not HAS_SCALED_GROUPED_MM(hopper)


def test_a_scaled_product_that_fails_is_no_rival_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(*_: object) -> Tensor:
        raise RuntimeError("not of this size")

    monkeypatch.setattr(bench_scaled_grouped, "torch_scaled_grouped_mm", refuses)
    with pytest.raises(RuntimeError, match="not of this size"):
        bench.run_bench(PLAN._replace(dtype=E4M3, layers=[]), print)


def test_a_wrong_result_in_e4m3_is_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = PLAN._replace(dtype=E4M3)
    right = bench_grouped.multiply
    monkeypatch.setattr(bench_grouped, "multiply", lambda *given: 1.02 * right(*given))
    with pytest.raises(ArithmeticError, match="off by 2"):
        bench.run_bench(plan._replace(layers=[]), print)
    fused = bench_scaled_layer.expert_mlp
    monkeypatch.setattr(bench_scaled_layer, "expert_mlp", lambda *given: 1.1 * fused(*given))
    with pytest.raises(ArithmeticError, match="expert layer is off by 1"):
        bench.run_bench(plan._replace(grouped=[]), print)


def test_a_wrong_result_is_never_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bench_grouped.multiply
    monkeypatch.setattr(bench_grouped, "multiply", lambda *given: 1.02 * right(*given))
    with pytest.raises(ArithmeticError, match="off by 2"):
        bench.run_bench(PLAN._replace(layers=[]), print)
    fused = bench_layer.expert_mlp
    monkeypatch.setattr(bench_layer, "expert_mlp", lambda *given: 1.02 * fused(*given))
    with pytest.raises(ArithmeticError, match="expert layer is off by 2"):
        bench.run_bench(PLAN._replace(grouped=[]), print)


def test_tuning_writes_a_table_that_then_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "default.json").write_text((table_folders()[1] / "default.json").read_text())
    monkeypatch.setattr(gemm_config, "table_folders", lambda: [tmp_path / "own", tmp_path])
    default = GemmConfig(64, 64, 32, weights="plain")
    better, broken = GemmConfig(16, 32, 32), GemmConfig(32, 32, 32)
    monkeypatch.setattr(tune, "candidates", lambda *_: iter([default, broken, better]))
    monkeypatch.setattr(tune, "default_config", lambda *_: default)
    monkeypatch.setattr(tune, "time_runs", lambda runs, *_: {name: timing(name, better) for name in runs})
    right = bench.multiply

    def broken_in_one_way(rows: Rows, weights: ExpertTable, kind: Kind, config: GemmConfig | None = None) -> Tensor:
        return right(rows, weights, kind, config) * (1.1 if config == broken else 1.0)

    monkeypatch.setattr(bench, "multiply", broken_in_one_way)
    gemm_config.forget_tables()
    tuned, written = bench.run_tuning(PLAN, print)
    assert [one.problem.kind for one in tuned] == ["product", "swiglu", "product"]
    assert {one.best for one in tuned} == {better}
    assert "differs by 1.0e-01" in tuned[0].refused[str(broken)]
    assert written.parent == tmp_path
    for one in tuned:
        assert choose_config(one.problem, INTERPRETER.name, (0, 0), "any") == better
    again, _ = bench.run_tuning(PLAN._replace(layers=[]), print)
    kept = gemm_config.table_of_device(INTERPRETER.name, tune.triton.__version__)
    assert kept is not None
    assert len(kept["entries"]) == 3, "entries of other problems stay, the same problem's is replaced"
    assert again[0].problem == tuned[0].problem
    scaled, _ = bench.run_tuning(PLAN._replace(dtype=E4M3), print)
    assert [one.problem.element_bytes for one in scaled] == [1, 1, 1]
    kept = gemm_config.table_of_device(INTERPRETER.name, tune.triton.__version__)
    assert kept is not None
    assert len(kept["entries"]) == 6, "e4m3 has entries of its own"
    gemm_config.forget_tables()


def timing(name: str, best: GemmConfig) -> Timing:
    return Timing(1.0 if name == str(best) else 2.0, 1.0, 2.0)


@pytest.mark.parametrize("kind", ["product", "swiglu"])
@pytest.mark.parametrize("capability", [(8, 0), (8, 9), (9, 0)])
@pytest.mark.parametrize("element_bytes", [1, 2])
def test_the_default_is_the_first_candidate_and_none_comes_twice(
    kind: gemm_config.Kind, capability: tuple[int, int], element_bytes: int
) -> None:
    device = INTERPRETER._replace(capability=capability)
    problem = Problem(kind, 8, 8192, 64, 64, element_bytes)
    tried = list(tune.candidates(problem, device))
    assert tried[0] == gemm_config.default_config(problem, capability)
    assert len(tried) == len(set(tried)) > 5
    assert all(config.weights == "plain" for config in tried) == (capability < (9, 0))
    assert len({config.promote for config in tried}) == 1, "how exact sums are is not the clock's choice"


def test_times_are_medians_of_runs_that_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    class Event:
        """A clock that stands at the number of the run, times ten."""

        runs = 0

        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = 10 * Event.runs

        def synchronize(self) -> None:
            Event.runs += 1

        def elapsed_time(self, _end: Event) -> float:
            return float(self.at)

    seen: list[tuple[str, int]] = []
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "_sleep", lambda _: None)
    runs: dict[str, Run] = {"a": lambda i: seen.append(("a", i)), "b": lambda i: seen.append(("b", i))}
    times = bench_timing.time_runs(runs, repeats=3, sets=2)
    warm_up = [(name, i) for name in "ab" for i in (0, 1, 0)]
    assert seen == [*warm_up, ("a", 0), ("b", 0), ("a", 1), ("b", 1), ("a", 0), ("b", 0)]
    assert times["a"].median_us == 1e3 * 20  # runs 0, 2, 4
    assert times["b"].median_us == 1e3 * 30
