"""What the host should not have done while it queued is counted, and nothing else changes."""

from __future__ import annotations

import warnings

import pytest
import torch

from dwdp_lab.execute.cuda.gpu.queue_watch import QueueWatch


class Cuda:
    mode = 0
    allocations = 7

    def set_sync_debug_mode(self, mode: int | str) -> None:
        self.mode = {"default": 0, "warn": 1, "error": 2}[mode] if isinstance(mode, str) else mode

    def get_sync_debug_mode(self) -> int:
        return self.mode

    def memory_stats(self, index: int) -> dict[str, int]:
        assert index == 1
        return {"num_device_alloc": self.allocations}

    def item(self) -> None:
        if self.mode == 1:
            warnings.warn("called a synchronizing CUDA operation (Triggered internally at ...)", stacklevel=2)


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    made = Cuda()
    for name in ("set_sync_debug_mode", "get_sync_debug_mode", "memory_stats"):
        monkeypatch.setattr(torch.cuda, name, getattr(made, name))
    return made


def test_waits_and_requests_for_memory_are_counted(cuda: Cuda) -> None:
    watch = QueueWatch(1)
    with watch.watching():
        cuda.item()
        cuda.item()
        cuda.allocations += 3
        warnings.warn("something else", stacklevel=1)
    assert watch.seen == (3, 2)
    cuda.item()
    with watch.watching():
        pass
    assert watch.seen == (0, 0)


def test_torch_s_check_is_as_it_was_after_a_failure(cuda: Cuda) -> None:
    cuda.set_sync_debug_mode("error")
    with pytest.raises(ZeroDivisionError), QueueWatch(1).watching():
        raise ZeroDivisionError
    assert cuda.mode == 2
