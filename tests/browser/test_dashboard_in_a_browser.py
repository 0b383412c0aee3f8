"""The dashboard as a person meets it: JupyterLab, a real browser, real rank processes."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from in_the_page import LONG_MS, WATCH, Panel

pytestmark = [pytest.mark.browser, pytest.mark.ranks]


def rank_processes(folder: Path) -> list[int]:
    """The ranks of this server's kernels."""
    found = []
    for process in psutil.process_iter(["cmdline", "environ"]):
        command, variables = process.info["cmdline"] or [], process.info["environ"] or {}
        if "dwdp_lab.execute.worker" in command and variables.get("JUPYTER_RUNTIME_DIR") == str(folder / "runtime"):
            found.append(process.pid)
    return found


def no_ranks_left(folder: Path) -> bool:
    deadline = time.monotonic() + 10
    while rank_processes(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not rank_processes(folder)


@pytest.mark.timeout(240)
def test_a_person_turns_runs_stops_and_comes_back(page: Any, lab: str, folder: Path, tmp_path: Path) -> None:
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    panel = Panel(page)
    panel.open(lab.format(place="tree/dashboard.ipynb"))
    assert panel.provenances == ["simulated", "simulated"]
    assert panel.words.startswith("DWDP is ")

    # every kind of knob: slider (by keyboard), list, switch, text, machine
    before = panel.knob("cv").locator(".widget-readout").inner_text()
    panel.knob("cv").locator(".noUi-handle").focus()
    panel.after(lambda: page.keyboard.press("ArrowRight"))
    assert float(panel.knob("cv").locator(".widget-readout").inner_text()) == pytest.approx(float(before) + 0.01)
    assert panel.after(lambda: panel.knob("strategy").locator("select").select_option("replicated: ideal")).startswith(
        "replicated is "
    )
    assert panel.knob("slots").locator(".noUi-target[disabled], [disabled]").count()
    panel.after(lambda: panel.knob("strategy").locator("select").select_option("DWDP: weights move"))
    slower = panel.after(lambda: panel.knob("overlap").locator("input").click())
    assert "less waiting" in slower
    panel.after(lambda: panel.knob("overlap").locator("input").click())
    panel.after(lambda: panel.knob("workload").locator("select").select_option("real trace"))
    text = panel.knob("file").locator("input")
    text.fill("no-such-trace")
    text.press("Enter")
    page.locator(".dwdp-complaint").filter(has_text="no-such-trace").wait_for(timeout=LONG_MS)
    assert panel.words.startswith("Not possible")
    paled = "() => getComputedStyle(document.querySelector('.dwdp-timeline').closest('.dwdp-stale')).opacity < 1"
    page.wait_for_function(paled, timeout=LONG_MS)
    assert panel.button("Run").is_disabled()
    text.fill("mooncake-conversation-64")
    panel.after(lambda: text.press("Enter"))
    assert page.locator(".dwdp-complaint").count() == 0
    panel.after(lambda: panel.knob("workload").locator("select").select_option("given CV"))
    assert panel.button("live GPUs").is_disabled()
    panel.after(lambda: panel.button("CPU ranks").click())
    assert panel.knob("model").locator("select").input_value() == "tiny"

    # a run on CPU ranks
    panel.after(lambda: panel.button("Run").click())
    panel.idle("done")
    assert panel.provenances == ["measured", "measured"]
    assert len(rank_processes(folder)) == 2
    panel.button("Simulated / measured").click()
    assert page.locator(".dwdp-table").filter(has_text="error").locator("tbody tr").count() >= 5

    # a run that is stopped
    panel.after(lambda: panel.knob("tokens").locator(".noUi-handle").press("End"))
    panel.button("Run").click()
    page.locator(".dwdp-pill[data-phase=running]").wait_for(timeout=LONG_MS)
    page.wait_for_timeout(500)
    began = time.monotonic()
    panel.button("Stop").click()
    panel.idle("stopped")
    stopped_s = time.monotonic() - began
    assert no_ranks_left(folder)

    # what is pointed at
    panel.button("History").click()
    panel.after(lambda: page.locator(".dwdp-line").first.get_by_role("button", name="show").click())
    page.locator(".dwdp-timeline").focus()
    page.keyboard.press("ArrowDown")
    tip = page.locator(".dwdp-tip")
    tip.wait_for(timeout=LONG_MS)
    assert "rank 0, compute" in tip.inner_text()
    assert "GFLOP" in tip.inner_text()
    page.keyboard.press("+")
    root = page.locator(".dwdp-timeline")
    assert float(root.get_attribute("data-from") or 0) >= 0
    page.keyboard.press("Escape")
    assert tip.is_hidden()
    with page.expect_download() as download:
        panel.button("Download trace").click()
    download.value.save_as(tmp_path / "trace.json")
    assert json.loads((tmp_path / "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    with page.expect_download() as download:
        panel.button("Save").click()
    download.value.save_as(tmp_path / "runs.json")
    with page.expect_file_chooser() as chooser:
        page.locator(".dwdp-bar .widget-upload").click()
    chooser.value.set_files(tmp_path / "runs.json")
    page.locator(".dwdp-worth[data-worth=recorded]").first.wait_for(timeout=LONG_MS)
    assert panel.provenances == ["recorded", "recorded"]

    # the page is closed and opened again: the kernel goes on, and the panel with it
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1000)
    words = panel.words
    page.goto(lab.format(place="tree/dashboard.ipynb").replace("reset&", ""))
    panel.drawn()
    assert panel.words == words
    panel.after(lambda: panel.button("simulator").click())
    assert panel.provenances == ["simulated", "simulated"]

    saved = json.loads((folder / "root" / "dashboard.ipynb").read_text(encoding="utf-8"))
    assert "widgets" not in saved["metadata"]
    assert not problems
    print(f"stop to idle: {stopped_s:.2f} s", file=sys.stderr)
    assert stopped_s < 5  # the aim is 1 s; a test must also pass where others compute


@pytest.mark.timeout(240)
def test_running_the_cell_again_interrupting_and_restarting_leave_no_rank(page: Any, lab: str, folder: Path) -> None:
    panel = Panel(page)
    panel.open(lab.format(place="tree/again.ipynb"))
    panel.after(lambda: panel.button("CPU ranks").click())
    panel.after(lambda: panel.button("Run").click())
    panel.idle("done")
    first = rank_processes(folder)
    assert len(first) == 2
    page.locator(".jp-CodeCell .jp-InputArea-editor").first.click()
    page.keyboard.press("Control+Enter")
    page.wait_for_function("() => document.querySelectorAll('.dwdp-room').length === 1", timeout=LONG_MS)
    panel.drawn()
    assert no_ranks_left(folder)
    panel.after(lambda: panel.button("CPU ranks").click())
    panel.after(lambda: panel.button("Run").click())
    panel.idle("done")
    assert len(rank_processes(folder)) == 2
    panel.button("History").click()
    assert page.locator(".dwdp-line").count() == 4  # the new room goes on with the history
    page.locator("button[data-command='notebook:interrupt-kernel'], [title^='Interrupt']").first.click()
    panel.after(lambda: panel.button("simulator").click())
    page.locator("button[data-command='kernelmenu:restart'], [title^='Restart the kernel']").first.click()
    page.locator(".jp-Dialog .jp-mod-accept").click()
    assert no_ranks_left(folder)


@pytest.mark.timeout(120)
def test_a_slider_is_followed_by_a_new_picture(page: Any, lab: str, folder: Path) -> None:
    notebook = folder / "root" / "large.ipynb"
    plain = json.loads(notebook.read_text(encoding="utf-8"))
    code = next(cell for cell in plain["cells"] if cell["cell_type"] == "code")
    code["source"] = [
        "from dwdp_lab import Scenario\n",
        "from dwdp_lab.view import ControlRoom\n",
        "model = {'preset': 'deepseek-r1', 'layers': 60}\n",
        "work = {'tokens_per_rank': 16384, 'cv': 0.1, 'isl_tokens': 4096}\n",
        "room = ControlRoom(Scenario.create(model=model, group={'ranks': 8}, workload=work, hardware='gb200'))\n",
        "room",
    ]
    plain["cells"] = [code]
    notebook.write_text(json.dumps(plain), encoding="utf-8")
    panel = Panel(page)
    panel.open(lab.format(place="tree/large.ipynb"))
    page.wait_for_timeout(1500)  # the page is still loading parts of itself
    page.evaluate(WATCH)
    panel.knob("cv").locator(".noUi-handle").focus()
    for number in range(15):
        page.keyboard.press("ArrowRight")
        page.wait_for_function("count => window.took.length > count", arg=number, timeout=LONG_MS)
        page.wait_for_timeout(150)
    took = sorted(page.evaluate("window.took"))
    print(f"slider to picture: median {took[7]:.0f} ms, {took[0]:.0f} to {took[-1]:.0f} ms", file=sys.stderr)
    operations = page.locator(".dwdp-run").evaluate_all("runs => runs.map(run => Number(run.dataset.operations))")
    assert sum(operations) > 4000
    assert took[7] < 1000  # the aim is 100 ms; a test must also pass where others compute
