"""How long a slider takes to a new picture, and where that time goes. A measurement, no test: `make bench-browser`.

A key moves the slider of the imbalance; the clock runs until the browser has painted the frame with the new picture.
DeepSeek-R1's shapes, 8 ranks, 60 layers, in virtual time.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from chromium_here import LAPTOP, chromium
from in_the_page import LONG_MS, Panel
from jupyter_servers import jupyterlab, write_notebook

CASES = {
    "DWDP beside DEP": ("dwdp", "strategy:dep", "bound", None),
    "DWDP alone": ("dwdp", "alone", "bound", None),
    "DEP alone": ("dep", "alone", "bound", None),
    "DWDP beside DEP, all effects, 1 MiB slices": ("dwdp", "strategy:dep", "realistic", 1 << 20),
}
"""Strategy, what it is compared with, physics, slice size."""

CELL = """
import json, time
import dwdp_lab.view.control.scene as scene, dwdp_lab.view.timeline_view.widget as widget
from dwdp_lab import Scenario
from dwdp_lab.view import ControlRoom
own = {{'name': {strategy!r}, 'slice_bytes': {slice_bytes!r}}}
own['peer_order'] = 'interleaved' if own['slice_bytes'] else 'rotated'
model = {{'preset': 'deepseek-r1', 'layers': 60}}
work = {{'tokens_per_rank': 16384, 'cv': 0.1, 'isl_tokens': 4096}}
start = Scenario.create(model=model, group={{'ranks': 8}}, workload=work, hardware='gb200', strategy=own)
room = ControlRoom(start, compared={compared!r})
room.turn(physics={physics!r})
took, began = dict(simulate=0.0, pack=0.0, kernel=0.0), [0.0]
def timed(name, do):
    def doing(*given, **named):
        start = time.perf_counter()
        try:
            return do(*given, **named)
        finally:
            took[name] += 1e3 * (time.perf_counter() - start)
    return doing
scene.run_sim = timed('simulate', scene.run_sim)
widget.packed = timed('pack', widget.packed)
turn, show = room.turn, room.face.view.show
def turning(**knobs):
    took.update(dict.fromkeys(took, 0.0))
    began[0] = time.perf_counter()
    turn(**knobs)
def showing(*given):
    show(*given)
    took['kernel'] = 1e3 * (time.perf_counter() - began[0])
    with open('took.jsonl', 'a') as file:
        file.write(json.dumps(took) + chr(10))
room.turn, room.face.view.show = turning, showing
room
"""
"""The dashboard's cell, with a clock at every part."""

LISTEN = """
window.traffic = [];
const Plain = window.WebSocket;
window.WebSocket = class extends Plain {
  constructor(...given) {
    super(...given);
    this.addEventListener('message', (event) => {
      window.traffic.push(['in', performance.now(), event.data.byteLength || event.data.size || event.data.length]);
    });
  }
  send(data) {
    window.traffic.push(['out', performance.now(), data.byteLength || data.length]);
    super.send(data);
  }
};
"""

WATCH = """() => {
  window.moves = [];
  let since = 0;
  document.addEventListener('keydown', () => { since = performance.now(); window.traffic.length = 0; }, true);
  new MutationObserver(() => {
    if (!since) return;
    const began = since, drawn = performance.now(), traffic = [...window.traffic];
    since = 0;
    requestAnimationFrame(() => {  // and after the frame in which it is painted
      const channel = new MessageChannel();
      channel.port1.onmessage = () => window.moves.push({ began, drawn, painted: performance.now(), traffic });
      channel.port2.postMessage(0);
    });
  }).observe(document.querySelector('.dwdp-timeline'), { attributes: true, attributeFilter: ['data-drawn'] });
}"""
"""Notes in `moves` when a key came, when the picture that follows from it was drawn, and when it was painted."""

PICTURE_BYTES = 20_000
"""Only the message with the picture is larger."""


def moved(panel: Panel, moves: int) -> list[dict[str, Any]]:
    """Move the slider so many times, to the right and back, and return what the page noted."""
    page = panel.page
    page.wait_for_timeout(1500)  # the page is still loading parts of itself
    page.evaluate(WATCH)
    panel.knob("cv").locator(".noUi-handle").focus()
    for number in range(moves):
        page.keyboard.press("ArrowRight" if number < moves // 2 + 5 else "ArrowLeft")
        page.wait_for_function("count => window.moves.length > count", arg=number, timeout=LONG_MS)
        page.wait_for_timeout(120)
    noted: list[dict[str, Any]] = page.evaluate("window.moves")
    return noted


def parts(move: dict[str, Any], kernel: dict[str, float]) -> dict[str, float]:
    """One move's milliseconds, part by part; the parts add up to `all`."""
    sent = next(when for way, when, _ in move["traffic"] if way == "out")
    came = next(when for way, when, nbytes in move["traffic"] if way == "in" and nbytes > PICTURE_BYTES)
    return {
        "all": move["painted"] - move["began"],
        "slider": sent - move["began"],
        "simulate": kernel["simulate"],
        "pack": kernel["pack"],
        "knobs, words": kernel["kernel"] - kernel["simulate"] - kernel["pack"],
        "message": came - sent - kernel["kernel"],
        "draw": move["drawn"] - came,
        "paint": move["painted"] - move["drawn"],
        "KB": max(nbytes for _, _, nbytes in move["traffic"]) / 1e3,
    }


def measure(browser: Any, case: str, moves: int) -> list[dict[str, float]]:
    """The parts of so many moves in one case."""
    strategy, compared, physics, slice_bytes = CASES[case]
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "root").mkdir()
        source = CELL.format(strategy=strategy, compared=compared, physics=physics, slice_bytes=slice_bytes)
        write_notebook(folder / "root" / "room.ipynb", source.splitlines())
        with jupyterlab(folder) as lab:
            page = browser.new_page(viewport=LAPTOP)
            page.add_init_script(LISTEN)
            panel = Panel(page)
            panel.open(lab.format(place="tree/room.ipynb"))
            noted = moved(panel, moves)
            page.close()
        lines = (folder / "root" / "took.jsonl").read_text(encoding="utf-8").splitlines()
    return [parts(move, json.loads(line)) for move, line in zip(noted, lines[-moves:], strict=True)]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--moves", type=int, default=30)
    options.add_argument("--cases", default=",".join(str(number) for number in range(len(CASES))))
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    found = {}
    with chromium() as browser:
        for number in chosen.cases.split(","):
            case = list(CASES)[int(number)]
            found[case] = measured = measure(browser, case, chosen.moves)
            whole = [move["all"] for move in measured]
            print(f"{case}: median {median(whole):.0f} ms, p90 {quantiles(whole, n=10)[-1]:.0f} ms", flush=True)
            print("   ", ", ".join(f"{name} {median(move[name] for move in measured):.1f}" for name in measured[0]))
    if chosen.json is not None:
        chosen.json.write_text(json.dumps(found), encoding="utf-8")


if __name__ == "__main__":
    main()
