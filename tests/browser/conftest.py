"""JupyterLab and Voila on loopback, and a Chromium to look at them with."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jupyter_servers import ROOT, end, running_server, start

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    # the machine may be busy: a page that is not in front must not be slowed down further
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The system's Chromium, or playwright's own."""
    api = pytest.importorskip("playwright.sync_api", reason="needs playwright (pip install playwright)")
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    with api.sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        if found is None and not Path(own).exists():
            pytest.skip(f"no Chromium: none of {', '.join(CHROMIUMS)} is installed, and playwright has none of its own")
        browser = playwright.chromium.launch(executable_path=found or own, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A page as wide as a small laptop. DWDP_SCREENSHOTS names a folder for pictures of how each test ends."""
    made = chromium.new_page(viewport={"width": 1366, "height": 768}, accept_downloads=True)
    yield made
    if pictures := os.environ.get("DWDP_SCREENSHOTS"):
        made.screenshot(path=Path(pictures) / f"{request.node.name}.png")
    made.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the dashboard, where a test may write."""
    made = tmp_path_factory.mktemp("lab")
    (made / "root").mkdir()
    for name in ("dashboard.ipynb", "again.ipynb", "large.ipynb"):  # one kernel each
        shutil.copy(ROOT / "notebooks" / "dashboard.ipynb", made / "root" / name)
    return made


@pytest.fixture(scope="module")
def lab(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab; add `tree/NOTEBOOK` and `query`."""
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    quiet = {"fetchNews": "false", "checkForUpdates": False}  # the pop-up would cover the page
    (settings / "notification.jupyterlab-settings").write_text(json.dumps(quiet), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--port=0",
        f"--ServerApp.root_dir={folder / 'root'}",
    ]
    if os.geteuid() == 0:
        command.append("--allow-root")
    process = start(command, folder)
    try:
        server = running_server(folder, process)
        yield f"{server['url']}lab/{{place}}?reset&token={server['token']}"
    finally:
        end(process)
