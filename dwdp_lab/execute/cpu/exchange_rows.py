"""What all forms of DEP's traffic share: rows sent over gloo as bytes, so that every type goes the same way."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist
from dwdp_kernels.grouped_mlp import expert_rows, sort_by_expert, weighted_sum
from torch import Tensor

from dwdp_lab.execute.cpu.staging import ExpertTensors
from dwdp_lab.model.layers import Routing

T = TypeVar("T")


class Exchange(Protocol):
    """One layer's tokens, sent to the experts' ranks (when this is made: a collective) and back."""

    def compute(self, weights: ExpertTensors) -> None:
        """This rank's experts for what has arrived."""

    def finish(self) -> Tensor:
        """Send the results home (a collective) and return this rank's own, [T, H]."""


def partial_sums(tokens: Routing, mine: range, weights: ExpertTensors) -> Tensor:
    """[n, H]: each token's weighted sum over those of its experts that are `mine`, in order of choice."""
    here = (tokens.ids >= mine.start) & (tokens.ids < mine.stop)
    token = here.nonzero()[:, 0]
    order, offsets = sort_by_expert(tokens.ids[here] - mine.start, len(mine))
    computed = expert_rows(tokens.normed[token[order]], offsets, weights.w13, weights.w2)
    rows = torch.zeros(*here.shape, tokens.normed.shape[1], dtype=computed.dtype)
    rows[here] = computed[order.argsort()]
    return weighted_sum(rows, tokens.weights)


def exchange_rows(rows: Tensor, sent: Sequence[int], received: Sequence[int]) -> Tensor:
    """All-to-all of rows [sum(sent), H], in rank order, to [sum(received), H]."""
    outgoing = as_bytes(rows)
    incoming = torch.empty(sum(received), outgoing.shape[1], dtype=torch.uint8)
    dist.all_to_all_single(incoming, outgoing, list(received), list(sent))
    return incoming.view(rows.dtype)


def gather_counts(counts: Tensor, ranks: int) -> Tensor:
    """[ranks, n]: every rank's counts [n]."""
    everyone = torch.empty(ranks, len(counts), dtype=counts.dtype)
    dist.all_gather(list(everyone), counts)
    return everyone


def exchange_objects(objects: Sequence[T]) -> list[T]:
    """One picklable object to each rank, and what each has for this one, both in rank order."""
    pickled = [torch.frombuffer(bytearray(pickle.dumps(one)), dtype=torch.uint8) for one in objects]
    sizes = [len(one) for one in pickled]
    received: list[int] = gather_counts(torch.tensor(sizes), len(objects))[:, dist.get_rank()].tolist()
    rows = exchange_rows(torch.cat(pickled)[:, None], sizes, received)
    return [pickle.loads(rows_of.numpy().tobytes()) for rows_of in torch.split(rows, received)]


def packed(tokens: Routing) -> Tensor:
    """[n, bytes] uint8: each token's row, experts and weights side by side."""
    return torch.cat([as_bytes(part) for part in tokens], 1)


def unpacked(rows: Tensor, like: Routing) -> Routing:
    """The inverse of `packed`, with the types of `like`."""
    widths = [part.shape[1] * part.dtype.itemsize for part in like]
    parts = zip(torch.split(rows, widths, 1), like, strict=True)
    return Routing(*(column.contiguous().view(part.dtype) for column, part in parts))


def as_bytes(rows: Tensor) -> Tensor:
    """[n, row bytes] uint8 view of rows [n, ...]."""
    return rows.reshape(len(rows), math.prod(rows.shape[1:])).view(torch.uint8)
