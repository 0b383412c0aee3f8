"""The control room's widgets and where they stand; what they do is control_room.py's."""

from __future__ import annotations

from html import escape
from pathlib import Path

import ipywidgets as widgets

from dwdp_lab.view.control.live_strip import LiveStrip
from dwdp_lab.view.control.runs import RunState
from dwdp_lab.view.timeline_view.widget import TimelineView

_STYLE = (Path(__file__).parent / "page" / "room.css").read_text(encoding="utf-8")


class Face:
    """All widgets of a room. `widget` is the whole."""

    def __init__(self, knobs: widgets.Widget, history: widgets.Widget, plots: widgets.Widget) -> None:
        self.run = widgets.Button(description="Run", tooltip="Run on the chosen machine and keep the result")
        self.stop = widgets.Button(description="Stop", tooltip="End the run and its rank processes now", disabled=True)
        self.state = widgets.HTML()
        self.progress = widgets.FloatProgress(min=0.0, max=1.0)
        self.compared = widgets.Dropdown(description="compare with")
        self.save = widgets.Button(description="Save", tooltip="Download all runs of the history as JSON")
        self.open = widgets.FileUpload(accept=".json", multiple=False, description="Open", tooltip="Open saved runs")
        self.trouble = widgets.HTML()
        self.words = widgets.HTML()
        self.subject = widgets.HTML()
        self.back = widgets.Button(description="back to the knobs", layout={"display": "none"})
        self.view = TimelineView()
        self.pane = widgets.VBox([self.view])  # it carries the class that pales the view: an anywidget has none
        self.live_strip = LiveStrip()
        self.numbers = widgets.HTML()
        self.errors = widgets.HTML()
        pages = {
            "Numbers": self.numbers,
            "Simulated / measured": self.errors,
            "History": history,
            "Plots": plots,
        }
        self.tabs = {name: widgets.ToggleButton(description=name, value=name == "Numbers") for name in pages}
        self._open = "Numbers"
        self._pages = {name: widgets.Box([page]).add_class("dwdp-page") for name, page in pages.items()}
        for name, tab in self.tabs.items():
            tab.observe(lambda change, name=name: self._tab_pressed(name, change["new"]), names="value")
        self.widget = self._arranged(knobs)
        self.open_tab("Numbers")
        self.show_state(RunState())

    def _arranged(self, knobs: widgets.Widget) -> widgets.VBox:
        self.run.add_class("dwdp-go")
        self.stop.add_class("dwdp-halt")
        self.progress.add_class("dwdp-progress")
        self.state.add_class("dwdp-state")
        for child in (self.trouble, self.words, self.numbers, self.errors):
            child.layout.width = "100%"
        bar = widgets.HBox([self.run, self.stop, self.state, self.progress, self.compared, self.save, self.open])
        stage = widgets.VBox(
            [
                self.trouble,
                self.words,
                widgets.HBox([self.subject, self.back]).add_class("dwdp-subject"),
                self.live_strip.widget,
                self.pane,
                widgets.HBox(list(self.tabs.values())).add_class("dwdp-tabs"),
                *self._pages.values(),
            ]
        )
        main = widgets.HBox([knobs, stage.add_class("dwdp-stage")]).add_class("dwdp-main")
        style = widgets.HTML(f"<style>{_STYLE}</style>", layout={"display": "none"})
        return widgets.VBox([style, bar.add_class("dwdp-bar"), main]).add_class("dwdp-room")

    def close(self) -> None:
        """Leave a line in place of the panel."""
        self.live_strip.stop()
        gone = "<p class='dwdp-quiet'>This control room is closed; run its cell again for a new one.</p>"
        self.widget.children = (widgets.HTML(gone),)

    def _tab_pressed(self, name: str, pressed: bool) -> None:
        if pressed or name == self._open:  # the open one stays open
            self.open_tab(name)

    def open_tab(self, name: str) -> None:
        """Show one of the pages below the timeline."""
        self._open = name
        for other, tab in self.tabs.items():
            tab.value = other == name
            self._pages[other].layout.display = None if other == name else "none"

    def show_state(self, state: RunState) -> None:
        """Run, Stop, the progress and what is being done, and the GPUs while a run is on them."""
        busy = state.phase != "idle"
        if state.machine == "cuda" and busy:
            self.live_strip.start()
        else:
            self.live_strip.stop()
        words = f"{state.doing}; one run waits" if state.waiting else state.doing
        self.state.value = (
            f"<span class='dwdp-pill' data-phase='{state.phase}' role='status'>{state.phase}</span>"
            f"<span class='dwdp-doing'>{escape(words)}</span>"
        )
        self.stop.disabled = not busy
        self.progress.value = state.share
        self.progress.layout.visibility = "visible" if busy else "hidden"
