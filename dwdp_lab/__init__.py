"""DWDP Lab: see, change, break and measure mixture-of-experts inference without synchronisation.

Names load when they are first used: importing the package alone costs neither torch nor pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dwdp_lab.doctor.check_machine import check_machine
    from dwdp_lab.execute.failures import RankFailed, RunStopped
    from dwdp_lab.execute.hf.run_model import HfResult, run_hf_model
    from dwdp_lab.execute.ranks import Ranks
    from dwdp_lab.execute.run_cpu import run_cpu
    from dwdp_lab.execute.run_cuda import run_cuda
    from dwdp_lab.execute.run_result import RunResult
    from dwdp_lab.model.hf.interface import register_experts, use_hf_experts
    from dwdp_lab.program.build import build
    from dwdp_lab.program.checker import ProgramError, check
    from dwdp_lab.program.operation import Op, Program
    from dwdp_lab.program.placement import placement
    from dwdp_lab.program.pull_plan import pull_plan
    from dwdp_lab.program.rank_view import RankView
    from dwdp_lab.scenario import Group, ModelShape, Scenario, ScenarioError, Strategy, read_model
    from dwdp_lab.simulate.hardware import load_hardware
    from dwdp_lab.simulate.physics import Physics
    from dwdp_lab.simulate.predict import Prediction, predict
    from dwdp_lab.simulate.roofline import roofline
    from dwdp_lab.simulate.run import run_sim
    from dwdp_lab.teach.lesson import lesson
    from dwdp_lab.timeline.chrome_trace import write_chrome_trace
    from dwdp_lab.timeline.compare import compare
    from dwdp_lab.timeline.metrics import Metrics, metrics
    from dwdp_lab.timeline.span import Span, Timeline
    from dwdp_lab.timeline.svg import timeline_svg
    from dwdp_lab.view.imbalance_panel import ImbalancePanel
    from dwdp_lab.view.picture import timeline_picture
    from dwdp_lab.view.timeline_plot import timeline_figure

__version__ = "0.1.0"

_MODULE_OF = {
    "Group": "scenario",
    "HfResult": "execute.hf.run_model",
    "ImbalancePanel": "view.imbalance_panel",
    "Metrics": "timeline.metrics",
    "ModelShape": "scenario",
    "Op": "program.operation",
    "Physics": "simulate.physics",
    "Prediction": "simulate.predict",
    "Program": "program.operation",
    "ProgramError": "program.checker",
    "RankFailed": "execute.failures",
    "RankView": "program.rank_view",
    "Ranks": "execute.ranks",
    "RunResult": "execute.run_result",
    "RunStopped": "execute.failures",
    "Scenario": "scenario",
    "ScenarioError": "scenario",
    "Span": "timeline.span",
    "Strategy": "scenario",
    "Timeline": "timeline.span",
    "build": "program.build",
    "check": "program.checker",
    "check_machine": "doctor.check_machine",
    "compare": "timeline.compare",
    "lesson": "teach.lesson",
    "load_hardware": "simulate.hardware",
    "metrics": "timeline.metrics",
    "placement": "program.placement",
    "predict": "simulate.predict",
    "pull_plan": "program.pull_plan",
    "read_model": "scenario",
    "register_experts": "model.hf.interface",
    "roofline": "simulate.roofline",
    "run_cpu": "execute.run_cpu",
    "run_cuda": "execute.run_cuda",
    "run_hf_model": "execute.hf.run_model",
    "run_sim": "simulate.run",
    "timeline_figure": "view.timeline_plot",
    "timeline_picture": "view.picture",
    "timeline_svg": "timeline.svg",
    "use_hf_experts": "model.hf.interface",
    "write_chrome_trace": "timeline.chrome_trace",
}

__all__ = [
    "Group",
    "HfResult",
    "ImbalancePanel",
    "Metrics",
    "ModelShape",
    "Op",
    "Physics",
    "Prediction",
    "Program",
    "ProgramError",
    "RankFailed",
    "RankView",
    "Ranks",
    "RunResult",
    "RunStopped",
    "Scenario",
    "ScenarioError",
    "Span",
    "Strategy",
    "Timeline",
    "build",
    "check",
    "check_machine",
    "compare",
    "lesson",
    "load_hardware",
    "metrics",
    "placement",
    "predict",
    "pull_plan",
    "read_model",
    "register_experts",
    "roofline",
    "run_cpu",
    "run_cuda",
    "run_hf_model",
    "run_sim",
    "timeline_figure",
    "timeline_picture",
    "timeline_svg",
    "use_hf_experts",
    "write_chrome_trace",
]


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # the next use does not come through here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULE_OF})
