"""The Chromium of this machine: the system's, or playwright's own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
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
LAPTOP = {"width": 1366, "height": 768}


class NoChromiumError(Exception):
    """There is no browser to drive."""


@contextmanager
def chromium() -> Iterator[Any]:
    """A running Chromium. Raises NoChromiumError where none is installed, ImportError without playwright."""
    from playwright.sync_api import sync_playwright

    found = next(filter(None, map(shutil.which, NAMES)), None)
    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
        if found is None and not Path(own).exists():
            raise NoChromiumError(f"none of {', '.join(NAMES)} is installed, and playwright has none of its own")
        browser = playwright.chromium.launch(executable_path=found or own, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()
