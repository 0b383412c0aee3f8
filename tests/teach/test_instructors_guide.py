"""The instructor's guide is true: its times, exercises, commands, messages and figures are the course's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from math import comb
from pathlib import Path
from typing import Any

import pytest
from commands_in_text import ROOT, assert_understood, commands, links
from guide import FIGURE, GUIDE, exercises, lessons, renewed, rows, section, times

from dwdp_lab.teach.failure import ExerciseFailed

TEXT = GUIDE.read_text(encoding="utf-8")
NOTEBOOKS = sorted(path.name for path in (ROOT / "notebooks").glob("0*.ipynb"))
HOURS = {"### Two hours": 2, "### Four hours": 4, "### Eight hours": 8}
BUILT_IN = {"something is written", "it is a function", "it runs"}


def syllabus(start: str) -> list[list[str]]:
    [heading] = re.findall(rf"^{start}.*$", TEXT, flags=re.M)
    return rows(section(TEXT, heading))


def linked(cell: str) -> str:
    [target] = links(cell)
    return target


def test_the_times_are_those_of_the_notebooks() -> None:
    table = rows(section(TEXT, "## How long everything takes"))
    told = {linked(name): tuple(map(int, minutes)) for name, *minutes in table[:-1]}
    expected = {name: (*times(name), sum(times(name))) for name in NOTEBOOKS}
    assert told == expected
    assert [int(cell) for cell in table[-1][1:]] == [sum(column) for column in zip(*expected.values(), strict=True)]


@pytest.mark.parametrize("start", HOURS)
def test_a_syllabus_adds_up(start: str) -> None:
    clock = 0
    for at, notebook, what, minutes in syllabus(start):
        hours, past = at.split(":")
        assert 60 * int(hours) + int(past) == clock
        if notebook:
            name = linked(notebook)
            parts = what.split(", ")
            needed = [times(name).reading if part == "read" else exercises()[part].minutes for part in parts]
            assert int(minutes) == sum(needed), f"{start}: {notebook} {what}"
            own = {each.number for each in lessons()[name].exercises.values()} if name in lessons() else set()
            assert set(parts) - {"read"} <= own
        clock += int(minutes)
    assert clock == 60 * HOURS[start]


@pytest.mark.parametrize("start", HOURS)
def test_a_syllabus_has_room_for_failure(start: str) -> None:
    reserve = [int(minutes) for _, _, what, minutes in syllabus(start) if what.startswith("reserve")]
    assert sum(reserve) >= 0.08 * 60 * HOURS[start]


def test_gpu_hours_follow_from_the_formula() -> None:
    table = [row for row in rows(section(TEXT, "## Machines and GPU-hours")) if len(row) == 5]
    assert len(table) >= 4
    for plan, *numbers in table:
        groups, gpus, hours, total = map(float, numbers)
        assert total == groups * gpus * (hours + 0.5) * 1.25, plan


def test_every_lesson_has_its_likely_errors() -> None:
    table = rows(section(TEXT, "## When somebody is stuck"))
    for number, _, says, ask in table:
        exercise = exercises()[number]
        targets = {f"*{target.name}* is not reached" for target in exercise.targets}
        assert says in {each.name for each in exercise.properties} | targets | BUILT_IN, f"{number}: {says}"
        assert ask.endswith("?")
    for found in lessons().values():
        numbers = {each.number for each in found.exercises.values()}
        assert sum(row[0] in numbers for row in table) >= 3, found.title


def level_with_the_reader(ranks: int, level: int) -> float:
    others, share = ranks - 1, 1 / (ranks - 1)
    return comb(others, level - 1) * share ** (level - 1) * (1 - share) ** (others - level + 1)


def best_of_all(ratio: Callable[[int], float], most: int) -> int | None:
    found, tokens = max((ratio(tokens), tokens) for tokens in range(1, most + 1))
    return tokens if found >= 1 else None


def without_slots(experts: int, ranks: int, layers: int, nbytes: int, _: int, free: int) -> tuple[int, int] | None:
    fitting = [
        (experts - (ranks - 1) * pulled, pulled)
        for pulled in range(experts)
        if experts - (ranks - 1) * pulled >= pulled and layers * (experts - (ranks - 1) * pulled) * nbytes <= free
    ]
    return max(fitting, default=None)


TRIED: list[tuple[str, Any]] = [
    ("3.1", lambda lengths, flops: flops * sum(lengths) * (sum(lengths) + 1) // 2),
    ("3.2", best_of_all),
    ("3.3", lambda experts, _, k, size, rate, link: experts * size * rate * 1e3 / (2 * k * link)),
    ("7.1", lambda rank, ranks: [peer for peer in range(ranks) if peer != rank]),
    ("7.2", level_with_the_reader),
    ("7.4", lambda link_gbps, copy_us, most: copy_us * link_gbps * 1e3 / most),
    ("9.1", without_slots),
    ("9.2", lambda service_ms, load: service_ms * load / (2 * (1 - load))),
    ("9.3", dict.fromkeys(("law firm", "help desk", "chat"), "replicated")),
]
"""Answers with the errors of the guide's table, of the lessons whose wrong answers are not tried elsewhere."""


