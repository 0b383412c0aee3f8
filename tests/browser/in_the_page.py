"""How a person finds things in the control room's page."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

LONG_MS = 90_000
"""Long, for machines that are busy: what is waited for is an event, not a speed."""


class Panel:
    """The control room in a page."""

    def __init__(self, page: Any) -> None:
        self.page = page

    def open(self, address: str) -> None:
        """Open the notebook and run its first cell."""
        self.page.goto(address)
        self.run_cell(0)
        self.drawn()

    def cell(self, number: int) -> Any:
        return self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell").nth(number)

    def run_cell(self, number: int) -> None:
        """Run a code cell, and wait until it has begun."""
        cell = self.cell(number)
        cell.wait_for(timeout=LONG_MS)
        self.page.locator("#jp-main-statusbar").get_by_text("| Idle").wait_for(timeout=LONG_MS)
        prompt = cell.locator(".jp-InputPrompt")
        before = prompt.inner_text()
        for _ in range(10):  # JupyterLab forgets a run that comes while it connects to the kernel
            cell.locator(".jp-InputArea-editor").click()
            self.page.keyboard.press("Control+Enter")
            self.page.wait_for_timeout(500)
            if prompt.inner_text() != before:
                break

    def save(self, notebook: Path) -> None:
        """Save, and wait until the file is written."""
        before = notebook.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        deadline = time.monotonic() + LONG_MS / 1e3
        while notebook.stat().st_mtime_ns == before and time.monotonic() < deadline:
            self.page.wait_for_timeout(50)

    def interrupt(self) -> None:
        """Press the notebook's interrupt button."""
        self.page.locator("[data-command='notebook:interrupt-kernel'], [title^='Interrupt']").first.click()

    def restart(self) -> None:
        """Restart the kernel, and say yes to the question."""
        self.page.locator("[data-command='kernelmenu:restart'], [title^='Restart the kernel']").first.click()
        self.page.locator(".jp-Dialog .jp-mod-accept").click()

    def drawn(self) -> None:
        """Wait until a timeline is shown."""
        self.page.locator(".dwdp-timeline[data-drawn]").wait_for(timeout=LONG_MS)
        self.page.evaluate("document.querySelector('.dwdp-room').scrollIntoView()")

    def knob(self, name: str) -> Any:
        return self.page.locator(f".dwdp-knob-{name}")

    def button(self, name: str) -> Any:
        return self.page.locator(".dwdp-room").get_by_role("button", name=name, exact=True)

    @property
    def words(self) -> str:
        words: str = self.page.locator(".dwdp-words").inner_text()
        return words

    @property
    def provenances(self) -> list[str]:
        found: list[str] = self.page.locator(".dwdp-worth").all_inner_texts()
        return found

    def after(self, act: Any) -> str:
        """Do something and wait for the picture that follows; returns the new words."""
        count = self.page.locator(".dwdp-timeline").get_attribute("data-drawn")
        before = self.words
        act()
        self.page.wait_for_function(
            "([drawn, words]) => document.querySelector('.dwdp-timeline').dataset.drawn !== drawn"
            " && document.querySelector('.dwdp-words').innerText !== words",
            arg=[count, before],
            timeout=LONG_MS,
        )
        return self.words

    def idle(self, ends: str) -> None:
        """Wait until the runs are idle and say so."""
        self.page.wait_for_function(
            "ends => document.querySelector('.dwdp-pill').dataset.phase === 'idle'"
            " && document.querySelector('.dwdp-doing').innerText === ends",
            arg=ends,
            timeout=LONG_MS,
        )
