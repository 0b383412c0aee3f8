"""The history as a table with buttons: show a run, compare with it, forget it."""

from __future__ import annotations

from collections.abc import Callable
from html import escape

import ipywidgets as widgets

from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.timeline.words import figures
from dwdp_lab.view.control.history import History, Run

Act = Callable[[int], None]
"""Called with a run's number."""


class HistoryTable:
    """One line per run, the newest first. Lines are made once and kept."""

    def __init__(self, show: Act, compare: Act, forget: Act) -> None:
        self._acts = (("show", show), ("compare", compare), ("forget", forget))
        self._lines: dict[int, widgets.HBox] = {}
        self.widget = widgets.VBox().add_class("dwdp-history")

    def draw(self, history: History) -> None:
        """Show these runs."""
        for run in history.runs:
            if run.number not in self._lines:
                self._lines[run.number] = self._line(run)
        known = {run.number for run in history.runs}
        for number in [number for number in self._lines if number not in known]:
            del self._lines[number]
        empty = widgets.HTML("<p class='dwdp-quiet'>Run keeps a run here; Open brings back saved ones.</p>")
        lines = [self._lines[run.number] for run in reversed(history.runs)]
        self.widget.children = lines or [empty]

    def _line(self, run: Run) -> widgets.HBox:
        measured = metrics(run.timeline)
        words = (
            f"<b>{escape(run.title)}</b> <span class='dwdp-when'>{escape(run.when[:19].replace('T', ' '))}</span><br>"
            f"{escape(run.setting)}: step {figures(measured.step_ms)} ms, "
            f"{figures(measured.tokens_per_s)} tokens/s per rank"
        )
        buttons = []
        for name, act in self._acts:
            button = widgets.Button(description=name, tooltip=f"{name} {run.title}").add_class("dwdp-small")
            button.on_click(lambda _, act=act, number=run.number: act(number))
            buttons.append(button)
        return widgets.HBox([widgets.HTML(words), widgets.HBox(buttons)]).add_class("dwdp-line")
