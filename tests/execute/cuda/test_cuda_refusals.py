"""What GPU ranks refuse before anything starts: no GPU, no room, shapes the kernels cannot take."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import pytest
import torch
from rank_scenarios import MODEL, scenario

from dwdp_lab.cli.main import main
from dwdp_lab.execute.cuda import gpu_memory
from dwdp_lab.execute.cuda.gpu_memory import PROCESS_BYTES, Gpu, check_gpu_memory, needed_bytes, parsed, visible
from dwdp_lab.execute.cuda.refusal import (
    check_collectives,
    check_fits_kernels,
    check_gpus_here,
    check_multiplies_e4m3,
)
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.execute.run_cuda import run_cuda
from dwdp_lab.program.mailbox import mailbox_bytes
from dwdp_lab.program.memory import ledger
from dwdp_lab.scenario.errors import ScenarioError

GB = 1e9


def refusal(call: Any, *arguments: Any, **more: Any) -> ScenarioError:
    with pytest.raises(ScenarioError) as caught:
        call(*arguments, **more)
    return caught.value


class Cuda:
    """What torch and the import system say, as a test wants it."""

    def __init__(self, patch: pytest.MonkeyPatch, version: str | None, gpus: int, missing: str = "") -> None:
        find = importlib.util.find_spec

        def spec(name: str, package: str | None = None) -> Any:
            if name == missing:
                return None
            if name == "cuda.bindings":
                return object()
            return find(name, package)

        patch.setattr(torch.version, "cuda", version)
        patch.setattr(torch.cuda, "device_count", lambda: gpus)
        patch.setattr(importlib.util, "find_spec", spec)


@pytest.mark.parametrize(
    ("version", "gpus", "missing", "said"),
    [
        ("13.0", 2, "torch", "torch is not installed"),
        (None, 0, "", "built without CUDA"),
        ("13.0", 0, "", "finds no NVIDIA GPU"),
        ("13.0", 2, "triton", "Triton is not installed"),
        ("12.9", 2, "cuda.bindings", "cuda-bindings==12"),
    ],
)
def test_what_is_missing_is_named(
    monkeypatch: pytest.MonkeyPatch, version: str | None, gpus: int, missing: str, said: str
) -> None:
    Cuda(monkeypatch, version, gpus, missing)
    error = refusal(check_gpus_here)
    assert (error.field, error.value) == ("machine", "cuda")
    assert said in str(error)


def test_nothing_is_missing_where_all_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    Cuda(monkeypatch, "13.0", 2)
    check_gpus_here()


def test_the_kernels_need_whole_tiles_of_one_type() -> None:
    base = scenario(2, [[1]] * 2)
    check_fits_kernels(base)
    assert refusal(check_fits_kernels, base.replace(**{"model.expert_dtype": "bf16"})).field == "model.expert_dtype"
    assert refusal(check_fits_kernels, base.replace(**{"model.hidden": 40})).field == "model.hidden"
    narrow = base.replace(**{"model.expert_intermediate": 24})
    assert "Take 32" in str(refusal(check_fits_kernels, narrow))
    tensor = base.replace(**{"strategy.name": "tensor"})  # 16 columns over 2 ranks
    assert refusal(check_fits_kernels, tensor).field == "model.expert_intermediate"
    check_fits_kernels(tensor.replace(**{"model.expert_intermediate": 48}))


def test_a_rank_of_dep_needs_an_expert() -> None:
    few = scenario(3, [[1]] * 3, **{"model.experts": 2, "model.top_k": 1})
    check_fits_kernels(few)
    error = refusal(check_fits_kernels, few.replace(**{"strategy.name": "dep"}))
    assert (error.field, error.value) == ("model.experts", 2)
    assert "Take fewer ranks" in str(error)
    check_fits_kernels(few.replace(**{"strategy.name": "dep", "model.experts": 3}))


def test_experts_in_e4m3_go_with_any_type_of_the_model() -> None:
    base = scenario(2, [[1]] * 2, **{"model.expert_dtype": "fp8_channel"})
    for dtype in ("bf16", "fp16", "fp32"):
        check_fits_kernels(base.replace(**{"model.dtype": dtype}))
    assert "or fp8_channel" in str(refusal(check_fits_kernels, base.replace(**{"model.expert_dtype": "bf16"})))
    assert refusal(check_fits_kernels, base.replace(**{"model.hidden": 40})).field == "model.hidden"
    tensor = base.replace(**{"strategy.name": "tensor"})  # 16 columns over 2 ranks
    assert refusal(check_fits_kernels, tensor).field == "model.expert_intermediate"


def test_experts_in_e4m3_need_gpus_that_have_it() -> None:
    base = scenario(2, [[1]] * 2)
    scaled = base.replace(**{"model.expert_dtype": "fp8_channel"})
    ada, hopper, ampere, unknown = (
        Gpu("GPU-0", "Card", GB, capability) for capability in ((8, 9), (9, 0), (8, 6), None)
    )
    check_multiplies_e4m3(scaled, [ada, hopper, unknown])
    check_multiplies_e4m3(base, [ampere])
    error = refusal(check_multiplies_e4m3, scaled, [hopper, ampere])
    assert (error.field, error.value) == ("model.expert_dtype", "fp8_channel")
    assert "capability 8.9 or later, and GPU 1 (Card) has 8.6" in str(error)


def test_nccl_wants_a_gpu_for_each_rank() -> None:
    base = scenario(2, [[1]] * 2).replace(**{"strategy.collectives": "nccl"})
    for name in ("dep", "weight_gather", "tensor", "pipeline"):
        error = refusal(check_collectives, base.with_strategy(name), 1)
        assert (error.field, error.value) == ("strategy.collectives", "nccl")
        assert "2 ranks on 1 GPUs" in str(error)
        check_collectives(base.with_strategy(name), 2)
    for free in (base, base.with_strategy("replicated"), base.with_strategy("dep").replace(**COPY)):
        check_collectives(free, 1)


COPY = {"strategy.collectives": "copy"}


def gpus(*free: float) -> list[Gpu]:
    return [Gpu(f"GPU-{number}", "Card", each) for number, each in enumerate(free)]


def test_every_gpu_needs_room_for_its_ranks() -> None:
    work = scenario(3, [[1]] * 3)
    each = needed_bytes(work)
    assert each == PROCESS_BYTES + ledger(work, "dwdp").total - ledger(work, "dwdp").embeddings
    check_gpu_memory(work, gpus(2 * each, each))  # ranks 0 and 2 share the first
    assert "2 ranks on GPU 0 (Card)" in str(refusal(check_gpu_memory, work, gpus(1.9 * each, each)))
    assert "1 rank on GPU 1 (Card)" in str(refusal(check_gpu_memory, work, gpus(2 * each, 0.9 * each)))
    meets = scenario(3, [[4], [2], [2]]).with_strategy("dep")
    kept = ledger(meets, "dep")
    everyones_rows = kept.activations * 7 / 3  # 3 + 2 + 2 new tokens; the ledger's are of the fullest rank's
    expected = PROCESS_BYTES + kept.total - kept.activations + everyones_rows - kept.embeddings
    assert needed_bytes(meets) == pytest.approx(expected + mailbox_bytes(meets, "dep"))
    check_gpu_memory(work, [])  # nobody tells how much there is


def test_what_running_ranks_hold_counts_as_free() -> None:
    work = scenario(2, [[1]] * 2)
    kept = needed_bytes(work) - PROCESS_BYTES
    check_gpu_memory(work, gpus(0.0, 0.0), held_bytes=(kept, kept))
    refusal(check_gpu_memory, work, gpus(0.0, 0.0), held_bytes=(kept, 0.9 * kept))


def test_visible_gpus_are_those_that_the_variable_leaves() -> None:
    four = gpus(1, 2, 3, 4)
    assert visible(four, None) == tuple(four)
    assert visible(four, "2,0") == (four[2], four[0])
    assert visible(four, "GPU-3, 1") == (four[3], four[1])
    assert visible(four, "1,7,2") == (four[1],)  # as CUDA does, which ends at the first it does not know
    assert visible(four, "") == ()


def test_nvidia_smi_is_read() -> None:
    told = "GPU-a, NVIDIA H100 80GB HBM3, 80000\nGPU-b, NVIDIA H100 80GB HBM3, 1\n\n"
    assert parsed(told) == (
        Gpu("GPU-a", "NVIDIA H100 80GB HBM3", 80000 * 2**20),
        Gpu("GPU-b", "NVIDIA H100 80GB HBM3", 2**20),
    )
    with pytest.raises(ValueError, match="unpack"):
        parsed("No devices were found")


def test_without_nvml_and_nvidia_smi_nobody_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)

    def gone(*_: Any, **__: Any) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", gone)
    assert gpu_memory.visible_gpus() == ()


here = pytest.mark.skipif(torch.version.cuda is not None, reason="this torch has CUDA")


@here
def test_ranks_are_refused_here_before_they_start() -> None:
    ranks = Ranks(2, machine="cuda")
    assert refusal(ranks.start).field == "machine"
    assert refusal(ranks.run, scenario(2, [[1]] * 2)).field == "machine"
    assert ranks.pids == ()
    assert refusal(run_cuda, scenario(2, [[1]] * 2), ["dwdp"]).field == "machine"


def test_machines_that_are_none() -> None:
    assert "allowed are cpu, cuda" in str(refusal(Ranks, 2, machine="tpu"))
    cpu = Ranks(2)
    assert refusal(run_cuda, scenario(2, [[1]] * 2), ["dwdp"], ranks=cpu).field == "ranks"


@here
def test_the_command_says_it_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--machine", "cuda", "--ranks", "2"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "built without CUDA" in told.err


def test_models_that_no_rank_runs_are_refused_on_gpus_too(monkeypatch: pytest.MonkeyPatch) -> None:
    Cuda(monkeypatch, "13.0", 2)
    monkeypatch.setattr(gpu_memory, "_by_nvml", lambda: tuple(gpus(80 * GB, 80 * GB)))
    ranks = Ranks(2, machine="cuda")
    work = scenario(2, [[1]] * 2)
    latent = work.replace(model="deepseek-r1")
    assert refusal(ranks.run, latent).field == "model.attention.kind"
    assert refusal(ranks.run, work.replace(**{"model.expert_dtype": "fp8"})).field == "model.expert_dtype"
    alone = work.replace(**{"strategy.name": "dep", "strategy.collectives": "nccl"})
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert refusal(ranks.run, alone).field == "strategy.collectives"
    monkeypatch.setattr(gpu_memory, "_by_nvml", lambda: (Gpu("GPU-0", "Card", 80 * GB, (8, 0)),))
    assert "8.0" in str(refusal(ranks.run, work.replace(**{"model.expert_dtype": "fp8_channel"})))
    monkeypatch.setattr(gpu_memory, "_by_nvml", lambda: tuple(gpus(80 * GB, 80 * GB)))
    large = work.replace(model=MODEL | {"hidden": 4096, "expert_intermediate": 4096, "experts": 512, "layers": 64})
    assert refusal(ranks.run, large).field == "model"
