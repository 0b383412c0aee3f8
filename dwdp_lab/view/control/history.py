"""The runs that were made or opened, and the file they are kept in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shipped import shipped
from dwdp_lab.timeline.json_form import FORMAT, from_json, to_json
from dwdp_lab.timeline.palette import strategy_name
from dwdp_lab.timeline.span import Timeline

RUNS_FORMAT = "dwdp-lab timelines 1"
"""Not the form of `bench strategies` (measure/runs/recorded_runs.py), which keeps figures and no spans."""


@dataclass(frozen=True)
class Run:
    """One run of the history. `scenario` is None for a timeline that was opened without one."""

    number: int
    when: str
    timeline: Timeline
    scenario: Scenario | None = None

    @property
    def title(self) -> str:
        """Number, strategy and provenance in a few words."""
        machine = {"sim": "simulator", "cpu": "CPU", "cuda": "GPU"}[self.timeline.machine]
        return f"#{self.number} {strategy_name(self.timeline)}, {machine}, {self.timeline.provenance}"

    @property
    def setting(self) -> str:
        """Model, group and work in a few words."""
        if self.scenario is None:
            return f"{self.timeline.ranks} ranks"
        scenario, tokens = self.scenario, self.timeline.tokens
        mean = sum(tokens) / max(1, len(tokens) * self.timeline.steps)
        return (
            f"{scenario.model.name}, {scenario.model.layers} layers, N {scenario.ranks}, L {scenario.local_experts}, "
            f"{mean:,.0f} tokens, CV {scenario.batches.mean_cv():.2f}"
        )


@dataclass
class History:
    """Runs in the order they came, numbered from 1."""

    runs: list[Run] = field(default_factory=list)

    @classmethod
    def with_shipped_runs(cls) -> History:
        """A history that begins with the recorded runs that ship in data/measured/."""
        history = cls()
        for path in shipped("measured", ".json").values():
            text = path.read_text(encoding="utf-8")
            if json.loads(text).get("format") in (RUNS_FORMAT, FORMAT):  # other measurements are kept there too
                history.open_text(text)
        return history

    def add(self, timeline: Timeline, scenario: Scenario | None, when: str = "") -> Run:
        """Keep a run made now (or `when`) under the next number."""
        number = 1 + max((run.number for run in self.runs), default=0)
        run = Run(number, when or datetime.now().astimezone().isoformat(timespec="seconds"), timeline, scenario)
        self.runs.append(run)
        return run

    def get(self, number: int) -> Run:
        """The run of that number. Raises KeyError when there is none."""
        for run in self.runs:
            if run.number == number:
                return run
        raise KeyError(f"there is no run #{number}")

    def remove(self, number: int) -> None:
        """Forget a run; the others keep their numbers."""
        self.runs.remove(self.get(number))

    def partner(self, run: Run, strategy: str) -> Run | None:
        """The newest run of another strategy on the same scenario and the same machine."""
        if run.scenario is None:
            return None
        for other in reversed(self.runs):
            same_worth = other.timeline.machine == run.timeline.machine and (
                other.timeline.provenance == run.timeline.provenance
            )
            if same_worth and other.scenario is not None and other.timeline.strategy == strategy:
                renamed = other.scenario.with_strategy(run.scenario.strategy.name)
                if renamed == run.scenario:
                    return other
        return None

    def to_text(self, runs: Iterable[Run] | None = None) -> str:
        """The file: all runs, or those given, as JSON."""
        kept = [
            {
                "when": run.when,
                "scenario": None if run.scenario is None else run.scenario.to_dict(),
                "timeline": to_json(run.timeline),
            }
            for run in (self.runs if runs is None else runs)
        ]
        return json.dumps({"format": RUNS_FORMAT, "runs": kept}, allow_nan=False)

    def open_text(self, text: str) -> list[Run]:
        """Add the runs of a file, or one bare timeline, as `recorded`. Raises ValueError for any other content."""
        try:
            plain = json.loads(text)
        except ValueError as error:
            raise ValueError(f"the file is no JSON: {error}") from None
        if isinstance(plain, dict) and plain.get("format") == FORMAT:
            plain = {"format": RUNS_FORMAT, "runs": [{"timeline": plain}]}
        if not isinstance(plain, dict) or plain.get("format") != RUNS_FORMAT:
            raise ValueError(f"the file is neither {RUNS_FORMAT!r} nor {FORMAT!r}: Save writes the former")
        found = [_read(entry) for entry in plain["runs"]]  # all are read before the first is kept
        return [self.add(timeline, scenario, when) for timeline, scenario, when in found]


def _read(entry: Mapping[str, Any]) -> tuple[Timeline, Scenario | None, str]:
    timeline = from_json(entry["timeline"])
    scenario = None
    if entry.get("scenario") is not None:
        try:
            scenario = Scenario.create(entry["scenario"])
            _ = scenario.batches
        except ScenarioError:
            scenario = None  # such as a trace file that is not here: the timeline is still worth seeing
    return timeline, scenario, str(entry.get("when", ""))
