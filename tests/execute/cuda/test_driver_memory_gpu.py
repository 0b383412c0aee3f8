"""Peer memory on real GPUs: `make test-gpu`. Two ranks share the GPU where there is only one."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from memory_ranks import check_tables, order_of, scenario
from pair_of_processes import PairSession, run_pair

from dwdp_lab.execute.cuda.experts.composite import CompositeStaging
from dwdp_lab.execute.cuda.gpu.cuda_device import CudaDevice
from dwdp_lab.execute.cuda.gpu.device import HandleKind
from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError, load_driver
from dwdp_lab.execute.cuda.kept import Kept
from dwdp_lab.execute.cuda.memory.driver_memory import DriverMemory
from dwdp_lab.execute.cuda.memory.legacy_ipc import DriverIpc
from dwdp_lab.program.operation import Op
from dwdp_lab.program.placement import placement
from dwdp_lab.scenario.scenario import Scenario

MIB = 1 << 20

# experts of 3 MiB and 1.5 MiB: with 7 of them, pages are shared by local and pulled ones
MODEL: dict[str, Any] = {
    "name": "test",
    "layers": 3,
    "hidden": 1024,
    "attention": {"kind": "gqa", "heads": 2, "kv_heads": 1, "head_dim": 16},
    "experts": 7,
    "top_k": 2,
    "expert_intermediate": 768,
    "dtype": "bf16",
    "expert_dtype": "bf16",
}


def why_not() -> str | None:
    """Why these tests cannot run here; None when they can."""
    if not torch.cuda.is_available():
        return "no NVIDIA GPU here"
    try:
        load_driver()
    except ImportError as error:
        return str(error)
    return None


pytestmark = [pytest.mark.gpu, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]


def used_bytes(index: int) -> int:
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(index)
    return total - free


def test_one_process_creates_hands_over_maps_and_gives_back() -> None:
    memory = DriverMemory(0)
    size = 64 * memory.granularity
    torch.zeros(1, device="cuda:0")
    before, files = used_bytes(0), len(os.listdir("/proc/self/fd"))
    block = memory.create(size, "descriptor")
    assert used_bytes(0) - before >= size
    fd = memory.export(block, "descriptor")
    assert isinstance(fd, int)
    adopted = memory.adopt(fd)
    os.close(fd)
    address = memory.reserve(2 * size)
    memory.map(address, size, block)
    memory.map(address + size, size, adopted)
    first = memory.tensor(address, (size // 2,), torch.bfloat16)
    second = memory.tensor(address + size, (size // 4, 2), torch.bfloat16)
    assert first.device == torch.device("cuda", 0)
    first.uniform_(-1, 1)
    torch.cuda.synchronize()
    assert torch.equal(first, second.flatten())
    assert not torch.equal(first[::2], first[1::2])
    del first, second
    for each in (address, address + size):
        memory.unmap(each, size)
    memory.free(address, 2 * size)
    memory.release(adopted)
    memory.release(block)
    assert used_bytes(0) - before < size // 8
    assert len(os.listdir("/proc/self/fd")) == files


def test_what_is_no_whole_page_is_refused() -> None:
    memory = DriverMemory(0)
    block, address = memory.create(2 * memory.granularity), memory.reserve(2 * memory.granularity)
    with pytest.raises(DriverError, match="cuMemMap"):
        memory.map(address, memory.granularity // 2, block)
    memory.free(address, 2 * memory.granularity)
    memory.release(block)


def test_too_much_memory_says_how_much_is_free() -> None:
    with pytest.raises(DriverError, match=r"cuMemCreate \(.* MiB on GPU 0, .* MiB free\): CUDA_ERROR_OUT_OF_MEMORY"):
        DriverMemory(0).create(1 << 42)


class WithoutExport(DriverMemory):
    """A driver that exports nothing."""

    def export(self, block: int, handles: HandleKind) -> int | bytes:
        raise DriverError("cuMemExportToShareableHandle", "CUDA_ERROR_NOT_SUPPORTED", f"block {block} as {handles}")


def pull_everything(session: PairSession, argument: tuple[list[Scenario], bool]) -> list[str]:
    """Every order's pulls by copy engine, all views compared with the drawn weights, everything given back."""
    works, exportable = argument
    index = session.rank % torch.cuda.device_count()
    torch.cuda.set_device(index)
    memory = DriverMemory(index) if exportable else WithoutExport(index)
    device = CudaDevice(torch.device("cuda", index), memory)
    notes, used = [], []
    for _ in range(2):  # the first time kernels are loaded, which stay
        notes = pull_works(session, works, device, index)
        session.gather("given back", None)
        used.append(used_bytes(index))
        session.gather("read", None)
    assert used[1] - used[0] < 4 * MIB, f"{(used[1] - used[0]) / MIB:.1f} MiB were not given back"
    return notes


def pull_works(session: PairSession, works: list[Scenario], device: CudaDevice, index: int) -> list[str]:
    kept = Kept(device, DriverIpc(index))
    copying = device.stream("copy")
    notes: list[str] = []
    for work in works:
        order = order_of(work, session.rank)
        run = kept.prepare(session, order)  # type: ignore[arg-type]
        notes += run.notes
        for op in order.program.ops:
            if op.kind == "experts":
                pull_one(op, work, run, device, copying)
        session.gather("pulled", None)  # what follows writes into a store that peers would still pull from
        if isinstance(run.staging, CompositeStaging):
            shows_the_store(kept, run, work, session.rank)
        session.gather("done", None)
    kept.close()
    return notes


def pull_one(op: Op, work: Scenario, run: Any, device: CudaDevice, copying: Any) -> None:
    assert op.slot is not None
    copying.copy(run.copies(op.layer, op.slot))
    device.synchronize()
    if work.strategy.weight_view == "merged":
        run.merge(op.layer, op.slot)
        device.synchronize()
    tables = run.tables(op.layer, op.slot)
    assert all(weight.device == device.torch_device for table in tables for weight in table.weights)
    check_tables(tables, work, op.layer, range(work.model.experts))


def shows_the_store(kept: Kept, run: Any, work: Scenario, rank: int) -> None:
    """What is written into the store appears in the view."""
    assert kept.shard is not None
    local = placement(work).local(rank)
    layer, slot = next(iter(run.copies_of))
    stored = kept.shard.parameter(layer, "w13")[1]
    was = stored.clone()
    stored.fill_(3.0)
    torch.cuda.synchronize()
    assert run.tables(layer, slot).w13.weights[local.start + 1].eq(3.0).all()
    stored.copy_(was)
    torch.cuda.synchronize()


@pytest.mark.parametrize("slice_bytes", [None, MIB])
def test_two_processes_pull_each_others_experts(slice_bytes: int | None) -> None:
    base = scenario(2, **{"model": MODEL, "group.local_experts": 4, "strategy.slice_bytes": slice_bytes})
    works = [base.replace(**{"strategy.weight_view": view}) for view in ("split", "merged", "composite")]
    for notes in run_pair(pull_everything, (works, True)):
        assert any("driver memory" in note for note in notes)


def test_two_processes_pull_by_cuda_ipc_where_nothing_is_exported() -> None:
    base = scenario(2, **{"model": MODEL, "group.local_experts": 4})
    works = [base.replace(**{"strategy.weight_view": view}) for view in ("split", "merged")]
    for notes in run_pair(pull_everything, (works, False)):
        assert all(note == "peers' weights: CUDA IPC" for note in notes)
