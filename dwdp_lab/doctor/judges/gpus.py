"""Findings on GPUs: driver, torch, memory and who holds it, copies between them, shared memory, NCCL, Triton."""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.doctor.facts import Facts
from dwdp_lab.doctor.finding import GPU_FORMS, Finding
from dwdp_lab.doctor.probes.nvidia import Gpu, NvidiaFacts

LITTLE_BYTES = 2e9
"""Two ranks beside their weights: contexts, kernels, NCCL's buffers (dwdp_lab/execute/cuda/gpu_memory.py)."""

BUSY_SHARE = 0.8
PYTORCH = "https://pytorch.org/get-started/locally"
KNOWN_TROUBLES = (
    ("802", "the GPUs' switch is not up: systemctl start nvidia-fabricmanager (its version must equal the driver's)"),
    ("804", "the driver is older than torch's CUDA: update it, or take a torch for an older CUDA from " + PYTORCH),
    ("803", "driver and its libraries differ: reboot, or in a container use the host's driver libraries"),
    ("too old", "update the driver, or take a torch for an older CUDA from " + PYTORCH),
    ("busy or unavailable", "a GPU in exclusive mode is taken: end its process, or nvidia-smi -c 0"),
    ("No CUDA GPUs", "unset CUDA_VISIBLE_DEVICES; in a container start it with --gpus all"),
)


def judge_driver(facts: Facts) -> Iterator[Finding]:
    nvidia = facts.nvidia
    assert nvidia is not None
    if not nvidia.gpu_count:
        yield Finding(
            "GPUs",
            "warn",
            "none found",
            "simulator, notebooks and CPU ranks show everything but the speeds of GPUs",
            "none needed; for GPU speeds rent a machine with two or more NVIDIA GPUs (notebooks/INSTRUCTORS.md)",
            GPU_FORMS,
        )
        return
    if nvidia.trouble:
        yield Finding(
            "GPUs",
            "warn",
            f"{nvidia.devices} device files, but: {nvidia.trouble}",
            "who holds the GPUs' memory cannot be told, and the driver may be broken",
            "in a container: --gpus all with NVIDIA_DRIVER_CAPABILITIES=compute,utility; on the host: reboot after "
            "a driver update, then nvidia-smi",
        )
        return
    names = " and ".join(sorted({f"{_times(nvidia, gpu)} {gpu.name}" for gpu in nvidia.gpus}))
    found = f"{names}, driver {nvidia.gpus[0].driver}"
    if nvidia.gpu_count == 1:
        yield Finding(
            "GPUs",
            "warn",
            found,
            "kernels can be measured; several ranks can share the GPU, but nothing crosses a link",
            "for copies between GPUs take a machine with two or more",
        )
    else:
        yield Finding("GPUs", "ok", found, "one rank per GPU, or several ranks on one")
    yield from _modes(nvidia)
    for gpu in nvidia.gpus:
        yield _memory(nvidia, gpu)


def _times(nvidia: NvidiaFacts, gpu: Gpu) -> str:
    return f"{sum(other.name == gpu.name for other in nvidia.gpus)} x"


def _modes(nvidia: NvidiaFacts) -> Iterator[Finding]:
    exclusive = [str(gpu.number) for gpu in nvidia.gpus if "exclusive" in gpu.compute_mode.lower()]
    if exclusive:
        yield Finding(
            "GPU compute mode",
            "warn",
            f"exclusive on GPU {', '.join(exclusive)}",
            "only one process may use such a GPU: several ranks on one fail to start",
            "sudo nvidia-smi -c 0",
        )
    divided = [str(gpu.number) for gpu in nvidia.gpus if gpu.mig == "Enabled"]
    if divided:
        yield Finding(
            "GPU partitions",
            "warn",
            f"MIG on GPU {', '.join(divided)}",
            "parts of a GPU cannot reach another GPU's memory: ranks on them cannot pull",
            "use whole GPUs (on your own machine: sudo nvidia-smi -mig 0)",
        )


def _memory(nvidia: NvidiaFacts, gpu: Gpu) -> Finding:
    holders = [
        f"{one.process} (pid {one.pid}{f', {one.used_mib} MiB' if one.used_mib is not None else ''})"
        for one in nvidia.holders
        if one.uuid == gpu.uuid
    ]
    name = f"memory of GPU {gpu.number}"
    found = f"{gpu.free_mib} of {gpu.memory_mib} MiB free"
    held = f"; held by {', '.join(holders)}" if holders else ""
    if gpu.memory_mib and gpu.free_mib * 2**20 < LITTLE_BYTES:
        return Finding(
            name,
            "fail",
            found + held,
            "too little for two ranks",
            "end the processes named, or restart the notebooks' kernels that they belong to",
        )
    if holders or gpu.free_mib < BUSY_SHARE * gpu.memory_mib:
        return Finding(
            name,
            "warn",
            found + (held or "; nobody of this container holds it"),
            "large models may not fit, and measured times include somebody else's work",
            "end the processes named, or measure when they are done",
        )
    return Finding(name, "ok", found, "free for the lab")


