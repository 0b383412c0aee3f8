"""How far a learner has come: one small JSON file in the user's data folder."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from dwdp_lab.scenario.errors import ScenarioError

VARIABLE = "DWDP_LAB_PROGRESS"
"""Environment variable: the file to use instead, so that several people can share one account."""

Event = Literal["tried", "passed", "hint", "solution", "guess"]
Keep = Callable[[Event, str, Any], None]
"""(what happened, key of the exercise or prediction, more about it)"""


@dataclass
class Record:
    """One exercise. `tries` counts checks, `passed_on` is the day of the first one that passed."""

    tries: int = 0
    passed_on: str | None = None
    targets: list[str] = field(default_factory=list)
    hints: list[int] = field(default_factory=list)
    solution_seen: bool = False


@dataclass
class Progress:
    """All exercises tried and all predictions made, by key such as `barriers.step_time`."""

    exercises: dict[str, Record] = field(default_factory=dict)
    guesses: dict[str, Any] = field(default_factory=dict)
    """The first guess only: after that one has seen the answer."""

    def add(self, event: Event, key: str, more: Any) -> None:
        """Take note of something that happened."""
        if event == "guess":
            self.guesses.setdefault(key, more)
            return
        record = self.exercises.setdefault(key, Record())
        if event in ("tried", "passed"):
            record.tries += 1
        if event == "passed":
            record.passed_on = record.passed_on or datetime.now(UTC).date().isoformat()
            record.targets = sorted({*record.targets, *more})
        elif event == "hint":
            record.hints = sorted({*record.hints, int(more)})
        elif event == "solution":
            record.solution_seen = True


def progress_file() -> Path:
    """Where progress is kept: $DWDP_LAB_PROGRESS, or dwdp-lab/progress.json in the XDG data folder."""
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser()
    folder = os.environ.get("XDG_DATA_HOME")
    return (Path(folder) if folder else Path.home() / ".local" / "share") / "dwdp-lab" / "progress.json"


def read_progress(file: Path | None = None) -> Progress:
    """What the file says; nothing done when there is none yet.

    Raises ScenarioError (field: the environment variable) for a file that is not a progress file.
    """
    file = file or progress_file()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        records = {key: Record(**fields) for key, fields in content["exercises"].items()}
        return Progress(records, dict(content["guesses"]))
    except FileNotFoundError:
        return Progress()
    except OSError as error:
        raise ScenarioError(VARIABLE, str(file), f"cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ScenarioError(
            VARIABLE, str(file), "is not a progress file", "move it away, or name another file; a new one is then begun"
        ) from None


def write_progress(progress: Progress, file: Path | None = None) -> None:
    """Write the file as a whole, so that a reader never sees half of it. Raises OSError."""
    file = file or progress_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(progress), indent=1, sort_keys=True) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=file.parent, encoding="utf-8", delete=False) as new:
        new.write(text)
    os.replace(new.name, file)


def keep_in_file(event: Event, key: str, more: Any) -> None:
    """Add an event to the learner's file. A file that cannot be used costs a warning, never the exercise."""
    try:
        progress = read_progress()
        progress.add(event, key, more)
        write_progress(progress)
    except (ScenarioError, OSError) as error:
        warnings.warn(f"your progress is not kept: {error}", stacklevel=4)


def keep_nothing(event: Event, key: str, more: Any) -> None:
    """What solutions and tests do: nobody learnt anything by them."""
    del event, key, more
