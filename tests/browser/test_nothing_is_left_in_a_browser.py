"""What people do to a notebook while ranks run: no rank stays behind, and the panel can be used again."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from in_the_page import LONG_MS, Panel
from jupyter_servers import write_notebook
from ranks_here import come_to, gone, rank_processes

from dwdp_lab.view.control.history import History

pytestmark = [pytest.mark.browser, pytest.mark.ranks, pytest.mark.timeout(600)]

ROOM = ["from dwdp_lab.view import ControlRoom", "room = ControlRoom()", "room"]


@pytest.fixture
def panel(page: Any, lab: str, folder: Path, request: pytest.FixtureRequest) -> Panel:
    """A room in a notebook of the test's own; its second cell starts a long run and waits for it."""
    name = request.node.name
    write_notebook(folder / "root" / f"{name}.ipynb", ROOM, ["room.run()", "room.wait()"])
    made = Panel(page)
    made.open(lab.format(place=f"tree/{name}.ipynb"))
    return made


def start_long_run(panel: Panel, folder: Path) -> list[int]:
    """Run on CPU ranks with as many tokens as the slider has. Returns the ranks."""
    panel.after(lambda: panel.button("CPU ranks").click())
    panel.after(lambda: panel.knob("tokens").locator(".noUi-handle").press("End"))
    panel.button("Run").click()
    panel.page.locator(".dwdp-pill[data-phase=running]").wait_for(timeout=LONG_MS)
    assert come_to(folder, 2)
    return rank_processes(folder)


def run_and_measure(panel: Panel, folder: Path) -> None:
    """A short run goes through."""
    panel.after(lambda: panel.button("CPU ranks").click())
    panel.after(lambda: panel.button("Run").click())
    panel.idle("done")
    assert panel.provenances == ["measured", "measured"]
    assert len(rank_processes(folder)) == 2


def end_kernels(lab: str) -> None:
    """Shut down all kernels, as the list of running kernels does."""
    server, query = lab.partition("lab/")[0], parse_qs(urlsplit(lab).query, keep_blank_values=True)
    head = {"Authorization": f"token {query['token'][0]}"}
    with urllib.request.urlopen(urllib.request.Request(f"{server}api/sessions", headers=head)) as answer:
        sessions = json.load(answer)
    for session in sessions:
        address = f"{server}api/sessions/{session['id']}"
        urllib.request.urlopen(urllib.request.Request(address, method="DELETE", headers=head)).close()


@pytest.fixture(autouse=True)
def _no_kernels_after(lab: str, folder: Path) -> Any:
    """Whatever a test has done: without kernels there are no ranks."""
    yield
    end_kernels(lab)
    assert come_to(folder, 0)


def test_the_first_cell_again_while_ranks_run(panel: Panel, folder: Path) -> None:
    ranks = start_long_run(panel, folder)
    panel.run_cell(0)
    panel.page.wait_for_function("() => document.querySelectorAll('.dwdp-room').length === 1", timeout=LONG_MS)
    panel.drawn()
    assert gone(ranks)
    run_and_measure(panel, folder)
    panel.run_cell(0)  # and again while the ranks are idle
    panel.drawn()
    assert come_to(folder, 0)
    run_and_measure(panel, folder)
    panel.button("History").click()
    recorded = len(History.with_shipped_runs().runs)
    assert panel.page.locator(".dwdp-line").count() == recorded + 4  # the new room goes on with the history


def test_an_interrupted_cell_stops_the_run_it_waits_for(panel: Panel, folder: Path) -> None:
    panel.after(lambda: panel.button("CPU ranks").click())
    panel.after(lambda: panel.knob("tokens").locator(".noUi-handle").press("End"))
    panel.run_cell(1)
    panel.page.locator(".dwdp-pill[data-phase=running]").wait_for(timeout=LONG_MS)
    assert come_to(folder, 2)
    panel.interrupt()
    panel.cell(1).get_by_text("KeyboardInterrupt").first.wait_for(timeout=LONG_MS)
    panel.idle("stopped")
    assert come_to(folder, 0)
    panel.after(lambda: panel.knob("tokens").locator(".noUi-handle").press("Home"))
    panel.after(lambda: panel.button("Run").click())
    panel.idle("done")
    panel.interrupt()  # with nothing to interrupt: the ranks stay for the next run, and the panel answers
    panel.after(lambda: panel.button("simulator").click())
    assert len(rank_processes(folder)) == 2


def test_a_kernel_restarted_while_ranks_run(panel: Panel, folder: Path) -> None:
    ranks = start_long_run(panel, folder)
    panel.restart()
    assert gone(ranks)
    panel.run_cell(0)
    panel.page.wait_for_function("() => document.querySelectorAll('.dwdp-room').length === 1", timeout=LONG_MS)
    panel.drawn()
    run_and_measure(panel, folder)


def test_a_page_closed_while_ranks_run_and_opened_again(
    panel: Panel, chromium: Any, lab: str, folder: Path, request: pytest.FixtureRequest
) -> None:
    name = f"{request.node.name}.ipynb"
    panel.save(folder / "root" / name)
    ranks = start_long_run(panel, folder)
    panel.page.goto("about:blank")
    page = chromium.new_page()
    again = Panel(page)
    page.goto(lab.format(place=f"tree/{name}").replace("reset&", ""))
    again.drawn()
    page.locator(".dwdp-pill[data-phase=running]").wait_for(timeout=LONG_MS)
    assert rank_processes(folder) == ranks  # the kernel, and with it the run, goes on
    again.button("Stop").click()
    again.idle("stopped")
    assert gone(ranks)
    page.close()
