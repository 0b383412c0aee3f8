"""`dwdp-lab bench kernels` on a machine without a GPU, and what it refuses."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest
import torch

from dwdp_lab.cli import bench_kernels
from dwdp_lab.scenario.errors import ScenarioError

without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


def call(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    bench_kernels.add_to(parser.add_subparsers(required=True))
    options = parser.parse_args(["kernels", *arguments])
    status: int = options.call(options)
    return status


@without_gpu
@pytest.mark.parametrize("options", [[], ["--tune"], ["--json", "-"]])
def test_it_says_that_it_needs_a_gpu(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    assert call(*options) == 2
    said = capsys.readouterr()
    assert "needs an NVIDIA GPU" in said.out + said.err
    if "-" in options:
        assert said.out == ""


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--shape", "1,2,3"], ["--shape", "'1,2,3'", "E,ROWS,K,N"]),
        (["--shape", "a,2,3,4"], ["--shape", "E,ROWS,K,N"]),
        (["--shape", "8,100,24,32"], ["--shape", "multiples of 16"]),
        (["--shape", "0,100,32,32"], ["--shape", "at least 1"]),
        (["--repeats", "0"], ["--repeats", "10000"]),
        (["--skew", "-1"], ["--skew", "0 (all experts"]),
        (["--skew", "nan"], ["--skew"]),
        (["--json", "no/such/folder/x.json"], ["--json", "folder"]),
    ],
)
def test_bad_options_are_refused(options: list[str], words: list[str]) -> None:
    with pytest.raises(ScenarioError) as refused:
        call(*options)
    for word in words:
        assert word in str(refused.value)


def test_results_are_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    from dwdp_kernels import bench

    timing = {"median_us": 1000.0, "low_us": 990.0, "high_us": 1100.0, "tflops": 600.0, "fraction_of_limit": 0.8}
    row = {
        "experts": 8,
        "rows": 4096,
        "k": 2048,
        "n": 1024,
        "limit_us": 800.0,
        "relative_error": 0.002,
        **dict.fromkeys(("ours", "torch", "dense"), timing),
        "torch_time_over_ours": 1.07,
        "buffers": {"2": {"one_time_over_split": 0.995, "bit_equal": True}},
    }
    layer = {
        "name": "some-layer",
        "tokens": 512,
        "limit_us": 700.0,
        "relative_error": 0.003,
        **dict.fromkeys(("ours", "ours_two_buffers", "eager_loop"), timing),
        "time_over_ours": {"eager_loop": 9.0},
    }

    def measured(plan: bench.Plan, say: bench.Say) -> dict[str, Any]:
        say("measuring")
        assert plan.repeats == 7
        return {
            "device": "Some GPU",
            "torch": "2.13",
            "triton": "3.7.1",
            "dtype": "bfloat16",
            "ceilings": {"tflops": 750.0, "gbps": 3000.0},
            "grouped": [row],
            "layers": [layer],
            "summary": bench.summary([row], [layer]),
        }

    monkeypatch.setattr(bench_kernels, "lacking_for_kernels", lambda: None)
    monkeypatch.setattr(bench, "run_bench", measured)
    assert call("--repeats", "7") == 0
    shown = capsys.readouterr().out
    for words in ("8, 4096, 2048, 1024", "some-layer", "installed", "1.070", "0.995", "750 TFLOP/s"):
        assert words in shown
    assert call("--repeats", "7", "--json", "-") == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["summary"]["torch_time_over_ours_least"] == 1.07
    assert figures["summary"]["split_buffers_bit_equal"] is True


def test_results_in_e4m3_are_shown_beside_bf16(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("triton")
    from dwdp_kernels import bench

    timing = {"median_us": 1000.0, "low_us": 990.0, "high_us": 1100.0, "tflops": 1100.0, "fraction_of_limit": 0.8}
    row = {
        "experts": 8,
        "rows": 4096,
        "k": 2048,
        "n": 1024,
        "limit_us": 800.0,
        "relative_error": 0.002,
        "error_of_unquantised": 0.036,
        **dict.fromkeys(("ours", "dense"), timing),
        "ours_bf16": {**timing, "tflops": 650.0},
        "torch_time_over_ours": None,
        "buffers": {},
    }
    layer = {
        "name": "some-layer",
        "tokens": 512,
        "limit_us": 700.0,
        "relative_error": 0.003,
        "error_of_unquantised": 0.052,
        **dict.fromkeys(("ours", "ours_two_buffers", "ours_bf16"), timing),
        "time_over_ours": {"ours_bf16": 1.62},
    }

    def measured(plan: bench.Plan, _say: bench.Say) -> dict[str, Any]:
        assert plan.dtype == torch.float8_e4m3fn
        return {
            "device": "Some GPU",
            "torch": "2.13",
            "triton": "3.7.1",
            "dtype": "float8_e4m3fn",
            "ceilings": {"tflops": 1400.0, "gbps": 3000.0},
            "grouped": [row],
            "layers": [layer],
            "summary": bench.summary([row], [layer]),
        }

    monkeypatch.setattr(bench_kernels, "lacking_for_kernels", lambda: None)
    monkeypatch.setattr(bench, "run_bench", measured)
    assert call("--dtype", "float8_e4m3fn") == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("650", "none", "3.6e-02", "ours bf16", "1.62"):
        assert words in shown
    assert "torch's time over ours" not in shown


def test_a_wrong_result_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("triton")
    from dwdp_kernels import bench

    def wrong(_plan: bench.Plan, _say: bench.Say) -> dict[str, Any]:
        raise ArithmeticError("off by 1")

    monkeypatch.setattr(bench_kernels, "lacking_for_kernels", lambda: None)
    monkeypatch.setattr(bench, "run_bench", wrong)
    assert call() == 1
    assert "off by 1" in capsys.readouterr().out
