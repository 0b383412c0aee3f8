"""With what the shown run can be compared, and what a wish comes to."""

from __future__ import annotations

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.timeline.palette import STRATEGY_NAMES
from dwdp_lab.view.control.choices import STRATEGY_WORDS, Choice
from dwdp_lab.view.control.history import History, Run
from dwdp_lab.view.control.scene import ALONE, SIMULATION

Subject = Scenario | Run
"""What is shown: the scenario of the knobs, or a run of the history."""


def comparisons(subject: Subject, history: History) -> tuple[Choice, ...]:
    """What the list offers now."""
    found = [Choice("nothing", ALONE)]
    if not isinstance(subject, Run) or subject.scenario is not None:
        own = _strategy(subject)
        found += [
            Choice(f"{STRATEGY_NAMES.get(name, name)}, same work", f"strategy:{name}")
            for name in STRATEGY_WORDS
            if name != own
        ]
    if isinstance(subject, Run) and subject.scenario is not None and subject.timeline.machine != "sim":
        found.append(Choice("its own simulation", SIMULATION))
    others = [run for run in reversed(history.runs) if run is not subject]
    return (*found, *[Choice(run.title, f"run:{run.number}") for run in others])


def comparison(wish: str, subject: Subject, history: History) -> str:
    """The wish where it is possible. A strategy cannot be compared with itself: then DWDP's and DEP's places change."""
    offered = {choice.value for choice in comparisons(subject, history)}
    if wish in offered:
        return wish
    if wish.startswith("strategy:"):
        other = "dwdp" if _strategy(subject) == "dep" else "dep"
        if f"strategy:{other}" in offered:
            return f"strategy:{other}"
    return ALONE


def _strategy(subject: Subject) -> str:
    return subject.timeline.strategy if isinstance(subject, Run) else subject.strategy.name
