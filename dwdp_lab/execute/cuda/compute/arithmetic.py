"""What the CUDA machine computes with: Triton kernels on a GPU, or plain torch, which they are checked against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from dwdp_kernels.e4m3 import Quantised
from dwdp_kernels.expert_table import ExpertTable
from dwdp_kernels.grouped_mlp import ExpertRows, Rows
from torch import Tensor


class ExpertTables(Protocol):
    """The weights of some experts, in the order of their numbers, wherever each lies."""

    @property
    def w13(self) -> ExpertTable: ...

    @property
    def w2(self) -> ExpertTable: ...


class Sorted(NamedTuple):
    """Visits sorted by group, int32 on the device. A group is an expert, or a rank."""

    token_of_row: Tensor
    """[T * k]: the token of each sorted row; undefined from offsets[-1] on"""
    row_of_visit: Tensor
    """[T, k]: the sorted row of each visit, -1 for a visit to no group"""
    offsets: Tensor
    """[groups + 1]: the first row of each group, and the end"""


class Arithmetic(Protocol):
    """What has a kernel. Everything is deterministic, and nothing but torch's reference makes the host wait."""

    def norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        """x / rms(x) * weight over rows of x [T, H], in fp32, rounded once."""

    def add_norm(self, before: Tensor, added: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        """before + added [T, H], and the norm of that."""

    def rotate(self, x: Tensor, cos: Tensor, sin: Tensor) -> None:
        """Turn each head of x [T, heads, D] by its token's angles [T, D / 2], in place and in fp32, rounded once."""

    def logits(self, x: Tensor, router: Tensor) -> Tensor:
        """[T, E] fp32 from x [T, H] and the router [E, H]: products and sums in fp32, nothing rounded in between."""

    def choose(
        self, logits: Tensor, bias: Tensor, top_k: int, normalise: bool, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """ids [T, k] int32 of the largest logit + bias, of equal ones the lower, and their weights [T, k]."""

    def sort(self, ids: Tensor, groups: int) -> Sorted:
        """Visits [T, k] to groups 0 .. groups - 1 (others count for nothing), in the order of tokens within each."""

    def quantise(self, x: Tensor) -> Quantised:
        """x [T, H] in e4m3 with a scale per row, as `experts` would do it for weights in e4m3."""

    def experts(self, x: Rows, ids: Tensor, weights: Tensor, tables: ExpertTables, visits: int) -> Tensor:
        """[T, H]: the sum over j of weights[t, j] * MLP_ids[t, j](x[t]); ids outside 0 .. E - 1 count for nothing.

        The result is of x's type, which is that of the weights too.

        `visits` is about how many do count: the kernels' tiles are chosen for it.
        """

    def visit_experts(self, x: Rows, ids: Tensor, weights: Tensor, tables: ExpertTables, visits: int) -> ExpertRows:
        """The rows that `experts` sums, for `combine` or `combine_norm`."""

    def combine(
        self,
        rows: Tensor,
        row_of_visit: Tensor,
        weights: Tensor,
        shared: Tensor | None = None,
        before: Tensor | None = None,
    ) -> Tensor:
        """[T, H]: before + (the sum over j of weights[t, j] * rows[row_of_visit[t, j]] + shared), -1 counting for
        nothing. The sum is in fp32; it and what is added to it are rounded, one after the other."""

    def combine_norm(
        self,
        rows: Tensor,
        row_of_visit: Tensor,
        weights: Tensor,
        norm_weight: Tensor,
        eps: float,
        shared: Tensor | None = None,
        before: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What `combine` gives, and the norm of that."""

    def visited_ranks(self, ids: Tensor, owner_of_expert: Tensor, ranks: int) -> Tensor:
        """[N, T] bool: whether token t has an expert on rank r, for ids [T, k] and owners [E] int32."""

    def put_rows(self, rows: Tensor, wanted: Tensor, first: int, target: Tensor) -> None:
        """Bytes `first` on of rows [R, ...] into target [n] uint8, perhaps a peer's memory, but only of rows that are
        `wanted` [R]; the rest of the target stays as it is."""

    def add_rows(self, parts: Sequence[Tensor], given: Tensor, columns: int, first: int, out: Tensor) -> None:
        """Elements `first` on of rows [R, columns]: out [n] becomes the sum of parts [n] where given[r] [R] has their
        row, in rank order, in fp32 and rounded once. What is not given is not looked at."""

    def beside_collectives(self) -> Arithmetic:
        """The same bits, on a GPU some of whose processors collectives may hold all the while."""