@pytest.mark.parametrize(("number", "answer"), TRIED, ids=[number for number, _ in TRIED])
def test_check_says_what_the_guide_says(number: str, answer: Any) -> None:
    with pytest.raises(ExerciseFailed) as failed:
        exercises()[number].check(answer)
    [told] = [says for row, _, says, _ in rows(section(TEXT, "## When somebody is stuck")) if row == number]
    assert failed.value.violated == told


def test_every_likely_error_is_tried() -> None:
    tried_elsewhere = "".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_wrong_*.py")
    )
    for number, _, says, _ in rows(section(TEXT, "## When somebody is stuck")):
        tried = number in dict(TRIED) or says.removeprefix("not fooled: ") in tried_elsewhere
        assert tried or "is not reached" in says, f"{number}: {says}"


def test_there_are_ten_questions() -> None:
    questions = re.findall(
        r"^\*\*(\d+)\. .+?\?\*\*", section(TEXT, "## Ten questions that people will ask"), flags=re.M
    )
    assert [int(number) for number in questions] == list(range(1, 11))


FIGURES = list(FIGURE.finditer(TEXT))


@pytest.mark.parametrize("source", sorted({figure["source"] for figure in FIGURES}))
def test_the_figures_are_what_their_commands_give(source: str) -> None:
    # `python tests/teach/guide.py` renews them; read the sentences around them then
    told = [figure[0] for figure in FIGURES if figure["source"] == source]
    assert told == [renewed(line) for line in told]


def test_no_figure_is_without_its_source() -> None:
    assert len(FIGURES) >= 15
    assert len(re.findall(r"^- .*: \*\*[-\d.,]+\*\*", TEXT, flags=re.M)) == len(FIGURES)


@pytest.mark.parametrize("command", sorted(set(commands(TEXT))))
def test_commands_are_understood(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_understood(command, monkeypatch)


def test_links_lead_somewhere() -> None:
    assert not [link for link in links(TEXT) if link and not (GUIDE.parent / link).exists()]
    headings = {
        re.sub(r"[^\w -]", "", line).strip().lower().replace(" ", "-")
        for line in re.findall(r"^#+ (.+)$", TEXT, flags=re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= headings


def test_exercises_that_are_named_exist() -> None:
    prose = re.sub(r"`[^`]*`|\*\*[-\d.,]+\*\*", "", TEXT)
    named = set(re.findall(r"\b[0-9]\.[0-9]\b(?! [GM]B| %)", prose))
    assert named
    assert named - set(exercises()) == set()


@pytest.mark.parametrize("line", ["widgets in JupyterLab", "GPUs", "torch and CUDA"])
def test_lines_of_the_doctor_that_are_named_exist(line: str) -> None:
    assert f"*{line}*" in TEXT
    judges = (ROOT / "dwdp_lab" / "doctor" / "judges").glob("*.py")
    assert any(f'"{line}"' in path.read_text(encoding="utf-8") for path in judges)


def test_lines_of_the_doctor_that_decide_on_a_rented_machine_exist() -> None:
    judges = "".join(path.read_text("utf-8") for path in (ROOT / "dwdp_lab" / "doctor" / "judges").glob("*.py"))
    lines = [line for line, *_ in rows(section(TEXT, "## What rented machines do differently"))]
    assert len(lines) == 6
    assert [line for line in lines if f'"{line.strip("*")}"' not in judges] == []


def test_the_first_notebook_s_map_is_true() -> None:
    first = json.loads((ROOT / "notebooks" / "00_start_here.ipynb").read_text(encoding="utf-8"))
    [drawn] = ["".join(cell["source"]) for cell in first["cells"] if "".join(cell["source"]).startswith("## The map")]
    told = {linked(name): int(minutes) for name, minutes, _ in rows(drawn) if links(name) and minutes.isdigit()}
    assert told == {name: sum(times(name)) for name in NOTEBOOKS if not name.startswith("00")}
    assert "dashboard.ipynb" in links(drawn)
