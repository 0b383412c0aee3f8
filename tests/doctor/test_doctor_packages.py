"""Findings on packages, from machines that are made up."""

from __future__ import annotations

import pytest
from machines import INSTALLED, Case, laptop

from dwdp_lab.doctor.finding import FORMS, GPU_FORMS

CASES = (
    Case(laptop, "packages", {"wanted": {}}, "simulator's packages", "fail", "not installed", FORMS),
    Case(
        laptop,
        "packages",
        {"installed": INSTALLED | {"numpy": None}},
        "simulator's packages",
        "fail",
        "numpy missing",
        FORMS,
    ),
    Case(
        laptop,
        "packages",
        {"installed": INSTALLED | {"torch": None}},
        "packages of the ranks",
        "warn",
        "torch missing",
        ("CPU ranks", *GPU_FORMS),
    ),
    Case(
        laptop,
        "packages",
        {"installed": INSTALLED | {"jupyterlab": None}},
        "Jupyter",
        "fail",
        "missing",
        ("notebooks",),
    ),
    Case(
        laptop,
        "packages",
        {"installed": INSTALLED | {"anywidget": None}},
        "widgets",
        "fail",
        "anywidget missing",
        ("notebooks",),
    ),
    Case(
        laptop,
        "packages",
        {"installed": INSTALLED | {"anywidget": "0.12.0"}},
        "widgets in JupyterLab",
        "warn",
        "0.12.0",
    ),
    Case(
        laptop, "packages", {"front_ends": {"anywidget": "0.11.0"}}, "widgets in JupyterLab", "warn", "manager missing"
    ),
    Case(laptop, "packages", {"disabled": ("anywidget",)}, "widgets in JupyterLab", "warn", "(off)"),
    Case(laptop, "packages", {"jupyter_elsewhere": True}, "jupyter-lab on the PATH", "warn", "another"),
    Case(laptop, "packages", {"installed": INSTALLED | {"nbval": None}}, "test packages", "warn", "nbval missing"),
    Case(
        laptop,
        "packages",
        {"misfits": ("a 1 needs b>2, and b 1 is installed",)},
        "versions fit each other",
        "warn",
        "b 1",
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_one_thing_changed(case: Case) -> None:
    case.assert_found()
