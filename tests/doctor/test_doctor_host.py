"""Findings on the computer, its settings and started processes, from machines that are made up."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machines import Case, change, laptop, two_gpus

from dwdp_lab.doctor.facts import Facts
from dwdp_lab.doctor.finding import FORMS, GPU_FORMS
from dwdp_lab.doctor.judges import host, settings
from dwdp_lab.doctor.judges.host import TWO_RANKS_BYTES
from dwdp_lab.doctor.probes.host import Place
from dwdp_lab.execute.cpu.memory_need import PROCESS_BYTES


def places(trouble: str = "", free: int = 50 << 30) -> tuple[Place, ...]:
    return (Place("where you are", 50 << 30, ""), Place("temporary files", free, trouble))


CASES = (
    Case(laptop, "host", {"python": "3.10.12"}, "Python", "fail", "3.10.12", FORMS),
    Case(laptop, "host", {"free_threaded": True}, "Python", "warn", "free-threaded"),
    Case(laptop, "host", {"system": "Windows"}, "system", "fail", "Windows", ("CPU ranks", *GPU_FORMS)),
    Case(laptop, "host", {"system": "Darwin"}, "system", "warn", "Darwin", GPU_FORMS),
    Case(laptop, "host", {"cores": 1.0}, "CPU cores", "warn", "1 for"),
    Case(laptop, "host", {"memory_free_bytes": 100 << 20}, "memory", "fail", "0.1 GB", ("CPU ranks",)),
    Case(laptop, "host", {"memory_free_bytes": None}, "memory", "ok", "does not tell"),
    Case(laptop, "host", {"shared_file_trouble": "no"}, "shared memory files", "fail", "no", ("CPU ranks",)),
    Case(two_gpus, "host", {"shm_bytes": 64 << 20}, "/dev/shm", "warn", "0.067 GB"),
    Case(laptop, "host", {"shm_bytes": 64 << 20}, "/dev/shm", "ok", "0.067 GB"),
    Case(two_gpus, "host", {"locked_memory_bytes": 64 << 10}, "locked memory", "warn", "0.0625 MiB"),
    Case(laptop, "host", {"open_files": 256}, "open files", "warn", "256"),
    Case(
        laptop,
        "host",
        {"places": places("Permission denied")},
        "disk: temporary files",
        "fail",
        "Perm",
        ("CPU ranks", "GPU ranks"),
    ),
    Case(laptop, "host", {"places": places(free=1 << 20)}, "disk: temporary files", "warn", "0.001 GB"),
    Case(
        two_gpus,
        "host",
        {"environment": {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}},
        "torch's allocator",
        "warn",
        "expandable",
    ),
    Case(
        two_gpus,
        "host",
        {"environment": {"PYTORCH_CUDA_ALLOC_CONF": "backend:cudaMallocAsync"}},
        "torch's allocator",
        "warn",
        "cudaMallocAsync",
    ),
    Case(
        two_gpus,
        "host",
        {"environment": {"PYTORCH_ALLOC_CONF": "expandable_segments:False"}},
        "torch's allocator",
        "ok",
        "False",
    ),
    Case(
        two_gpus, "host", {"environment": {"CUDA_VISIBLE_DEVICES": "1"}}, "CUDA_VISIBLE_DEVICES", "warn", "1 of 2 GPUs"
    ),
    Case(two_gpus, "host", {"environment": {"CUDA_VISIBLE_DEVICES": "1,0"}}, "CUDA_VISIBLE_DEVICES", "ok", "1,0"),
    Case(
        two_gpus, "host", {"environment": {"CUDA_VISIBLE_DEVICES": ""}}, "CUDA_VISIBLE_DEVICES", "warn", "''", GPU_FORMS
    ),
    Case(two_gpus, "host", {"environment": {"CUDA_LAUNCH_BLOCKING": "1"}}, "CUDA's queues", "warn", "BLOCKING=1"),
    Case(two_gpus, "host", {"environment": {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}}, "CUDA's queues", "warn", "=1"),
    Case(
        two_gpus, "host", {"environment": {"TRITON_INTERPRET": "1"}}, "TRITON_INTERPRET", "warn", "1", ("GPU kernels",)
    ),
    Case(two_gpus, "host", {"environment": {"NCCL_NVLS_ENABLE": "0"}}, "NCCL settings", "ok", "NCCL_NVLS_ENABLE=0"),
    Case(
        laptop,
        "notebook_kernel",
        {"trouble": "No module named 'dwdp_lab'"},
        "a notebook's kernel",
        "fail",
        "No module",
        ("notebooks",),
    ),
    Case(laptop, "notebook_kernel", {"same_python": False}, "a notebook's kernel", "warn", "another Python"),
    Case(laptop, "shared_memory", {"right": False}, "memory shared by two processes", "fail", "wrong", ("CPU ranks",)),
    Case(laptop, "rank_processes", {"equal": False}, "rank processes", "fail", "differs", ("CPU ranks",)),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_thing_changed(case: Case) -> None:
    case.assert_found()


def test_the_memory_of_two_ranks_is_what_the_ranks_check() -> None:
    assert TWO_RANKS_BYTES == 2 * PROCESS_BYTES


sizes = st.none() | st.integers(0, 1 << 50)


@given(
    st.floats(0.01, 512),
    sizes,
    sizes,
    sizes,
    sizes,
    st.dictionaries(
        st.sampled_from(["PYTORCH_ALLOC_CONF", "CUDA_VISIBLE_DEVICES", "CUDA_LAUNCH_BLOCKING", "NCCL_DEBUG"]), st.text()
    ),
    st.sampled_from([laptop, two_gpus]),
)
def test_whatever_the_host_has_is_judged(
    cores: float,
    free: int | None,
    shm: int | None,
    locked: int | None,
    files: int | None,
    environment: dict[str, str],
    machine: Callable[[], Facts],
) -> None:
    facts = change(
        machine(),
        "host",
        cores=cores,
        memory_free_bytes=free,
        shm_bytes=shm,
        locked_memory_bytes=locked,
        open_files=files,
        environment=environment,
    )
    findings = [*host.judge(facts), *settings.judge(facts)]
    assert all(finding.fix for finding in findings if finding.level != "ok")
    # none of these takes away more than CPU ranks, but for hiding all GPUs
    stopped = {form for finding in findings if finding.name != "CUDA_VISIBLE_DEVICES" for form in finding.stops}
    assert stopped <= {"CPU ranks"}
