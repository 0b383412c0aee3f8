"""The picture of shards and slot: every box is there, and a copy is green only when all of it is right."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.program.placement import Placement
from dwdp_lab.teach.layout_picture import OWN, layout_picture
from dwdp_lab.teach.moving_weights_answers import pull_slices
from dwdp_lab.teach.stamped import wrong_byte
from dwdp_lab.timeline.palette import GREEN, VERMILLION

SIZES = (("w13", 2), ("w2", 1))
WHERE = Placement(6, 3, 2)


def bands(svg: str) -> list[str]:
    return re.findall(r'<path d="[^"]*Z" fill="([^"]+)"', svg)


def test_each_parameter_of_each_pulled_expert_stands_in_a_shard_and_in_the_slot() -> None:
    boxes = re.findall(r"<title>expert (\d)'s (\w+)</title>", layout_picture(WHERE, 1, SIZES).svg)
    assert sorted(boxes) == sorted((str(expert), name) for expert in (0, 1, 4, 5) for name, _ in SIZES for _ in "ab")


def test_what_the_rank_keeps_itself_is_grey() -> None:
    svg = layout_picture(Placement(4, 3, 2), 1, SIZES).svg
    grey = re.findall(rf'fill="{OWN[0]}"><title>expert (\d)', svg)
    assert set(grey) == {"1", "2"}  # of the window from 1 on; peers keep these two as well
    assert "grey: rank 1 has it" in svg
    assert "grey" not in layout_picture(WHERE, 1, SIZES).svg


def test_the_right_plan_is_green() -> None:
    copies = pull_slices(WHERE, 1, list(SIZES), 3)
    assert bands(layout_picture(WHERE, 1, SIZES, copies).svg) == [GREEN] * len(copies)


@given(st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 7), st.integers(-1, 13), st.integers(-1, 4)), max_size=6))
def test_any_copies_are_drawn_or_left_out(copies: list[tuple[int, int, int, int]]) -> None:
    drawn = bands(layout_picture(WHERE, 1, SIZES, copies).svg)
    assert len(drawn) <= len(copies)
    if wrong_byte(WHERE, 1, SIZES, copies) is None:
        assert set(drawn) == {GREEN}
    single = [layout_picture(WHERE, 1, SIZES, [copy]).svg for copy in copies]
    assert sum(len(bands(svg)) for svg in single) == len(drawn)


def test_a_copy_with_one_wrong_byte_is_orange() -> None:
    svg = layout_picture(WHERE, 1, SIZES, [(0, 0, 0, 3), (0, 0, 1, 3), (2, 5, 11, 1), (0, 5, 9, 2)]).svg
    assert bands(svg) == [GREEN, VERMILLION, GREEN]  # the last reaches beyond the shard
