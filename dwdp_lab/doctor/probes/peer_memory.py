"""GPU memory that one process exports and another maps, as GPU ranks share their experts.

A block of the driver's virtual memory crosses as a file descriptor over a Unix socket. Between two GPUs where there
are two, so that the bytes cross their link; else between two processes on one GPU.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from dwdp_lab.execute.cuda.gpu.device import Memory

NBYTES = 1 << 20
DRIVER = "dwdp_lab.execute.cuda.memory.driver_memory:DriverMemory"


class PeerMemoryFacts(NamedTuple):
    """`devices` are those of the exporting and of the importing process."""

    devices: tuple[int, int]
    block_bytes: int
    right: bool


def probe() -> PeerMemoryFacts:
    import torch

    return export_import(DRIVER, (0, min(1, torch.cuda.device_count() - 1)))


def export_import(maker: str, devices: tuple[int, int]) -> PeerMemoryFacts:
    """`maker` is `module:callable`, which makes a Memory for a device's number."""
    import torch

    from dwdp_lab.doctor.probes.second_process import second_process

    memory = _made(maker, devices[0])
    nbytes = _whole_blocks(memory)
    block = memory.create(nbytes, "descriptor")
    address = memory.reserve(nbytes)
    memory.map(address, nbytes, block)
    ours = memory.tensor(address, (NBYTES,), torch.uint8)
    sent = torch.randint(0, 256, (NBYTES,), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours.copy_(sent)
    _finish(ours)
    handle = memory.export(block, "descriptor")
    assert isinstance(handle, int)
    try:
        with second_process(__name__, maker, str(devices[1])) as peer:
            peer.send(nbytes, [handle])
            peer.receive()
    finally:
        os.close(handle)
    return PeerMemoryFacts(devices, nbytes, torch.equal(ours.cpu(), ~sent))


def main(path: str, maker: str, device: int) -> None:
    """The second process: map the block, turn every bit of it."""
    import torch

    from dwdp_lab.doctor.probes.second_process import join

    first = join(path)
    nbytes, [fd] = first.receive()
    memory = _made(maker, device)
    block = memory.adopt(fd)
    address = memory.reserve(nbytes)
    memory.map(address, nbytes, block)
    theirs = memory.tensor(address, (NBYTES,), torch.uint8)
    theirs.copy_(~theirs)
    _finish(theirs)
    first.send("done")


def _made(maker: str, device: int) -> Memory:
    module, _, name = maker.partition(":")
    memory: Memory = getattr(import_module(module), name)(device)
    return memory


def _whole_blocks(memory: Memory) -> int:
    return -(-NBYTES // memory.granularity) * memory.granularity


def _finish(tensor: object) -> None:
    import torch

    if isinstance(tensor, torch.Tensor) and tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
