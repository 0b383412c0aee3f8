"""Kernels tried in a process of their own: what they do there, and that nothing they do reaches this one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psutil
import pytest
from course import named, written

from dwdp_lab.teach import kernel_trial
from dwdp_lab.teach.gemm_cases import BLOCK, ONE_TILE, STEPS, GemmCase, Tried
from dwdp_lab.teach.kernel_trial import Trials, function_of, source_of
from dwdp_lab.teach.table_gemm import CASES

triton = pytest.importorskip("triton")
tl = triton.language
RIGHT = named("split_weights.table_gemm").solution_code
FIRST_LINE = "    tile = tl.program_id(0)\n"


def kernel(code: str = RIGHT) -> Any:
    function = function_of(written(named("split_weights.table_gemm"), code))
    assert function is not None
    return function


@pytest.fixture(scope="module")
def trials() -> Trials:
    """One process for most tests: to start it costs seconds."""
    return Trials()


def faults(results: list[Tried]) -> list[str]:
    return [result.fault or result.skipped for result in results]


def test_a_right_kernel_makes_every_element_of_every_case(trials: Trials) -> None:
    for case, result in zip(CASES, trials.results(kernel(), CASES), strict=True):
        assert result.fault == ""
        assert result.cells == ("=" * case.n,) * sum(case.counts)


def test_results_are_kept_and_the_process_goes_on(trials: Trials) -> None:
    first = trials.results(kernel(), [ONE_TILE])
    assert trials.results(kernel(), [ONE_TILE]) is first
    pid = trials._process and trials._process.pid
    trials.results(kernel(), CASES[:2])
    assert trials._process is not None
    assert trials._process.pid == pid


def test_what_lies_in_the_folder_is_not_taken_for_python_s_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "signal.py").write_text("raise SystemExit('not this one')")
    (tmp_path / "random.py").write_text("raise SystemExit('nor this one')")
    monkeypatch.chdir(tmp_path)
    assert faults(Trials().results(kernel(), [ONE_TILE])) == [""]


def test_a_kernel_that_ends_the_process_costs_only_its_own_results(trials: Trials) -> None:
    wild = RIGHT.replace("tl.load(table + expert)", "tl.load(table + expert + (1 << 40))")
    results = trials.results(kernel(wild), [ONE_TILE, CASES[1]])
    assert "SIGSEGV" in results[0].error
    assert "ended the process" in results[1].skipped
    assert faults(trials.results(kernel(), [ONE_TILE])) == [""]


def test_a_kernel_that_does_not_end_is_ended(trials: Trials, monkeypatch: pytest.MonkeyPatch) -> None:
    assert faults(trials.results(kernel(), CASES[3:4])) == [""]  # torch and Triton are loaded now
    process = trials._process
    monkeypatch.setattr(kernel_trial, "PATIENCE_S", 0.5)
    endless = RIGHT.replace("    for start in range(0, k, block_k):", "    start = 0\n    while start < k:")
    [result] = trials.results(kernel(endless), [ONE_TILE])
    assert "has not ended" in result.error
    assert process is not None
    assert process.poll() is not None


def test_what_a_kernel_prints_is_no_answer(trials: Trials) -> None:
    loud = RIGHT.replace(FIRST_LINE, FIRST_LINE + '    print("[1, 2]")\n')
    assert faults(trials.results(kernel(loud), [ONE_TILE])) == [""]


def test_functions_and_constants_of_the_notebook_come_along(trials: Trials) -> None:
    code = (
        "STEP = tl.constexpr(16)\n\n\n@triton.jit\ndef unrelated(a):\n    return a\n\n\n"
        "@triton.jit\ndef numbers(first):\n    return first + tl.arange(0, STEP)\n\n\n"
        + RIGHT.replace("tl.load(tile_row + tile) + tl.arange(0, block_m)", "numbers(tl.load(tile_row + tile))")
    )
    source = source_of(kernel(code))
    assert "def numbers" in source
    assert "STEP = tl.constexpr(16)" in source
    assert "unrelated" not in source
    assert faults(trials.results(kernel(code), CASES[:3])) == ["", "", ""]


def test_a_function_that_is_not_jitted_yet_will_do(trials: Trials) -> None:
    assert faults(trials.results(kernel(RIGHT.replace("@triton.jit\n", "")), [ONE_TILE])) == [""]


def test_the_process_ends_with_its_trials() -> None:
    trials = Trials()
    trials.results(kernel(), [ONE_TILE])
    assert trials._process is not None
    pid = trials._process.pid
    del trials
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_cases_grow_and_ask_for_one_thing_more_each() -> None:
    assert STEPS[0][2] == (ONE_TILE,)
    assert any(0 in case.counts for case in CASES)
    assert any(max(case.counts) > 2 * BLOCK for case in CASES)
    assert any(case.buffers > 2 for case in CASES)
    assert any(case.n % BLOCK for case in CASES)
    assert any(case.k % BLOCK for case in CASES)
    far = next(case for case in CASES if case.x_stride > 2**20)
    assert (sum(far.counts) - 1) * far.x_stride >= 2**31  # one row at least lies beyond 32 bits
    tiles = GemmCase((5, 0, 17), 16, 16).tiles
    assert sorted(tiles) == [(0, 0), (2, 5), (2, 21)]
    assert json.loads(json.dumps(ONE_TILE)) == [[16], 16, 16, 1, 0]


def test_it_compiles_for_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from dwdp_lab.teach.table_gemm_kernel import table_gemm

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    pointers = {"x": "*fp16", "table": "*i64", "out": "*fp16"}
    pointers |= dict.fromkeys(("offsets", "tile_expert", "tile_row"), "*i32")
    signature = {name: pointers.get(name, "i32") for name in table_gemm.arg_names}
    blocks = dict.fromkeys(("block_m", "block_n", "block_k"), 16)
    signature |= dict.fromkeys(blocks, "constexpr")
    compiled = triton.compile(ASTSource(table_gemm, signature, constexprs=blocks), target=GPUTarget("cuda", 90, 32))
    ptx = compiled.asm["ptx"]
    assert "mma" in ptx  # the product runs on tensor cores
    assert "mul.wide.s32" in ptx or "mad.lo.s64" in ptx or "mul.lo.s64" in ptx  # offsets have 64 bits
