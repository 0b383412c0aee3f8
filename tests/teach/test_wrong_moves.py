"""Typical wrong answers to the lesson on moving weights: each caught by its property."""

from __future__ import annotations

from statistics import mean
from typing import Any

import pytest
from course import catches, named

from dwdp_lab.program.placement import Placement
from dwdp_lab.program.pull_plan import Layout
from dwdp_lab.teach import moving_weights_answers


def bandwidth_alone(sizes: list[int], times_us: list[float]) -> tuple[float, float]:
    return 0.0, sum(sizes) / sum(times_us) / 1e3


def bytes_per_us(sizes: list[int], times_us: list[float]) -> tuple[float, float]:
    latency, gbps = moving_weights_answers.fit_copy(sizes, times_us)
    return latency, 1e3 * gbps


def first_copy_is_latency(sizes: list[int], times_us: list[float]) -> tuple[float, float]:
    return times_us[0], (sizes[-1] - sizes[0]) / (times_us[-1] - times_us[0]) / 1e3


def plain_least_squares(sizes: list[int], times_us: list[float]) -> tuple[float, float]:
    size, time = mean(sizes), mean(times_us)
    pairs = list(zip(sizes, times_us, strict=True))
    slope = sum((s - size) * (t - time) for s, t in pairs) / sum((s - size) ** 2 for s, _ in pairs)
    return time - slope * size, 1e-3 / slope


def parts_without_the_rest(experts: int, ranks: int, local: int) -> list[range]:
    each = experts // ranks
    return [range(rank * each, rank * each + local) for rank in range(ranks)]


def one_after_another(experts: int, ranks: int, local: int) -> list[range]:
    del experts
    return [range(rank * local, rank * local + local) for rank in range(ranks)]


