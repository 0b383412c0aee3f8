"""Figures and widget panels. `ControlRoom` is the whole; its parts can be placed alone.

Names load when they are first used: a picture needs neither plotly nor widgets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dwdp_lab.view.charts.contention import contention
    from dwdp_lab.view.charts.measured_contention import level_shares_chart, pull_rates, reader_fairness, reader_rates
    from dwdp_lab.view.charts.measured_copies import copy_rates, slice_rates
    from dwdp_lab.view.charts.measured_crossover import measured_crossover
    from dwdp_lab.view.charts.memory import memory_ledger
    from dwdp_lab.view.charts.roofline import roofline
    from dwdp_lab.view.charts.sweeps import crossover, speed_up_map, step_time_over_cv
    from dwdp_lab.view.control.control_room import ControlRoom
    from dwdp_lab.view.imbalance_panel import ImbalancePanel
    from dwdp_lab.view.picture import Picture, timeline_picture
    from dwdp_lab.view.simulated_measured import errors_text, kind_errors
    from dwdp_lab.view.timeline_plot import timeline_figure
    from dwdp_lab.view.timeline_view.widget import TimelineView

_MODULE_OF = {
    "ControlRoom": "control.control_room",
    "ImbalancePanel": "imbalance_panel",
    "Picture": "picture",
    "TimelineView": "timeline_view.widget",
    "contention": "charts.contention",
    "copy_rates": "charts.measured_copies",
    "crossover": "charts.sweeps",
    "errors_text": "simulated_measured",
    "kind_errors": "simulated_measured",
    "level_shares_chart": "charts.measured_contention",
    "measured_crossover": "charts.measured_crossover",
    "memory_ledger": "charts.memory",
    "pull_rates": "charts.measured_contention",
    "reader_fairness": "charts.measured_contention",
    "reader_rates": "charts.measured_contention",
    "roofline": "charts.roofline",
    "slice_rates": "charts.measured_copies",
    "speed_up_map": "charts.sweeps",
    "step_time_over_cv": "charts.sweeps",
    "timeline_figure": "timeline_plot",
    "timeline_picture": "picture",
}

__all__ = [
    "ControlRoom",
    "ImbalancePanel",
    "Picture",
    "TimelineView",
    "contention",
    "copy_rates",
    "crossover",
    "errors_text",
    "kind_errors",
    "level_shares_chart",
    "measured_crossover",
    "memory_ledger",
    "pull_rates",
    "reader_fairness",
    "reader_rates",
    "roofline",
    "slice_rates",
    "speed_up_map",
    "step_time_over_cv",
    "timeline_figure",
    "timeline_picture",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)  # not kept: a submodule may have the name
