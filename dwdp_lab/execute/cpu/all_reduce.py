"""All-reduce over gloo: the rows are dealt out, each rank adds up its own in rank order, and all get all sums.

gloo's own would add in an order that depends on the number of ranks and on the size.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

from dwdp_lab.execute.cpu.exchange_rows import as_bytes, exchange_rows
from dwdp_lab.scenario.shares import cut


def all_reduce(part: Tensor, ranks: int, rank: int) -> Tensor:
    """[T, H]: the sum of all ranks' parts, added in fp32 and rounded once to their type; the same on every rank."""
    counts = [len(cut(len(part), ranks, peer)) for peer in range(ranks)]
    arrived = exchange_rows(part, counts, [counts[rank]] * ranks).view(ranks, counts[rank], part.shape[1])
    total = torch.zeros(counts[rank], part.shape[1], dtype=torch.float32)
    for one in arrived:
        total += one
    own = as_bytes(total.to(part.dtype))
    padded = torch.zeros(max(1, *counts), own.shape[1], dtype=torch.uint8)
    padded[: len(own)] = own
    everyone = torch.empty(ranks, *padded.shape, dtype=torch.uint8)
    dist.all_gather(list(everyone), padded)
    return torch.cat([everyone[peer, :count] for peer, count in enumerate(counts)]).view(part.dtype)
