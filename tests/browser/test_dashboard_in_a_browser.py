"""The dashboard as a person meets it: JupyterLab, a real browser, real rank processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from in_the_page import LONG_MS, Panel
from jupyter_servers import write_notebook
from ranks_here import come_to, rank_processes

pytestmark = [pytest.mark.browser, pytest.mark.ranks]


@pytest.mark.timeout(600)
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
    panel.button("Stop").click()
    panel.idle("stopped")
    assert come_to(folder, 0)

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
    panel.save(folder / "root" / "dashboard.ipynb")
    words = panel.words
    page.goto(lab.format(place="tree/dashboard.ipynb").replace("reset&", ""))
    panel.drawn()
    assert panel.words == words
    panel.after(lambda: panel.button("simulator").click())
    assert panel.provenances == ["simulated", "simulated"]

    saved = json.loads((folder / "root" / "dashboard.ipynb").read_text(encoding="utf-8"))
    assert "widgets" not in saved["metadata"]
    assert not problems


@pytest.mark.timeout(600)
def test_sixty_layers_on_eight_ranks_follow_the_slider(page: Any, lab: str, folder: Path) -> None:
    """How long it takes is measured by slider_to_picture.py."""
    model = "{'preset': 'deepseek-r1', 'layers': 60}"
    work = "{'tokens_per_rank': 16384, 'cv': 0.1, 'isl_tokens': 4096}"
    lines = [
        "from dwdp_lab import Scenario",
        "from dwdp_lab.view import ControlRoom",
        f"start = Scenario.create(model={model}, group={{'ranks': 8}}, workload={work}, hardware='gb200')",
        "ControlRoom(start)",
    ]
    write_notebook(folder / "root" / "large.ipynb", lines)
    panel = Panel(page)
    panel.open(lab.format(place="tree/large.ipynb"))
    panel.knob("cv").locator(".noUi-handle").focus()
    seen = {panel.after(lambda: page.keyboard.press("ArrowRight")) for _ in range(5)}
    assert len(seen) == 5
    operations = page.locator(".dwdp-run").evaluate_all("runs => runs.map(run => Number(run.dataset.operations))")
    assert sum(operations) > 4000
