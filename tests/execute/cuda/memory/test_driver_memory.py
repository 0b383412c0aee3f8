"""DriverMemory makes the driver's calls as the driver wants them, and tells its errors."""

from __future__ import annotations

import os
import sys

import pytest
import torch
from fake_driver import Result, driver_memory_over
from host_memory import HostMemory, no_files_left
from memory_ranks import check_copies, on_ranks, order_of, perform, scenario
from rank_threads import ThreadSession, in_threads

from dwdp_lab.execute.cuda.gpu.driver_calls import DriverError, load_driver, mebibytes
from dwdp_lab.execute.cuda.kept import Kept
from dwdp_lab.execute.cuda.memory.choose_transport import trials
from dwdp_lab.execute.cuda.memory.driver_memory import DriverMemory, tensor_over

PAGE = 4096


def test_blocks_are_created_handed_over_mapped_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostMemory(PAGE, offered=("descriptor", "fabric"))
    memory, driver = driver_memory_over(host, monkeypatch)
    assert memory.granularity == PAGE
    with no_files_left():
        for kind in ("descriptor", "fabric"):
            block = memory.create(2 * PAGE, kind)
            exported = memory.export(block, kind)
            assert isinstance(exported, int if kind == "descriptor" else bytes)
            adopted = memory.adopt(exported)
            if isinstance(exported, int):
                os.close(exported)
            address = memory.reserve(4 * PAGE)
            memory.map(address, 2 * PAGE, block)
            memory.map(address + 2 * PAGE, 2 * PAGE, adopted)
            assert not driver.unreadable
            memory.tensor(address, (2, PAGE), torch.uint8).copy_(torch.arange(2)[:, None] + 5)
            seen = memory.tensor(address + 2 * PAGE, (PAGE, 2), torch.uint8)
            assert seen.tolist() == [[5, 5]] * (PAGE // 2) + [[6, 6]] * (PAGE // 2)
            for each in (address, address + 2 * PAGE):
                memory.unmap(each, 2 * PAGE)
            memory.free(address, 4 * PAGE)
            memory.release(adopted)
            memory.release(block)
        host.assert_nothing_left()


def test_a_mapping_without_access_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostMemory(PAGE)
    memory, driver = driver_memory_over(host, monkeypatch)
    driver.refuse_access = Result.CUDA_ERROR_INVALID_DEVICE
    block, address = memory.create(PAGE), memory.reserve(PAGE)
    with pytest.raises(DriverError, match=r"cuMemSetAccess \(4096 bytes on GPU 1 at 0x.*topo -p2p r"):
        memory.map(address, PAGE, block)
    memory.free(address, PAGE)
    memory.release(block)
    host.assert_nothing_left()


def test_torch_gives_back_what_it_holds_before_memory_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostMemory(PAGE, limit=PAGE)
    memory, _ = driver_memory_over(host, monkeypatch)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: setattr(host, "limit", 4 * PAGE))
    first = memory.create(3 * PAGE)
    wanted = r"cuMemCreate \(8192 bytes on GPU 1, 4096 bytes free\): CUDA_ERROR_OUT_OF_MEMORY; .* lower model.layers"
    with pytest.raises(DriverError, match=wanted):
        memory.create(2 * PAGE)
    memory.release(first)
    host.assert_nothing_left()


def test_without_virtual_memory_management_only_creating_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    host = HostMemory(PAGE, offered=())
    _, driver = driver_memory_over(host, monkeypatch)
    driver.supported = 0
    memory = DriverMemory(1)
    assert memory.granularity == 1 << 21
    by_name = {trial.name: trial.failure for trial in trials(memory, None)}
    assert by_name["ipc"] == "not tried"
    assert "cuMemCreate (2 MiB on GPU 1): CUDA_ERROR_NOT_SUPPORTED" in str(by_name["descriptor"])
    assert "cuMemCreate (2 MiB on GPU 1): CUDA_ERROR_NOT_SUPPORTED" in str(by_name["fabric"])


@pytest.mark.parametrize("kind", ["descriptor", "fabric"])
def test_whole_ranks_run_on_it(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = [HostMemory(PAGE, offered=(kind,)) for _ in range(2)]  # type: ignore[arg-type]
    memories = [driver_memory_over(host, monkeypatch)[0] for host in hosts]
    work = scenario(2, **{"strategy.weight_view": "composite", "model.experts": 7})

    class Device:
        torch_device = torch.device("cpu")

        def __init__(self, rank: int) -> None:
            self.memory = memories[rank]

        def synchronize(self) -> None:
            pass

    def run(session: ThreadSession) -> None:
        kept = Kept(Device(session.rank))  # type: ignore[arg-type]
        prepared = kept.prepare(session, order_of(work, session.rank))  # type: ignore[arg-type]
        check_copies(hosts[session.rank], prepared.copies(0, 0))
        perform(prepared.copies(0, 0))
        kept.close()

    in_threads(2, run)
    for host in hosts:
        host.assert_nothing_left()


def test_missing_bindings_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    with pytest.raises(ImportError, match=r"pip install 'cuda-bindings==12\.\*'"):
        load_driver()


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((3, 4, 5), torch.bfloat16), ((7,), torch.uint8), ((2, 1), torch.float32), ((0, 3), torch.int64)],
)
def test_a_tensor_over_an_address_is_the_memory(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    owner = torch.arange(256, dtype=torch.uint8)
    seen = tensor_over(owner.data_ptr() + 8, shape, dtype, torch.device("cpu"))
    assert (tuple(seen.shape), seen.dtype, seen.is_contiguous()) == (shape, dtype, True)
    nbytes = seen.numel() * dtype.itemsize
    assert torch.equal(seen.view(torch.uint8).flatten(), owner[8 : 8 + nbytes])


def test_a_tensor_made_in_inference_mode_may_be_written_outside_of_it() -> None:
    owner = torch.zeros(8, dtype=torch.uint8)
    with torch.inference_mode():
        seen = tensor_over(owner.data_ptr(), (8,), torch.uint8, torch.device("cpu"))
    seen[2:].add_(1)
    assert owner.tolist() == [0, 0] + [1] * 6


def test_sizes_in_words() -> None:
    assert [mebibytes(n) for n in (4096, 1 << 20, 3 << 30)] == ["4096 bytes", "1 MiB", "3,072 MiB"]


def test_on_ranks_gives_everything_back_by_itself() -> None:
    """The tests' own closing is a test only if it would notice."""
    with pytest.raises(AssertionError):
        on_ranks(1, lambda rank: rank.memory.create(PAGE))
