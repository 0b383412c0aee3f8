"""Typical wrong answers to the lesson on split weights: each caught by its property."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from course import catches, named, written
from torch import Tensor

from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.teach import split_weights_answers


def everything_everywhere(shape: ModelShape, local: int, view: str) -> tuple[float, float]:
    return shape.experts * shape.expert_bytes, split_weights_answers.view_costs(shape, local, view)[1]


def written_only(shape: ModelShape, local: int, view: str) -> tuple[float, float]:
    slot, moved = split_weights_answers.view_costs(shape, local, view)
    return slot, moved / 2


def merges_all(shape: ModelShape, local: int, view: str) -> tuple[float, float]:
    slot, moved = split_weights_answers.view_costs(shape, local, view)
    return slot, moved * shape.experts / local


def slot_of_pulled_ones(shape: ModelShape, local: int, view: str) -> tuple[float, float]:
    return split_weights_answers.view_costs(shape, local, "split")[0], 2 * local * shape.expert_bytes * (
        view == "merged"
    )


def exact_bytes(start: int, end: int, nbytes: int, page: int) -> list[tuple[int, int, str]]:
    del page
    found = [(0, start, "slot"), (start, end, "own"), (end, nbytes, "slot")]
    return [piece for piece in found if piece[0] < piece[1]]


def rounded_out(start: int, end: int, nbytes: int, page: int) -> list[tuple[int, int, str]]:
    return exact_bytes(start // page * page, -(-end // page) * page, nbytes, page)


def rounded_in(start: int, end: int, nbytes: int, page: int) -> list[tuple[int, int, str]]:
    first, last = -(-start // page) * page, end // page * page
    return exact_bytes(first, max(first, last), nbytes, page)


def all_copied(start: int, end: int, nbytes: int, page: int) -> list[tuple[int, int, str]]:
    """A merge, in the words of a composite view."""
    del start, end, page
    return [(0, nbytes, "copied")]


def no_pieces_outside(start: int, end: int, nbytes: int, page: int) -> list[tuple[int, int, str]]:
    return [piece for piece in split_weights_answers.pieces(start, end, nbytes, page) if piece[2] != "slot"]


def visits_for_tokens(ids: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    return ids.flatten().argsort(stable=True), split_weights_answers.sort_rows(ids, experts)[1]


def forgets_the_last(ids: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    del experts
    return split_weights_answers.sort_rows(ids, int(ids.max()) + 1)


def ends_alone(ids: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    tokens, offsets = split_weights_answers.sort_rows(ids, experts)
    return tokens, offsets[1:]


def counts_for_offsets(ids: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    tokens, offsets = split_weights_answers.sort_rows(ids, experts)
    counts = offsets.diff()
    return tokens, torch.cat([counts.new_zeros(1), counts[:-1], offsets[-1:]])


def unsorted(ids: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    tokens = torch.arange(ids.numel()) // ids.shape[1]
    return tokens, split_weights_answers.sort_rows(ids, experts)[1]


def last_tokens_first(ids: Tensor, experts: int) -> tuple[Tensor, Tensor]:
    order = ids.flatten().flip(0).argsort(stable=True)
    return (ids.numel() - 1 - order) // ids.shape[1], split_weights_answers.sort_rows(ids, experts)[1]


WRONG: list[tuple[str, Any, str, str]] = [
    # exercise, answer, property, words of the counter-example
    ("split_weights.view_costs", everything_everywhere, "split and composite: room for what is pulled", "'split'"),
    ("split_weights.view_costs", slot_of_pulled_ones, "merged: room for all experts", "copied in as well"),
    ("split_weights.view_costs", written_only, "a copy reads and writes", "read, and written"),
    ("split_weights.view_costs", merges_all, "a copy reads and writes", "L experts"),
    ("split_weights.pieces", exact_bytes, "pieces are whole pages", "cuts a page of 4"),
    ("split_weights.pieces", rounded_out, "no pull writes into own memory", "overwrite what peers read"),
    ("split_weights.pieces", rounded_in, "local experts are where they belong", "nobody copies it"),
    ("split_weights.pieces", no_pieces_outside, "the pieces cover the range once", "the range at 8"),
    ("split_weights.pieces", lambda *_: [(0, 4, "mine")], "the pieces cover the range once", "(first, end, "),
    ("split_weights.sort_rows", visits_for_tokens, "every visit is a row", "[[1, 0]]"),
    ("split_weights.sort_rows", forgets_the_last, "an offset for every expert, and the end", "2 offsets for 2"),
    ("split_weights.sort_rows", ends_alone, "an offset for every expert, and the end", "one more than experts"),
    ("split_weights.sort_rows", counts_for_offsets, "offsets count each expert's rows", "has the rows"),
    ("split_weights.sort_rows", unsorted, "rows stand with their expert", "[[1], [0]]"),
    ("split_weights.sort_rows", last_tokens_first, "tokens keep their order", "[[0], [0]]"),
]


@pytest.mark.parametrize(("key", "answer", "violated", "words"), WRONG)
def test_it_is_caught_by_its_property(key: str, answer: Any, violated: str, words: str) -> None:
    catches(key, answer, violated, words)


@pytest.mark.parametrize(("key", "answer"), [("split_weights.pieces", all_copied)])
def test_correct_but_not_good(key: str, answer: Any) -> None:
    passed = named(key).check(answer)
    assert passed.reached == ()
    assert "not reached yet" in repr(passed)


# --- the kernel ---

ROWS64 = "rows.to(tl.int64)[:, None] * x_stride"
ADDRESS = "tl.load(table + expert).to(tl.pointer_type(x.dtype.element_ty))"
STORED = "mask=mine[:, None] & (columns < n)[None, :])"

KERNELS: list[tuple[str, str, str, str]] = [
    # what is written, what is written instead, property, words of the counter-example
    (
        ADDRESS,
        "tl.load(table).to(tl.pointer_type(x.dtype.element_ty)) + expert * n * k",
        "weights may lie in several buffers",
        "1, 1 rows",
    ),
    ("tl.load(tile_expert + tile)", "tile", "a tile is what tile_expert and tile_row say", "16, 16 rows"),
    ("tl.load(tile_row + tile)", "tile * block_m", "a tile is what tile_expert and tile_row say", "16, 16 rows"),
    (STORED, "mask=(columns < n)[None, :])", "an expert's rows end where the next one's begin", "behind the end"),
    ("rows < tl.load(offsets + expert + 1)", "rows >= 0", "an expert's rows end where the next one's begin", "5 rows"),
    (STORED, "mask=mine[:, None])", "columns end at N", "N = 8"),
    (" & (inner < k)", "", "all of K is summed, in fp32", "K = 8"),
    ("range(0, k, block_k)", "range(0, block_k, block_k)", "all of K is summed, in fp32", "K = 32"),
    (
        "total = tl.dot(a, w.T, total)",
        "total = (total + tl.dot(a, w.T)).to(tl.float16)",
        "all of K is summed, in fp32",
        "K = 32",
    ),
    (ROWS64, "rows[:, None] * x_stride", "rows may lie far apart", "int64"),
    (ROWS64, "rows.to(tl.int64)[:, None] * k", "rows of x are x_stride apart", "24 elements apart"),
    (
        ADDRESS,
        ADDRESS.replace(".to(", ".to(tl.int32).to(tl.int64).to(", 1),
        "one tile is a product",
        "address is wrong",
    ),
    ("w.T", "w", "one tile is a product", "row 0 (expert 0), column 0 is"),
    ("tl.zeros", "tl.zeroes", "one tile is a product", "(in: total = tl.zeroes("),
    ("tl.store", "None  # tl.store", "something is written", "stored nothing"),
    ("    x_stride,\n", "", "it is a kernel of this form", "not of the form"),
]


@pytest.mark.parametrize(("right", "wrong", "violated", "words"), KERNELS)
def test_a_wrong_kernel_is_caught_by_its_property(right: str, wrong: str, violated: str, words: str) -> None:
    exercise = named("split_weights.table_gemm")
    assert right in exercise.solution_code
    catches(exercise.key, written(exercise, exercise.solution_code.replace(right, wrong)), violated, words)
