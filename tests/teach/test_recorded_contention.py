"""What notebook 07 shows of contention on GPUs: that nothing is recorded, or what a record in data/measured/ says.

The record is made here: three CPU ranks measured it, and the test calls their machine a GPU that does not exist.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dwdp_lab.cli.main import main
from dwdp_lab.teach.recorded_contention import NOTHING, contention_records, recorded_contention
from dwdp_lab.teach.shown import Gallery
from dwdp_lab.view.charts.chart import Chart

COMMAND = ("bench", "contention", "--ranks", "3", "--share", "96KiB", "--slices", "none,32KiB", "--repeats", "2")


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("contention") / "contention.json"
    assert main([*COMMAND, "--evict", "0", "--json", str(file)]) == 0
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def kept(folder: Path, name: str, record: dict[str, Any]) -> dict[str, Path]:
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record))
    return {name: path}


def as_if_on_gpus(record: dict[str, Any]) -> dict[str, Any]:
    return record | {"machine": "cuda", "device": "3 x made up for a test", "notes": ["no GPU was there"]}


def test_without_a_record_it_says_so(tmp_path: Path) -> None:
    shown = recorded_contention({})
    assert shown == Gallery(NOTHING)
    assert "Nothing is recorded yet" in repr(shown)
    # records of something else are none of contention
    assert recorded_contention(kept(tmp_path, "copies", {"title": "Copies", "machine": "cuda"})).pictures == ()


@pytest.mark.ranks
def test_a_record_is_shown_with_what_it_is_worth(on_cpu: dict[str, Any], tmp_path: Path) -> None:
    shown = recorded_contention(kept(tmp_path, "made-up", as_if_on_gpus(on_cpu)))
    words = repr(shown)
    assert f"recorded {on_cpu['date'][:10]} on 3 x made up for a test, 3 ranks" in words
    assert "mind: no GPU was there" in words
    assert on_cpu["command"] in shown.words
    two = on_cpu["readers"][1]
    assert f"{two['gbps']:.0f}" in next(line for line in words.splitlines() if line.startswith("2 "))
    assert "by chance: 1.50 as chosen, 1.57 by time" in words
    titles = [picture.title for picture in shown.pictures]
    assert titles[:3] == [
        "One source: rate of all its readers together",
        "All ranks pull, all start at once: rate over that of one reader alone",
        "All ranks pull, each starts at a time of its own: rate over that of one reader alone",
    ]
    for picture in shown.pictures:
        drawn = picture.svg()
        assert "recorded" in drawn
        assert "measured · " not in drawn
        assert "made up for a test" in drawn


@pytest.mark.ranks
def test_only_gpu_ranks_count_and_more_ranks_come_first(on_cpu: dict[str, Any], tmp_path: Path) -> None:
    gpus = as_if_on_gpus(on_cpu)
    files = (
        kept(tmp_path, "a-cpu", on_cpu)
        | kept(tmp_path, "b-three", gpus)
        | kept(tmp_path, "c-eight", gpus | {"ranks": 8})
        | kept(tmp_path, "d-pair", gpus | {"ranks": 2})
    )
    found = contention_records(files)
    assert list(found) == ["c-eight", "b-three"]
    assert {record["provenance"] for record in found.values()} == {"recorded"}


@pytest.mark.ranks
@pytest.mark.parametrize("simulated", [None, [0.25, 0.75]])
def test_levels_are_drawn_also_where_the_simulator_has_none(
    on_cpu: dict[str, Any], tmp_path: Path, simulated: list[float] | None
) -> None:
    levels = [one | {"measured": [0.5, 0.5], "simulated": simulated} for one in on_cpu["levels"]]
    shown = recorded_contention(kept(tmp_path, "made-up", as_if_on_gpus(on_cpu) | {"levels": levels}))
    chart = shown.pictures[-1]
    assert isinstance(chart, Chart)
    assert [bars.label.partition(":")[0] for bars in chart.bars].count("simulated") == (simulated is not None)
    said = "the simulator has none" if simulated is None else "the simulator says 1.75"
    assert f"A rank meets 1.50 readers at its source on average, itself included; {said}" in chart.words
    row = next(line for line in repr(shown).splitlines() if line.startswith("random sources"))
    assert row.split()[-2:] == ["1.50", "-" if simulated is None else "1.75"]


@pytest.mark.ranks
def test_levels_that_were_not_measured_are_left_out(on_cpu: dict[str, Any], tmp_path: Path) -> None:
    levels = [one | {"measured": None} for one in on_cpu["levels"]]
    shown = recorded_contention(kept(tmp_path, "made-up", as_if_on_gpus(on_cpu) | {"levels": levels}))
    assert len(shown.pictures) == 3
    assert "never did all ranks pull at once" in repr(shown)


def test_what_ships_can_be_shown(capsys: pytest.CaptureFixture[str]) -> None:
    shown = recorded_contention()
    shown._ipython_display_()
    assert repr(shown) in capsys.readouterr().out
    assert bool(shown.pictures) is bool(contention_records())
