"""Findings on what GPUs do with each other: copies, exported memory, NCCL; and on Triton's kernels."""

from __future__ import annotations

from collections.abc import Iterator

from dwdp_lab.doctor.facts import Facts
from dwdp_lab.doctor.finding import Finding

ISOLATION = (
    "nvidia-smi topo -p2p r shows which pairs may; on bare metal switch the IOMMU's ACS off for the GPUs, "
    "on a rented machine take one whose GPUs are joined (NVLink, SXM)"
)


def judge_copies(facts: Facts) -> Iterator[Finding]:
    copies = facts.gpu_pairs
    assert copies is not None
    name = "copies between GPUs"
    wrong = [f"GPU {number}: {trouble}" for number, trouble in enumerate(copies.alone) if trouble]
    wrong += [f"GPUs {one} and {other}: {trouble}" for (one, other), trouble in copies.pairs.items() if trouble]
    if wrong:
        yield Finding(
            name,
            "fail",
            "; ".join(wrong),
            "bytes do not arrive as they were sent: nothing that ranks pull could be trusted",
            ISOLATION,
            ("GPU ranks",),
        )
    elif copies.pairs:
        yield Finding(name, "ok", f"1 MiB there and back for {len(copies.pairs)} pairs, all right", "ranks can pull")
    else:
        yield Finding(name, "ok", "1 MiB to the GPU and back, right; there is no second GPU", "the GPU works")
    indirect = [f"{one} and {other}" for (one, other), direct in copies.direct.items() if not direct]
    if indirect:
        yield Finding(
            "peer access",
            "warn",
            f"none between GPUs {', '.join(indirect)}",
            "pulls would go through the host's memory, at its speed, and exported memory cannot be mapped",
            ISOLATION,
        )
    elif copies.direct:
        yield Finding("peer access", "ok", f"all {len(copies.direct)} pairs", "copy engines reach every peer directly")


def judge_peer_memory(facts: Facts) -> Iterator[Finding]:
    shared = facts.peer_memory
    assert shared is not None
    first, second = shared.devices
    between = f"from GPU {first} to GPU {second}" if first != second else f"between two processes on GPU {first}"
    name = "exported GPU memory"
    if not shared.right:
        yield Finding(
            name,
            "fail",
            f"a block {between}: what came back is wrong",
            "ranks would read wrong weights",
            ISOLATION,
            ("GPU ranks",),
        )
    else:
        found = f"a block of {shared.block_bytes / 2**20:g} MiB {between}, right"
        yield Finding(name, "ok", found, "this is how ranks map each other's experts")


def judge_nccl(facts: Facts) -> Iterator[Finding]:
    nccl = facts.nccl
    assert nccl is not None
    name = "NCCL's first collective"
    if nccl.troubles:
        said = "; ".join(f"rank {rank}: {trouble}" for rank, trouble in nccl.troubles.items())
        yield Finding(
            name,
            "fail",
            said,
            "DEP and weight_gather, the baselines, cannot run; DWDP itself needs no collective",
            "NCCL_DEBUG=WARN dwdp-lab doctor tells more; often --shm-size=1g --ipc=host for a container, or "
            "NCCL_P2P_DISABLE=1 to see whether direct access is the trouble",
            ("GPU ranks",),
        )
    else:
        found = f"all-reduce over {nccl.ranks} GPU{'s' * (nccl.ranks != 1)}, {nccl.took_s:.1f} s with its start"
        yield Finding(name, "ok", found, "the baselines can exchange")


def judge_triton(facts: Facts) -> Iterator[Finding]:
    triton = facts.triton_kernel
    assert triton is not None
    name = "Triton"
    found = f"Triton {triton.version}, one kernel on the {triton.on}"
    on_gpu = triton.on == "GPU"
    if not triton.right:
        yield Finding(
            name,
            "fail",
            f"{found}: wrong result",
            "what the kernels compute could not be trusted",
            "pip install --force-reinstall with the versions of constraints.txt",
            ("GPU kernels",) if on_gpu else (),
        )
    elif on_gpu and not triton.compiler:
        yield Finding(
            name,
            "warn",
            f"{found}: right, from a cache; no C compiler is here",
            "the first use of every other kernel fails: Triton compiles its launcher",
            "apt-get install gcc, or set CC",
        )
    else:
        yield Finding(name, "ok", f"{found}: right", "kernels can be written and stepped through")
