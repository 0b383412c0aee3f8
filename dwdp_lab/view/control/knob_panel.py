"""The knobs as widgets: shown, hidden or greyed with the reason, and each with a place for its complaint."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import ipywidgets as widgets

from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.view.control.applies import hidden, reason
from dwdp_lab.view.control.choices import Choice, choices, value
from dwdp_lab.view.control.knobs import KNOBS, SECTIONS
from dwdp_lab.view.control.machines import Machine
from dwdp_lab.view.control.settings import MachineName, Settings

Turned = Callable[[str, Any], None]
"""Called with a knob's name and the value it was turned to."""

_STYLE = {"description_width": "100px"}


class KnobPanel:
    """`controls[name]` is the widget of each knob. Sliders and lists hold the labels of what they offer."""

    def __init__(self, settings: Settings, machines: Mapping[MachineName, Machine], turned: Turned) -> None:
        self._turned = turned
        self._drawing = False
        self._machines = machines
        self._offered: dict[str, tuple[Choice, ...]] = {}
        self.controls: dict[str, widgets.Widget] = {}
        self.notes: dict[str, widgets.HTML] = {}
        self.machine_buttons = {name: self._machine_button(machine) for name, machine in machines.items()}
        self.machine_note = widgets.HTML()
        sections = [_section("Machine", [widgets.HBox(list(self.machine_buttons.values())), self.machine_note])]
        for title, knobs in SECTIONS.items():
            sections.append(_section(title, [part for name in knobs for part in self._row(name, settings)]))
        self.widget = widgets.VBox(sections).add_class("dwdp-knobs")
        self.show(settings)

    def show(self, settings: Settings, complaint: tuple[str | None, str] = (None, "")) -> None:
        """Put every knob where the settings say; `complaint` is a knob and what is wrong with it."""
        self._drawing = True
        try:
            self._show_machines(settings)
            last = ""
            for name in KNOBS:
                off, why = hidden(settings, name), reason(settings, name)
                self._show_knob(name, settings, off, why)
                said = complaint[1] if complaint[0] == name else ""
                note = why if why != last and not off else ""
                if not off:
                    last = why
                self._show_note(name, said, note)
        finally:
            self._drawing = False

    def complain(self, name: str | None, complaint: str) -> None:
        """Say at a knob what is wrong, without moving any; may be called from any thread."""
        if name in self.notes:
            self._show_note(name, complaint, "")

    def _row(self, name: str, settings: Settings) -> list[widgets.Widget]:
        knob = KNOBS[name]
        common = {"description": knob.label, "tooltip": knob.help, "style": _STYLE}
        control: widgets.Widget
        if knob.kind == "switch":
            control = widgets.Checkbox(value=bool(settings.wish(name)), indent=True, **common)
        elif knob.kind == "text":
            control = widgets.Combobox(
                options=list(shipped("lengths", ".json")), continuous_update=False, ensure_option=False, **common
            )
        else:
            make = widgets.SelectionSlider if knob.kind == "slider" else widgets.Dropdown
            self._offered[name] = choices(settings, name)
            control = make(options=[choice.label for choice in self._offered[name]], **common)
        control.add_class(f"dwdp-knob-{name}")
        control.observe(lambda change, name=name: self._changed(name, change["new"]), names="value")
        self.controls[name] = control
        self.notes[name] = widgets.HTML(layout={"display": "none"})
        return [control, self.notes[name]]

    def _machine_button(self, machine: Machine) -> widgets.ToggleButton:
        button = widgets.ToggleButton(
            description=machine.label,
            disabled=bool(machine.missing),
            tooltip=f"{machine.label}: {machine.missing}" if machine.missing else f"Run on: {machine.label}",
        )
        button.add_class("dwdp-machine")
        button.observe(lambda _, name=machine.name: self._changed("machine", name), names="value")
        return button

    def _changed(self, name: str, chosen: Any) -> None:
        if self._drawing:
            return
        if name in self._offered:
            chosen = next(choice.value for choice in self._offered[name] if choice.label == chosen)
        self._turned(name, chosen)

    def _show_machines(self, settings: Settings) -> None:
        for name, button in self.machine_buttons.items():
            button.value = name == settings.machine
        missing = [f"{m.label}: {m.missing}" for m in self._machines.values() if m.missing]
        self.machine_note.value = f"<div class='dwdp-why'>{escape('; '.join(missing))}</div>" if missing else ""

    def _show_knob(self, name: str, settings: Settings, off: bool, why: str) -> None:
        control = self.controls[name]
        with control.hold_sync():
            now = value(settings, name)
            if name in self._offered:
                offered = choices(settings, name)
                if offered != self._offered[name]:
                    self._offered[name] = offered
                    control.options = [choice.label for choice in offered]
                now = next(choice.label for choice in offered if choice.value == now)
            if control.value != now:
                control.value = now
            control.disabled = bool(why)
            control.tooltip = f"{KNOBS[name].help}. Off now: {why}" if why else KNOBS[name].help
        control.layout.display = "none" if off else None

    def _show_note(self, name: str, complaint: str, why: str) -> None:
        note = self.notes[name]
        if complaint:
            note.value = f"<div class='dwdp-complaint' role='alert'>{escape(complaint)}</div>"
        else:
            note.value = f"<div class='dwdp-why'>{escape(why)}</div>" if why else ""
        note.layout.display = None if note.value else "none"


def _section(title: str, rows: list[widgets.Widget]) -> widgets.VBox:
    return widgets.VBox([widgets.HTML(f"<h4>{title}</h4>"), *rows]).add_class("dwdp-section")
