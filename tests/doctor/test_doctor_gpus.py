"""Findings on GPUs, from machines that are made up."""

from __future__ import annotations

import pytest
from machines import GPU, HOLDER, INSTALLED, OTHER_GPU, Case, change, judged, laptop, named, two_gpus

from dwdp_lab.doctor.finding import GPU_FORMS
from dwdp_lab.doctor.judges.gpus import LITTLE_BYTES
from dwdp_lab.doctor.probes.gpu_pairs import GpuPairFacts
from dwdp_lab.doctor.probes.torch_build import TorchGpu
from dwdp_lab.execute.cuda.gpu_memory import PROCESS_BYTES


def pairs(trouble: str, direct: bool = True) -> GpuPairFacts:
    return GpuPairFacts(("", ""), {(0, 1): trouble}, {(0, 1): direct})


CASES = (
    Case(laptop, "torch_build", {"gloo": False}, "gloo", "fail", "without", ("CPU ranks",)),
    Case(laptop, "torch_build", {"cuda": "13.0", "version": "2.13.0+cu130"}, "torch and CUDA", "ok", "no GPU"),
    Case(
        two_gpus, "nvidia", {"gpus": (), "trouble": "Driver/library version mismatch"}, "GPUs", "warn", "2 device files"
    ),
    Case(two_gpus, "nvidia", {"gpus": (GPU,)}, "GPUs", "warn", "1 x NVIDIA H100"),
    Case(two_gpus, "nvidia", {"holders": (HOLDER,)}, "memory of GPU 1", "warn", "python3 (pid 4242, 30000 MiB)"),
    Case(
        two_gpus, "nvidia", {"holders": (HOLDER,)}, "memory of GPU 0", "ok", "81000 of 81559", (), ("memory of GPU 1",)
    ),
    Case(two_gpus, "nvidia", {"gpus": (GPU, OTHER_GPU._replace(free_mib=500))}, "memory of GPU 1", "fail", "500 of"),
    Case(
        two_gpus,
        "nvidia",
        {"gpus": (GPU, OTHER_GPU._replace(free_mib=9000))},
        "memory of GPU 1",
        "warn",
        "nobody of this",
    ),
    Case(
        two_gpus,
        "nvidia",
        {"gpus": (GPU, OTHER_GPU._replace(compute_mode="Exclusive_Process"))},
        "GPU compute mode",
        "warn",
        "GPU 1",
    ),
    Case(two_gpus, "nvidia", {"gpus": (GPU, OTHER_GPU._replace(mig="Enabled"))}, "GPU partitions", "warn", "GPU 1"),
    Case(
        two_gpus,
        "torch_build",
        {"cuda": "", "version": "2.13.0+cpu", "gpus": ()},
        "torch and CUDA",
        "warn",
        "CPU build",
        GPU_FORMS,
    ),
    Case(
        two_gpus,
        "torch_build",
        {"gpus": (), "trouble": "Error 802: system not yet initialized"},
        "torch and CUDA",
        "fail",
        "802",
        GPU_FORMS,
    ),
    Case(two_gpus, "torch_build", {"gpus": (TorchGpu("NVIDIA A100", (8, 0)),)}, "kind of GPU", "warn", "8.0"),
    Case(two_gpus, "torch_build", {"gpus": (TorchGpu("Tesla T4", (7, 5)),)}, "kind of GPU", "warn", "7.5"),
    Case(
        two_gpus,
        "packages",
        {"installed": INSTALLED | {"cuda-bindings": None}},
        "CUDA's bindings",
        "fail",
        "not installed",
        ("GPU ranks",),
    ),
    Case(
        two_gpus,
        "packages",
        {"installed": INSTALLED | {"cuda-bindings": "12.9.4"}},
        "CUDA's bindings",
        "warn",
        "12.9.4",
    ),
    Case(
        two_gpus,
        "packages",
        {"installed": INSTALLED | {"nvidia-ml-py": None}},
        "clocks and power",
        "warn",
        "nvidia-ml-py",
    ),
    Case(
        two_gpus,
        "gpu_pairs",
        pairs("7 of 9 bytes came back wrong")._asdict(),
        "copies between GPUs",
        "fail",
        "7 of 9",
        ("GPU ranks",),
    ),
    Case(two_gpus, "gpu_pairs", pairs("", direct=False)._asdict(), "peer access", "warn", "0 and 1"),
    Case(two_gpus, "gpu_pairs", {"pairs": {}, "direct": {}}, "copies between GPUs", "ok", "no second GPU"),
    Case(two_gpus, "peer_memory", {"right": False}, "exported GPU memory", "fail", "wrong", ("GPU ranks",)),
    Case(two_gpus, "peer_memory", {"devices": (0, 0)}, "exported GPU memory", "ok", "two processes on GPU 0"),
    Case(
        two_gpus,
        "nccl",
        {"troubles": {1: "unhandled system error"}},
        "NCCL's first collective",
        "fail",
        "rank 1",
        ("GPU ranks",),
    ),
    Case(two_gpus, "triton_kernel", {"right": False}, "Triton", "fail", "wrong", ("GPU kernels",)),
    Case(two_gpus, "triton_kernel", {"compiler": False}, "Triton", "warn", "no C compiler"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_thing_changed(case: Case) -> None:
    case.assert_found()


@pytest.mark.parametrize(
    ("trouble", "fix"),
    [
        ("Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized", "fabricmanager"),
        ("The NVIDIA driver on your system is too old (found version 12040)", "update the driver"),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", "nvidia-smi -c 0"),
        ("No CUDA GPUs are available", "--gpus all"),
        ("something new", "pytorch.org"),
    ],
)
def test_torch_s_own_words_lead_to_a_fix(trouble: str, fix: str) -> None:
    finding = named(judged(change(two_gpus(), "torch_build", gpus=(), trouble=trouble)), "torch and CUDA")
    assert fix in finding.fix


@pytest.mark.parametrize(("driver", "build"), [("13.0", "cu130"), ("12.8", "cu126"), ("", "cu126")])
def test_the_wheel_fits_the_driver(driver: str, build: str) -> None:
    facts = change(two_gpus(), "torch_build", version="2.13.0+cpu", cuda="", gpus=(), driver_cuda=driver)
    assert named(judged(facts), "torch and CUDA").fix.startswith(
        f"pip install --force-reinstall torch==2.13.0 --index-url https://download.pytorch.org/whl/{build}"
    )


def test_the_memory_of_two_ranks_is_what_gpu_ranks_check() -> None:
    assert LITTLE_BYTES == 2 * PROCESS_BYTES
