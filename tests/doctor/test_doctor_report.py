"""The report as text, as Markdown and as plain values."""

from __future__ import annotations

import json
import re

from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.doctor.finding import FORMS, Finding, Form
from dwdp_lab.doctor.report import FORMAT, Report

GOOD = Finding("Python", "ok", "3.11", "new enough")
NO_GPU = Finding("GPUs", "warn", "none found", "no speeds", "rent one", ("GPU kernels", "GPU ranks"))
NO_NOTEBOOKS = Finding("Jupyter", "fail", "jupyterlab missing", "nothing opens", "make setup", ("notebooks",))


def test_usable_is_simulator_and_notebooks() -> None:
    assert Report((GOOD, NO_GPU), 1.0).usable
    assert not Report((GOOD, NO_NOTEBOOKS), 1.0).usable
    assert Report((NO_GPU,), 1.0).carries == {form: form not in NO_GPU.stops for form in FORMS}


def test_the_summary_gives_each_missing_form_its_reasons() -> None:
    summary = Report((GOOD, NO_GPU, NO_NOTEBOOKS), 3.2).summary.splitlines()
    assert summary == [
        "This machine carries: simulator, CPU ranks. (1 ok, 1 warn, 1 fail, in 3 s)",
        "Not notebooks: Jupyter: jupyterlab missing.",
        "Not GPU kernels: GPUs: none found.",
        "Not GPU ranks: GPUs: none found.",
    ]


def test_text_gives_meaning_and_fix_where_something_is_wrong() -> None:
    text = repr(Report((GOOD, NO_GPU), 1.0))
    assert text.startswith("warn  GPUs: none found\n      no speeds\n      Fix: rent one\nok    Python: 3.11\n")
    assert "new enough" not in text


def test_plain_values_are_json() -> None:
    found = json.loads(json.dumps(Report((NO_GPU,), 1.5).to_dict(), allow_nan=False))
    assert found["format"] == FORMAT
    assert found["findings"] == [
        {
            "name": "GPUs",
            "level": "warn",
            "found": "none found",
            "meaning": "no speeds",
            "fix": "rent one",
            "stops": ["GPU kernels", "GPU ranks"],
        }
    ]


@given(st.text(), st.text(), st.text(), st.sampled_from(FORMS))
def test_no_text_breaks_the_table(found: str, meaning: str, fix: str, form: Form) -> None:
    report = Report((Finding("x", "fail", found, meaning, fix, (form,)), GOOD), 1.0)
    table = report._repr_markdown_().split("\n")[:4]
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in table)


def test_people_read_the_worst_first_and_programs_the_order_of_looking() -> None:
    report = Report((GOOD, NO_GPU, NO_NOTEBOOKS), 1.0)
    assert report.worst_first == (NO_NOTEBOOKS, NO_GPU, GOOD)
    assert [finding["name"] for finding in report.to_dict()["findings"]] == ["Python", "GPUs", "Jupyter"]
