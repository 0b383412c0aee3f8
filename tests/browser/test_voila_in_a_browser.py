"""The dashboard as an application of its own."""

from __future__ import annotations

import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from in_the_page import Panel
from jupyter_servers import end, listens, start

pytestmark = pytest.mark.browser


@pytest.mark.timeout(120)
def test_the_dashboard_works_under_voila(page: Any, folder: Path) -> None:
    pytest.importorskip("voila", reason="needs voila (make test-browser installs it)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "voila", "dashboard.ipynb", "--no-browser", f"--port={port}"]
    process = start(command, folder)
    try:
        deadline = time.monotonic() + 60
        while not listens(port) and time.monotonic() < deadline:
            assert process.poll() is None, (folder / "log").read_text(encoding="utf-8")[-2000:]
            time.sleep(0.1)
        page.goto(f"http://127.0.0.1:{port}/")
        panel = Panel(page)
        panel.drawn()
        assert panel.provenances == ["simulated", "simulated"]
        assert page.locator(".jp-InputArea-editor").count() == 0
        words = panel.after(lambda: panel.knob("strategy").locator("select").select_option("DEP: tokens move"))
        assert words.startswith("DEP is ")
    finally:
        end(process)
