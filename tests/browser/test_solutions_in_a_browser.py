"""Solutions as a person opens them: with the pictures that they carry."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from in_the_page import LONG_MS
from jupyter_servers import ROOT, environment

pytestmark = [pytest.mark.browser, pytest.mark.timeout(600)]
SOLUTION = "08_what_it_really_costs.ipynb"
WORDS, PICTURES = "text=Chart('DWDP over the best DEP", ".jp-OutputArea-output img, .jp-OutputArea-output svg"


def test_make_lab_signs_the_solutions_so_that_their_pictures_show(page: Any, lab: str, folder: Path) -> None:
    here = folder / "root" / SOLUTION
    shutil.copy(ROOT / "notebooks" / "solutions" / SOLUTION, here)
    shown(page, lab)
    assert page.locator(WORDS).count() == 1, "words where nobody has signed"
    subprocess.run(
        ["make", "--silent", f"--directory={ROOT}", "trust", f"SOLUTIONS={here}"], env=environment(folder), check=True
    )
    shown(page, lab)
    assert page.locator(WORDS).count() == 0
    assert page.locator(PICTURES).count() >= 3


def shown(page: Any, lab: str) -> None:
    """Open the notebook as it lies there, and go through all of it: JupyterLab draws only what is in view."""
    page.goto(lab.format(place=f"tree/{SOLUTION}"))
    page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").first.wait_for(timeout=LONG_MS)
    page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=LONG_MS)
    cells = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell")
    cells.filter(has_text="recorded_crossover()").last.scroll_into_view_if_needed()
    page.wait_for_timeout(1000)
