"""How long Stop takes until the runs are idle and all ranks are gone. A measurement, no test: `make bench-browser`.

A run on two CPU ranks is stopped while the ranks compute. The clock runs in the page, from the click to the word
`idle`, and on this machine, from the click to the end of the last rank process.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

from chromium_here import LAPTOP, chromium
from in_the_page import LONG_MS, Panel
from jupyter_servers import jupyterlab, write_notebook
from ranks_here import come_to, gone, rank_processes

WATCH = """() => {
  window.stops = [];
  let since = 0;
  document.addEventListener('click', (event) => {
    if (event.target.textContent === 'Stop') since = performance.now();
  }, true);
  new MutationObserver(() => {
    if (!since || document.querySelector('.dwdp-pill').dataset.phase !== 'idle') return;
    window.stops.push(performance.now() - since);
    since = 0;
  }).observe(document.querySelector('.dwdp-state'), { childList: true, subtree: true });
}"""


def stop_once(panel: Panel, folder: Path, after_ms: int) -> tuple[float, float]:
    """Start a run, stop it when its ranks have been there for so long. Returns ms to idle, and to no rank."""
    panel.button("Run").click()
    panel.page.locator(".dwdp-pill[data-phase=running]").wait_for(timeout=LONG_MS)
    assert come_to(folder, 2)
    panel.page.wait_for_timeout(after_ms)
    ranks, count = rank_processes(folder), panel.page.evaluate("window.stops.length")
    began = time.monotonic()
    panel.button("Stop").click()
    assert gone(ranks)
    gone_ms = 1e3 * (time.monotonic() - began)
    panel.page.wait_for_function("count => window.stops.length > count", arg=count, timeout=LONG_MS)
    return panel.page.evaluate("window.stops.at(-1)"), gone_ms


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--stops", type=int, default=10)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory() as made, chromium() as browser:
        folder = Path(made)
        (folder / "root").mkdir()
        write_notebook(folder / "root" / "room.ipynb", ["from dwdp_lab.view import ControlRoom", "ControlRoom()"])
        with jupyterlab(folder) as lab:
            panel = Panel(browser.new_page(viewport=LAPTOP))
            panel.open(lab.format(place="tree/room.ipynb"))
            panel.after(lambda: panel.button("CPU ranks").click())
            panel.after(lambda: panel.knob("tokens").locator(".noUi-handle").press("End"))
            panel.page.evaluate(WATCH)
            found = [stop_once(panel, folder, 150 * (number % 8)) for number in range(chosen.stops)]
    idle, left = ([one[which] for one in found] for which in (0, 1))
    print(f"Stop to idle: median {median(idle):.0f} ms, longest {max(idle):.0f} ms")
    print(f"Stop to no rank: median {median(left):.0f} ms, longest {max(left):.0f} ms")


if __name__ == "__main__":
    main()
