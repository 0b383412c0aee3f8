"""What all forms of DEP's traffic share: rows sent over gloo as bytes, so that every type goes the same way."""

from __future__ import annotations

import math
import pickle
from collections.abc import Sequence
from typing import Protocol, TypeVar

import torch
import torch.distributed as dist
from dwdp_kernels.e4m3 import E4M3, Quantised, quantise
from dwdp_kernels.grouped_mlp import Rows, expert_rows, rows_of, sort_by_expert, weighted_sum
from torch import Tensor

from dwdp_lab.execute.cpu.staging import ExpertTensors

T = TypeVar("T")


class Exchange(Protocol):
    """One layer's tokens, sent to the experts' ranks (when this is made: a collective) and back."""

    def compute(self, weights: ExpertTensors) -> None:
        """This rank's experts for what has arrived."""

    def finish(self) -> Tensor:
        """Send the results home (a collective) and return this rank's own, [T, H]."""


def outgoing(normed: Tensor, scaled: bool) -> tuple[Tensor, ...]:
    """What goes to the experts: the tokens' rows [n, H]. To experts in e4m3 they go as these take them, quantised, as
    bytes and with scales [n, 1]: fewer bytes, and the same result."""
    if not scaled:
        return (normed,)
    values, scales = quantise(normed)
    return values.view(torch.uint8), scales[:, None]


def arrived(parts: Sequence[Tensor]) -> Rows:
    """What goes into the experts, of such parts from anywhere."""
    return parts[0] if len(parts) == 1 else Quantised(parts[0].view(E4M3), parts[1][:, 0])


def partial_sums(tokens: Sequence[Tensor], mine: range, weights: ExpertTensors) -> Tensor:
    """[n, H]: each token's weighted sum over those of its experts that are `mine`, in order of choice.

    `tokens` are its rows as they came, experts and weights.
    """
    *rows, ids, shares = tokens
    here = (ids >= mine.start) & (ids < mine.stop)
    token = here.nonzero()[:, 0]
    order, offsets = sort_by_expert(ids[here] - mine.start, len(mine))
    computed = expert_rows(rows_of(arrived(rows), token[order]), offsets, weights.w13, weights.w2, shares.dtype)
    found = torch.zeros(*here.shape, computed.shape[1], dtype=computed.dtype)
    found[here] = computed[order.argsort()]
    return weighted_sum(found, shares)


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


def packed(parts: Sequence[Tensor]) -> Tensor:
    """[n, bytes] uint8: each token's parts [n, ...] side by side."""
    return torch.cat([as_bytes(part) for part in parts], 1)


def unpacked(rows: Tensor, like: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The inverse of `packed`, with the types of `like`."""
    widths = [part.shape[1] * part.dtype.itemsize for part in like]
    parts = zip(torch.split(rows, widths, 1), like, strict=True)
    # always copied: columns of a single row, or of none, count as contiguous, and begin where no wider type may
    return tuple(column.clone(memory_format=torch.contiguous_format).view(part.dtype) for column, part in parts)


def as_bytes(rows: Tensor) -> Tensor:
    """[n, row bytes] uint8 view of rows [n, ...]."""
    return rows.reshape(len(rows), math.prod(rows.shape[1:])).view(torch.uint8)
