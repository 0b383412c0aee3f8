"""Findings on environment variables that change what GPUs do. They are read and reported, never changed."""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.doctor.facts import Facts
from dwdp_lab.doctor.finding import GPU_FORMS, Finding

ALLOCATOR = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
"""Newer and older name of the same setting."""

SERIAL = {
    "CUDA_LAUNCH_BLOCKING": "1",
    "CUDA_DEVICE_MAX_CONNECTIONS": "1",
}
"""Settings that put all lanes of a rank in one row."""

TOLD = ("NCCL_", "NVSHMEM_", "TORCH_NCCL_", "TORCH_SYMM_MEM_")


def judge(facts: Facts) -> Iterator[Finding]:
    assert facts.host is not None
    environment = facts.host.environment
    if not facts.gpus_here and not environment:
        yield Finding("settings for GPUs", "ok", "none are set", "nor is there a GPU that they would change")
        return
    yield _allocator(environment)
    yield _visible(environment, facts.gpus_here)
    yield _serial(environment)
    if environment.get("TRITON_INTERPRET") == "1" and facts.gpus_here:
        yield Finding(
            "TRITON_INTERPRET",
            "warn",
            "1",
            "kernels are stepped through on the CPU although there is a GPU: right, and thousands of times slower",
            "unset TRITON_INTERPRET",
            ("GPU kernels",),
        )
    told = [f"{name}={value}" for name, value in environment.items() if name.startswith(TOLD)]
    yield Finding(
        "NCCL settings",
        "ok",
        ", ".join(told) or "none",
        "left as they are, for ranks too: what a host switches off (such as NVLink multicast) stays off",
    )


def _allocator(environment: dict[str, str]) -> Finding:
    settings = {name: environment[name] for name in ALLOCATOR if name in environment}
    found = ", ".join(f"{name}={value}" for name, value in settings.items()) or "torch's own choice"
    said = ",".join(settings.values()).lower().replace(" ", "")
    breaking = [bad for bad in ("expandable_segments:true", "backend:cudamallocasync") if bad in said]
    if breaking:
        return Finding(
            "torch's allocator",
            "warn",
            found,
            "tensors from such an allocator cannot be handed to another process by CUDA IPC, the fallback for sharing "
            "GPU memory",
            f"unset {' '.join(settings)} before the lab starts",
        )
    return Finding("torch's allocator", "ok", found, "its tensors can be shared between processes")


def _visible(environment: dict[str, str], here: int) -> Finding:
    name = "CUDA_VISIBLE_DEVICES"
    value = environment.get(name)
    if value is None:
        return Finding(name, "ok", "not set", "every rank sees every GPU, as pulls need")
    listed = [part for part in value.split(",") if part.strip() and part.strip() != "-1"]
    if here and not listed:
        meaning = "all GPUs are hidden"
        return Finding(name, "warn", f"{value!r}", meaning, f"unset {name} before the lab starts", GPU_FORMS)
    if here > len(listed):
        return Finding(
            name,
            "warn",
            f"{value!r}: {len(listed)} of {here} GPUs",
            "ranks use these alone; that is right when you share the machine, and wrong when each rank gets one GPU "
            "of its own (NCCL and peer memory need to see the others)",
            f"unset {name}, or keep it if the other GPUs are somebody else's",
        )
    return Finding(name, "ok", f"{value!r}", "hides none of the GPUs here")


def _serial(environment: dict[str, str]) -> Finding:
    bad = {name: value for name, value in SERIAL.items() if environment.get(name) == value}
    if bad:
        return Finding(
            "CUDA's queues",
            "warn",
            ", ".join(f"{name}={value}" for name, value in bad.items()),
            "copies and computation run one after another: no overlap would be measured",
            f"unset {' '.join(bad)} before the lab starts",
        )
    return Finding("CUDA's queues", "ok", "no setting serialises them", "copies can run beside computation")
