"""Numbers that the host has to know before it can go on: how many rows an all-to-all moves, where that is counted
(counted.py), or which experts tokens visit."""

from __future__ import annotations

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.compute.buffers import Buffers
from dwdp_lab.execute.cuda.gpu.device import Device, Stream
from dwdp_lab.execute.tokens import tokens_of
from dwdp_lab.program.operation import Op


def read(device: Device, stream: Stream, buffers: Buffers, name: str, op: Op, shape: tuple[int, ...]) -> Tensor:
    """A host copy of an int32 buffer of this shape, as it is when the stream has come here. The host blocks until then,
    once per layer and step, and so the GPU runs dry until the host has issued what comes next."""
    pinned = device.torch_device.type == "cuda"
    copy = torch.empty(shape, dtype=torch.int32, pin_memory=pinned)

    def fetch() -> None:
        (source,) = buffers.get(name, tokens_of(op))
        copy.copy_(source, non_blocking=True)

    stream.run(fetch)
    arrived = device.event()
    stream.record(arrived)
    device.wait(arrived)
    return copy
