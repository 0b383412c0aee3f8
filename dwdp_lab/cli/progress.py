"""`dwdp-lab progress`: how far you are in the course."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from dwdp_lab.cli.output import add_json_option, check_json, emit

if TYPE_CHECKING:
    from argparse import _SubParsersAction


def add_to(commands: _SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "progress",
        help="how far you are in the course",
        description="What you have tried, passed and guessed in the course's notebooks. The file is "
        "dwdp-lab/progress.json in your data folder, or the one that DWDP_LAB_PROGRESS names.",
    )
    add_json_option(parser)
    parser.set_defaults(call=call)


def call(options: argparse.Namespace) -> int:
    """Print the table or the figures. Returns the exit status."""
    check_json(options)
    figures = progress_figures()

    def show(console: Console) -> None:
        console.print(_table(figures))
        console.print(f"{figures['passed']} of {figures['exercises']} exercises passed. Kept in {figures['file']}")

    emit(options, figures, show)
    return 0


def progress_figures() -> dict[str, Any]:
    """Every exercise of every lesson with what the learner's file says of it, as plain JSON values."""
    from dwdp_lab.teach.lesson import LESSONS, lesson
    from dwdp_lab.teach.progress import Record, progress_file, read_progress

    progress = read_progress()
    lessons: list[dict[str, Any]] = []
    for name in LESSONS:
        found = lesson(name, keep_progress=False)
        exercises = []
        for exercise in found.exercises.values():
            record = progress.exercises.get(exercise.key, Record())
            exercises.append(
                {
                    "key": exercise.key,
                    "number": exercise.number,
                    "title": exercise.title,
                    "difficulty": exercise.difficulty,
                    "minutes": exercise.minutes,
                    "tries": record.tries,
                    "passed": record.passed_on is not None,
                    "passed_on": record.passed_on,
                    "targets": {target.name: target.name in record.targets for target in exercise.targets},
                    "hints": record.hints,
                    "solution_seen": record.solution_seen,
                }
            )
        guesses = {each.key: progress.guesses.get(each.key) for each in found.predictions.values()}
        lessons.append({"name": name, "notebook": found.notebook, "exercises": exercises, "guesses": guesses})
    every = [exercise for each in lessons for exercise in each["exercises"]]
    return {
        "file": str(progress_file()),
        "exercises": len(every),
        "passed": sum(exercise["passed"] for exercise in every),
        "lessons": lessons,
    }


def _table(figures: dict[str, Any]) -> Table:
    table = Table(box=SIMPLE, padding=(0, 1, 0, 0), pad_edge=False)  # a line per exercise on a terminal of 80 columns
    table.add_column("exercise", justify="left")
    for name in ("level", "min", "state", "targets", "tries", "hints"):
        table.add_column(name, justify="right")
    for each in figures["lessons"]:
        for exercise in each["exercises"]:
            targets = exercise["targets"].values()
            help_taken = [str(len(exercise["hints"]))] if exercise["hints"] else []
            help_taken += ["solution"] if exercise["solution_seen"] else []
            table.add_row(
                f"{exercise['number']} {exercise['title']}",
                "●" * exercise["difficulty"] + "○" * (3 - exercise["difficulty"]),
                str(exercise["minutes"]),
                "passed" if exercise["passed"] else "tried" if exercise["tries"] else "",
                f"{sum(targets)} of {len(targets)}" if targets and exercise["tries"] else "",
                str(exercise["tries"] or ""),
                " + ".join(help_taken),
            )
        table.add_section()
    return table
