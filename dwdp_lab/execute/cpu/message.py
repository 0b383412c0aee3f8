"""Messages over gloo: hidden states from one rank to another. Two ranks' messages keep their order."""

from __future__ import annotations

import time

import torch
import torch.distributed as dist
from torch import Tensor

from dwdp_lab.execute.cpu.exchange_rows import as_bytes


def send(rows: Tensor, target: int, gbps: float | None) -> None:
    """Send rows [T, H], at the earliest when a link of `gbps` (1e9 bytes/s; None: no limit) could have carried them."""
    outgoing = as_bytes(rows.contiguous())
    if gbps is not None:
        time.sleep(outgoing.numel() / (gbps * 1e9))
    dist.send(outgoing, target)


def receive(tokens: int, hidden: int, dtype: torch.dtype, source: int) -> Tensor:
    """Rows [tokens, hidden], once they have come."""
    incoming = torch.empty(tokens, hidden * dtype.itemsize, dtype=torch.uint8)
    dist.recv(incoming, source)
    return incoming.view(dtype)