def judge_torch(facts: Facts) -> Iterator[Finding]:
    torch = facts.torch_build
    assert torch is not None
    name = "torch and CUDA"
    if not torch.gloo:
        yield Finding(
            "gloo",
            "fail",
            "this torch is built without it",
            "DEP and weight_gather cannot exchange between CPU ranks",
            f"install torch's own wheel: {PYTORCH}",
            ("CPU ranks",),
        )
    if not torch.cuda:
        if facts.gpus_here:
            yield Finding(
                name,
                "warn",
                f"torch {torch.version} is a CPU build, and there are GPUs",
                "the GPUs stay unused",
                f"{_cuda_wheel(torch.version, torch.driver_cuda)} ({PYTORCH})",
                GPU_FORMS,
            )
        else:
            yield Finding(name, "ok", f"torch {torch.version}, a CPU build", "what a machine without GPUs needs")
        return
    found = f"torch {torch.version} for CUDA {torch.cuda}, driver up to CUDA {torch.driver_cuda or 'unknown'}"
    if torch.trouble and facts.gpus_here:
        fix = next((fix for text, fix in KNOWN_TROUBLES if text in torch.trouble), f"see {PYTORCH}, and nvidia-smi")
        yield Finding(name, "fail", f"{found}: {torch.trouble}", "torch cannot use the GPUs", fix, GPU_FORMS)
    elif not torch.gpus:
        yield Finding(name, "ok", f"{found}; no GPU", "CPU ranks work with it too")
    else:
        yield Finding(
            name, "ok", f"{found}, {len(torch.gpus)} GPUs, NCCL {torch.nccl or 'missing'}", "GPUs can be used"
        )
        yield from _capability(facts)
        yield _bindings(facts)
        yield _sensors(facts)


def _cuda_wheel(version: str, driver_cuda: str) -> str:
    build = "cu130" if driver_cuda and int(driver_cuda.partition(".")[0]) >= 13 else "cu126"
    number = version.partition("+")[0]
    return f"pip install --force-reinstall torch=={number} --index-url https://download.pytorch.org/whl/{build}"


def _capability(facts: Facts) -> Iterator[Finding]:
    assert facts.torch_build is not None
    for gpu in sorted(set(facts.torch_build.gpus)):
        major, minor = gpu.capability
        found = f"{gpu.name}, capability {major}.{minor}"
        if (major, minor) >= (9, 0):
            yield Finding("kind of GPU", "ok", found, "moves tiles by TMA, as the kernels were written for")
        elif major >= 8:
            meaning = "the kernels run without TMA; nobody has measured them on such a GPU"
            yield Finding("kind of GPU", "warn", found, meaning, "take Hopper (H100, H200) or newer to measure kernels")
        else:
            meaning = "no bf16 in hardware: results stay right, speeds say nothing about modern GPUs"
            yield Finding("kind of GPU", "warn", found, meaning, "take Hopper (H100, H200) or newer to measure")


def _bindings(facts: Facts) -> Finding:
    torch, found = facts.torch_build, facts.version("cuda-bindings")
    assert torch is not None
    name = "CUDA's bindings"
    install = f"pip install 'cuda-bindings=={torch.cuda.partition('.')[0]}.*'"
    if found is None:
        meaning = "GPU ranks copy and share memory through these bindings of CUDA"
        return Finding(name, "fail", "not installed", meaning, install, ("GPU ranks",))
    if found.partition(".")[0] != torch.cuda.partition(".")[0]:
        meaning = "the bindings speak of another CUDA than torch does; calls may be missing in the driver"
        return Finding(name, "warn", f"{found}, torch is for CUDA {torch.cuda}", meaning, install)
    return Finding(name, "ok", found, "same CUDA as torch's: ranks can share GPU memory through the driver")


def _sensors(facts: Facts) -> Finding:
    found = facts.version("nvidia-ml-py")
    name = "clocks and power"
    if found is None:
        meaning = "GPU runs go on without the clocks and power that explain them"
        return Finding(name, "warn", "the package nvidia-ml-py is missing", meaning, "pip install nvidia-ml-py")
    return Finding(name, "ok", f"nvidia-ml-py {found}", "measured runs keep what the GPUs' sensors said")
