"""Findings on packages: what is missing, and what does not fit what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dwdp_lab.doctor.facts import Facts
from dwdp_lab.doctor.finding import FORMS, GPU_FORMS, Finding
from dwdp_lab.doctor.probes.packages import FRONT_ENDS, PackageFacts

INSTALL = "make setup, or in your own environment: pip install -e '.[lab]' in the repository"
JUPYTER = ("jupyterlab", "ipykernel")
WIDGETS = ("ipywidgets", "jupyterlab-widgets", "anywidget", "plotly")


def judge(facts: Facts) -> Iterator[Finding]:
    packages = facts.packages
    assert packages is not None
    yield _core(packages)
    yield _ranks(packages)
    yield _jupyter(packages)
    yield _widgets(packages)
    yield _front_ends(packages)
    yield _on_path(packages)
    yield _nbval(packages)
    yield _misfits(packages)


def _versions(packages: PackageFacts, names: Sequence[str]) -> str:
    return ", ".join(f"{name} {packages.installed.get(name) or 'missing'}" for name in names)


def _missing(packages: PackageFacts, names: Sequence[str]) -> bool:
    return any(packages.installed.get(name) is None for name in names)


def _core(packages: PackageFacts) -> Finding:
    names = packages.wanted.get("core", ())
    if not names:
        return Finding(
            "simulator's packages",
            "fail",
            "the package dwdp-lab is not installed for this Python",
            "notebooks could not import it",
            INSTALL,
            FORMS,
        )
    found = _versions(packages, names)
    if _missing(packages, names):
        return Finding("simulator's packages", "fail", found, "nothing runs without them", INSTALL, FORMS)
    return Finding("simulator's packages", "ok", found, "scenarios, programs, checker and simulator run")


def _ranks(packages: PackageFacts) -> Finding:
    found = _versions(packages, ("torch", "psutil"))
    if _missing(packages, ("torch", "psutil")):
        return Finding(
            "packages of the ranks",
            "warn",
            found,
            "the simulator runs; rank processes, kernels and the lessons that compute with torch do not",
            INSTALL,
            ("CPU ranks", *GPU_FORMS),
        )
    return Finding("packages of the ranks", "ok", found, "rank processes can compute")


def _jupyter(packages: PackageFacts) -> Finding:
    found = _versions(packages, JUPYTER)
    if _missing(packages, JUPYTER):
        return Finding("Jupyter", "fail", found, "notebooks cannot be opened with this Python", INSTALL, ("notebooks",))
    return Finding("Jupyter", "ok", found, "notebooks open")


def _widgets(packages: PackageFacts) -> Finding:
    found = _versions(packages, WIDGETS)
    if _missing(packages, WIDGETS):
        return Finding("widgets", "fail", found, "sliders, panels and figures fail", INSTALL, ("notebooks",))
    return Finding("widgets", "ok", found, "sliders, panels and figures work on the side of Python")


def _front_ends(packages: PackageFacts) -> Finding:
    """The half of a widget that runs in the browser; anywidget's two halves share one version number."""
    lacking = [name for name in FRONT_ENDS if packages.front_ends.get(name) is None]
    found = ", ".join(
        f"{FRONT_ENDS[name]} {packages.front_ends.get(name) or 'missing'}" + (" (off)" if off else "")
        for name in FRONT_ENDS
        for off in [FRONT_ENDS[name] in packages.disabled]
    )
    name = "widgets in JupyterLab"
    meaning = "a widget shows as its text, such as `VBox(...)`, or as an error"
    if packages.disabled:
        fix = f"jupyter labextension enable {' '.join(packages.disabled)}, then reload the page"
        return Finding(name, "warn", found, meaning, fix)
    if lacking:
        fix = f"pip install --force-reinstall {' '.join(lacking)}, then reload the page"
        return Finding(name, "warn", found, meaning, fix)
    ours, front = packages.installed.get("anywidget"), packages.front_ends.get("anywidget")
    if ours is not None and ours != front:
        return Finding(
            name,
            "warn",
            f"{found}, but the Python package anywidget is {ours}",
            meaning,
            "pip install --force-reinstall anywidget, then restart JupyterLab and reload the page",
        )
    return Finding(name, "ok", found, "both halves of every widget are here and fit each other")


def _on_path(packages: PackageFacts) -> Finding:
    if packages.jupyter_elsewhere:
        return Finding(
            "jupyter-lab on the PATH",
            "warn",
            "belongs to another Python",
            "started by hand it shows notebooks, but may lack the widgets' other halves",
            "start it by `make lab`, or by its path: .venv/bin/jupyter lab",
        )
    return Finding("jupyter-lab on the PATH", "ok", "this Python's, or none", "`make lab` starts this Python's")


def _nbval(packages: PackageFacts) -> Finding:
    found = _versions(packages, ("nbval", "pytest"))
    if _missing(packages, ("nbval", "pytest")):
        return Finding(
            "test packages",
            "warn",
            found,
            "the lab runs; `make test` does not",
            "make setup, or in your own environment: pip install -e '.[test]' in the repository",
        )
    return Finding("test packages", "ok", found, "`make test` runs, notebooks included")


def _misfits(packages: PackageFacts) -> Finding:
    name = "versions fit each other"
    if packages.misfits:
        return Finding(
            name,
            "warn",
            "; ".join(packages.misfits),
            "may work, may break in odd places; not what was tested",
            "make clean setup, or: pip install --constraint constraints.txt -e '.[test]' in the repository",
        )
    return Finding(name, "ok", f"{sum(map(bool, packages.installed.values()))} packages", "every stated need is met")