def exact_parts(experts: int, ranks: int, local: int) -> list[range]:
    del local
    return [range(rank * experts // ranks, (rank + 1) * experts // ranks) for rank in range(ranks)]


def whole_windows(windows: list[range], rank: int) -> dict[int, list[int]]:
    return {peer: list(window) for peer, window in enumerate(windows) if peer != rank}


def from_every_owner(windows: list[range], rank: int) -> dict[int, list[int]]:
    others = {peer: window for peer, window in enumerate(windows) if peer != rank}
    return {peer: [e for e in window if e not in windows[rank]] for peer, window in others.items()}


def from_the_lowest(windows: list[range], rank: int) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for expert in range(max(window.stop for window in windows)):
        if expert not in windows[rank]:
            owner = next(peer for peer, window in enumerate(windows) if expert in window)
            found.setdefault(owner, []).append(expert)
    return found


def blocks_of_e_over_n(windows: list[range], rank: int) -> dict[int, list[int]]:
    """Right while windows do not overlap and N divides E."""
    each = max(window.stop for window in windows) // len(windows)
    return {p: list(range(p * each, (p + 1) * each)) for p in range(len(windows)) if p != rank}


def _slices(
    where: Placement,
    rank: int,
    sizes: list[tuple[str, int]],
    slice_bytes: int,
    gap: bool = False,
    from_zero: bool = False,
    whole_expert: bool = False,
    uncut: bool = False,
    lose_the_rest: bool = False,
    by_expert: bool = False,
    at_the_start: bool = False,
    own_window: bool = False,
) -> list[tuple[int, int, int, int]]:
    own, copies = where.local(rank), []
    slot_experts = where.experts if gap else where.experts - where.local_experts
    shard, slot = Layout(tuple(sizes), where.local_experts), Layout(tuple(sizes), slot_experts)
    expert_bytes = sum(size for _, size in sizes)
    for name, size in sizes:
        for peer, experts in where.pulled(rank):
            for expert in experts if by_expert or whole_expert else experts[:1]:
                index = expert if gap or expert < own.start else expert - len(own)
                index = expert - experts.start if at_the_start else index
                begins = peer * where.experts // where.ranks if own_window else where.local(peer).start
                at = expert - (0 if from_zero else begins)
                source, target = shard.offset(name, at), slot.offset(name, index)
                if whole_expert:  # as if an expert's parameters lay side by side
                    first = sum(s for n, s in sizes[: [n for n, _ in sizes].index(name)])
                    source, target = at * expert_bytes + first, index * expert_bytes + first
                total = size if by_expert or whole_expert else len(experts) * size
                step = total if uncut else slice_bytes
                for done in range(0, total - (total % step if lose_the_rest and total > step else 0), step):
                    copies.append((peer, source + done, target + done, min(step, total - done)))
    return copies


def _slices_with(**mistake: bool) -> Any:
    def pull_slices(
        where: Placement, rank: int, sizes: list[tuple[str, int]], slice_bytes: int
    ) -> list[tuple[int, int, int, int]]:
        return _slices(where, rank, sizes, slice_bytes, **mistake)

    return pull_slices


WRONG: list[tuple[str, Any, str, str]] = [
    # exercise, answer, property, words of the counter-example
    ("moving_weights.fit_copy", bandwidth_alone, "two copies give a line", "[20.0, 30.0]"),
    ("moving_weights.fit_copy", bytes_per_us, "two copies give a line", "100000 GB/s, but it is"),
    ("moving_weights.fit_copy", first_copy_is_latency, "two copies give a line", "20 us"),
    ("moving_weights.fit_copy", lambda *_: 1.0, "two copies give a line", "a pair"),
    ("moving_weights.windows", parts_without_the_rest, "no expert that does not exist", "(2, 2, 2)"),
    ("moving_weights.windows", one_after_another, "no expert that does not exist", "(2, 2, 2)"),
    ("moving_weights.windows", exact_parts, "each window is `local` experts in a row", "(2, 2, 2)"),
    ("moving_weights.windows", lambda *case: [range(case[2])], "a window for every rank", "1 windows for 2 ranks"),
    ("moving_weights.shares", whole_windows, "nothing that the rank keeps itself", "keeps expert 0 itself"),
    ("moving_weights.shares", from_every_owner, "every missing expert exactly once", "expert 0 comes 2 times"),
    ("moving_weights.shares", blocks_of_e_over_n, "from peers that keep it", "does not keep expert"),
    ("moving_weights.pull_slices", _slices_with(from_zero=True), "one expert from one peer", "past the end"),
    (
        "moving_weights.pull_slices",
        _slices_with(whole_expert=True),
        "every peer's experts have their place in the slot",
        "should be byte",
    ),
    ("moving_weights.pull_slices", _slices_with(gap=True), "one expert from one peer", "past the end of the slot"),
    (
        "moving_weights.pull_slices",
        _slices_with(at_the_start=True),
        "every peer's experts have their place in the slot",
        "has written",
    ),
    (
        "moving_weights.pull_slices",
        _slices_with(lose_the_rest=True),
        "slices bring every byte too",
        "nothing is copied",
    ),
    ("moving_weights.pull_slices", _slices_with(own_window=True), "windows may overlap", "should be byte"),
    ("moving_weights.pull_slices", _slices_with(uncut=True), "no copy is longer than a slice", "2 bytes long"),
    ("moving_weights.pull_slices", lambda *_: [(0, 0)], "one expert from one peer", "is wanted"),
    ("moving_weights.pull_slices", lambda *_: [], "one expert from one peer", "nothing is copied to byte 0"),
]


@pytest.mark.parametrize(("key", "answer", "violated", "words"), WRONG)
def test_it_is_caught_by_its_property(key: str, answer: Any, violated: str, words: str) -> None:
    catches(key, answer, violated, words)


@pytest.mark.parametrize(
    ("key", "answer"),
    [
        ("moving_weights.fit_copy", plain_least_squares),
        ("moving_weights.shares", from_the_lowest),
        ("moving_weights.pull_slices", _slices_with(by_expert=True)),
    ],
)
def test_correct_but_not_good(key: str, answer: Any) -> None:
    passed = named(key).check(answer)
    assert passed.reached == ()
    assert "not reached yet" in repr(passed)
