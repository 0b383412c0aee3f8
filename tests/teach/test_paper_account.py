"""What the exercise on the paper's account shows of an answer."""

from __future__ import annotations

from course import named


def test_an_account_in_which_hardly_anything_changes_has_no_minus_zero() -> None:
    shown = named("real_cost.savings").show(lambda *_: {"attention": 0.0, "others": -0.001})
    assert [row.split() for row in shown.words.splitlines()[1:]] == [
        [name, "+0.00", "%"] for name in ("attention", "others", "sum")
    ]
    nothing = named("real_cost.savings").show(lambda *_: {"attention": 0.0})
    for picture in (shown.picture, nothing.picture):
        assert picture is not None
        assert "Saved 0.00 %, paid 0.00 %, left 0.00 %." in picture.svg
