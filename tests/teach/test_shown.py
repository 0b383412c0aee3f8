"""How words are shown in a notebook: as they are, but never wider than it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.teach.shown import Gallery, Shown, Text, table
from dwdp_lab.timeline.words import COLUMNS, WIDE, wrapped

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


@given(st.text(st.sampled_from("ab \n"), max_size=600))
def test_no_word_is_lost_or_broken(text: str) -> None:
    whole = "".join(text.split("\r"))
    assert wrapped(whole).split() == whole.split() or max(map(len, whole.split())) > COLUMNS


@given(st.text(st.sampled_from("ab \n"), max_size=WIDE))
def test_what_is_narrow_stays_as_it_is(text: str) -> None:
    assert wrapped(text).splitlines() == text.splitlines()
