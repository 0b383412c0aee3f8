"""How words are shown in a notebook: as they are, but never wider than it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.teach.shown import Gallery, Shown, Text, table
from dwdp_lab.timeline.words import COLUMNS, WIDE, wrapped
from dwdp_lab.view.charts.step_times import step_times

SENTENCE = (
    "Of a line that is wider than a notebook, words are broken in the middle: arXiv 2604.01621, section 4.3.2. " * 3
)


@pytest.mark.parametrize("shown", [Text(SENTENCE), Shown(SENTENCE), Gallery(SENTENCE)])
def test_long_lines_are_broken_between_words(shown: object) -> None:
    lines = repr(shown).splitlines()
    assert max(map(len, lines)) <= COLUMNS
    assert " ".join(lines).split() == SENTENCE.split()


def test_a_text_is_what_it_was_made_of() -> None:
    assert Text(SENTENCE) == SENTENCE


def test_tables_and_code_keep_their_lines() -> None:
    wide = table(("strategy", *"abcdef"), [("a name of many words " * 3, *["1234567890123"] * 6)])
    assert len(wide.splitlines()[1]) > WIDE
    assert wrapped(wide) == wide
    code = "def f():\n" + "    " + "x" * (WIDE - 4)
    assert wrapped(code) == code


def test_the_first_column_of_a_table_is_to_the_left_and_the_others_to_the_right() -> None:
    assert table(("a", "bb", "c"), [("xxx", 1, ""), ("y", 333, 4.5)]) == "a     bb    c\nxxx    1\ny    333  4.5"


@given(st.text(st.sampled_from("ab- \n"), max_size=600))
def test_no_word_is_lost_or_broken(text: str) -> None:
    assert wrapped(text).split() == text.split()


def test_an_address_longer_than_a_line_can_still_be_copied() -> None:
    address = "https://example.org/" + "all-in-one-word/" * 10
    assert len(address) > WIDE
    assert wrapped(f"See {address} of it.").splitlines() == ["See", address, "of it."]


def test_no_line_is_joined_to_the_next() -> None:
    lines = ["a short one", "", "another " * 14, "x"]
    assert wrapped("\n".join(lines)).split("\n") == lines


@pytest.mark.parametrize("pictures", [0, 1, 2])
def test_a_cell_shows_the_words_and_then_every_picture(
    pictures: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    charts = tuple(step_times({"a": [float(number + 1)]}) for number in range(pictures))
    displayed: list[object] = []
    monkeypatch.setattr("IPython.display.display", displayed.append)
    Gallery("Said.", charts)._ipython_display_()
    assert capsys.readouterr().out == "Said.\n"
    assert displayed == list(charts)
    if pictures < 2:
        Shown("Said.", *charts)._ipython_display_()
        assert capsys.readouterr().out == "Said.\n"
        assert displayed == [*charts, *charts]


@given(st.text(st.sampled_from("ab \n"), max_size=WIDE))
def test_what_is_narrow_stays_as_it_is(text: str) -> None:
    assert wrapped(text).splitlines() == text.splitlines()
