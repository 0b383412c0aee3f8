"""JupyterLab and Voila on loopback, and a Chromium to look at them with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium_here import LAPTOP, NoChromiumError, chromium
from jupyter_servers import ROOT, jupyterlab


@pytest.fixture(scope="session", name="chromium")
def running_chromium() -> Iterator[Any]:
    """The system's Chromium, or playwright's own."""
    pytest.importorskip("playwright.sync_api", reason="needs playwright (make test-browser installs it)")
    try:
        with chromium() as browser:
            yield browser
    except NoChromiumError as why:
        pytest.skip(f"no Chromium: {why}")


@pytest.fixture
def page(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page as wide as a small laptop. DWDP_SCREENSHOTS names a folder for pictures of how each test ends."""
    made = chromium.new_page(viewport=LAPTOP, accept_downloads=True)
    yield made
    if pictures := os.environ.get("DWDP_SCREENSHOTS"):
        made.screenshot(path=Path(pictures) / f"{request.node.name}.png")
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dashboard, where a test may write."""
    made = tmp_path_factory.mktemp("lab")
    (made / "root").mkdir()
    shutil.copy(ROOT / "notebooks" / "dashboard.ipynb", made / "root")
    return made


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab; see `jupyterlab`."""
    with jupyterlab(folder) as address:
        yield address
