"""The chart of what moves: weights are flat, tokens rise, and they cross where both are the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.teach.moved_chart import TOKENS, Moved, moved_chart


@given(st.floats(1e6, 1e11), st.floats(1e3, 1e6))
def test_the_lines_cross_at_even_tokens(pulled: float, per_token: float) -> None:
    moved = Moved(pulled, per_token)
    dwdp, dep = moved_chart({"model": moved}).curves
    for tokens, weights_mb, tokens_mb in zip(dwdp.x, dwdp.y, dep.y, strict=True):
        assert weights_mb == pulled / 1e6
        if tokens == moved.even_tokens:
            assert tokens_mb == pytest.approx(weights_mb)
        else:
            assert (tokens_mb < weights_mb) == (tokens < moved.even_tokens)
    assert set(map(float, TOKENS)) <= set(dwdp.x)


def test_words_name_each_model_and_its_tokens() -> None:
    chart = moved_chart({"small": Moved(1e6, 1e3), "large": Moved(8e6, 2e3)})
    assert "1,000 tokens per rank (small) and 4,000 tokens per rank (large)" in chart.words
    assert [curve.dashed for curve in chart.curves] == [False, False, True, True]
