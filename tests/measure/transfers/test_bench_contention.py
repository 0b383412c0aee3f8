"""`dwdp-lab bench contention` from the command line to JSON, tables and pictures, on CPU rank processes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dwdp_lab.cli.main import main
from dwdp_lab.cli.transfer_options import size_option
from dwdp_lab.measure.transfers import contention
from dwdp_lab.measure.transfers.contention import contention_record, readings_of
from dwdp_lab.measure.transfers.contention_cases import (
    RANDOM_SOURCES,
    ROUNDS,
    ContentionOptions,
    PullCase,
    contention_cases,
    pull_cases,
    slices_of,
)
from dwdp_lab.measure.transfers.transfers import ON_CPU, About, Case, Plan, Report, Sample
from dwdp_lab.measure.transfers.transfers_measured import Machine, Measured
from dwdp_lab.program.pull_plan import Slice
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.simulate.contention import level_probabilities
from dwdp_lab.view.charts.measured_contention import level_shares_chart, pull_rates, reader_fairness, reader_rates

KIB, MIB = 1 << 10, 1 << 20
TINY = ("--share", "96KiB", "--slices", "none,32KiB", "--evict", "0", "--repeats", "2")


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("contention") / "contention.json"
    assert main(["bench", "contention", "--ranks", "3", *TINY, "--json", str(file)]) == 0
    found: dict[str, Any] = json.loads(file.read_text())
    return found


@pytest.mark.ranks
def test_readers_of_one_source(record: dict[str, Any]) -> None:
    assert [(row["slice_bytes"], row["readers"]) for row in record["readers"]] == [
        (None, 1),
        (None, 2),
        (32 * KIB, 1),
        (32 * KIB, 2),
    ]
    for row in record["readers"]:
        assert row["gbps"] == pytest.approx(row["readers"] * 96 * KIB / row["median_us"] / 1e3)
        assert len(row["gbps_each"]) == row["readers"]
        assert 1 / row["readers"] <= row["fairness"] <= 1
    assert record["alone_gbps"] == {
        "whole": pytest.approx(record["readers"][0]["gbps"]),
        str(32 * KIB): pytest.approx(record["readers"][2]["gbps"]),
    }


@pytest.mark.ranks
def test_all_orders_slices_and_phases(record: dict[str, Any]) -> None:
    cases = [(row["order"], row["slice_bytes"], row["phases"]) for row in record["pulls"]]
    assert len(set(cases)) == len(cases) == 4 * 2 * 2 + 1
    assert cases[-1] == (RANDOM_SOURCES, 32 * KIB, "random")
    assert [(row["order"], row["slice_bytes"], row["phases"]) for row in record["levels"]] == cases
    for row in record["pulls"]:
        assert row["bytes"] == 2 * 96 * KIB
        assert row["gbps"] == pytest.approx(row["bytes"] / row["median_us"] / 1e3)
        assert 1 / 3 <= row["fairness"] <= 1
        assert set(row["simulated_gbps"]) == ({"slices"} if row["order"] == RANDOM_SOURCES else {"slices", "stages"})
        alone = record["alone_gbps"]["whole" if row["slice_bytes"] is None else str(row["slice_bytes"])]
        for rate in row["simulated_gbps"].values():
            assert 0 < rate <= alone * (1 + 1e-9)  # no reader is faster than alone
    for row in record["levels"]:
        assert 0 <= row["repeats_counted"] <= 2
        assert (row["measured"] is None) is (row["repeats_counted"] == 0)
        for shares in (row["measured"], row["simulated"]):
            assert shares is None or (len(shares) == 2 and sum(shares) == pytest.approx(1))
        if row["measured"] is not None:
            for share, (low, high) in zip(row["measured"], row["measured_range"], strict=True):
                assert low <= share <= high
    assert any("those rates are too high" in note for note in record["notes"])  # so little stays in caches
    assert record["closed_forms"]["binomial"] == [0.5, 0.5]
    assert record["closed_forms"]["sharing"] == pytest.approx([3 / 7, 4 / 7])


@pytest.mark.ranks
def test_pictures_show_the_record(record: dict[str, Any]) -> None:
    rates, even = reader_rates(record), reader_fairness(record)
    assert [bars.values for bars in rates.bars] == [
        tuple(row["gbps"] for row in record["readers"][first : first + 2]) for first in (0, 2)
    ]
    assert [len(bars.values) for bars in even.bars] == [2, 2]
    heat = pull_rates(record)
    assert heat.columns == ("ascending", "rotated", "interleaved", "permutation")
    assert heat.rows == ("whole", "32 KiB")
    together = next(row for row in record["pulls"] if row["order"] == "rotated" and row["slice_bytes"] is None)
    assert heat.values[0][1] == pytest.approx(together["gbps"] / record["alone_gbps"]["whole"])
    known = next(row for row in record["levels"] if row["measured"] is not None)
    levels = level_shares_chart(record, known["order"], known["slice_bytes"], known["phases"])
    assert [sum(bars.values) for bars in levels.bars] == pytest.approx([100] * 4)
    assert levels.bars[2].values == (50, 50)
    with pytest.raises(KeyError, match="no levels of sideways"):
        level_shares_chart(record, "sideways", None)
    for chart in (rates, even, heat, levels):
        assert chart.notes[0] == "measured"
        assert chart.title in chart.svg()
        assert chart.words
        assert chart.figure().data


@pytest.mark.ranks
def test_it_is_shown_and_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--ranks", "2", *TINY, "--orders", "rotated", "--repeats", "1", "--pictures", str(tmp_path))
    assert main(["bench", "contention", *arguments]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("readers of one source", "GB/s per rank", "closed form, binomial", "100.0"):
        assert words in shown
    names = {file.name for file in tmp_path.iterdir()}
    assert {"reader-rates.svg", "reader-fairness.svg", "pull-rates-together.svg", "pull-rates-random.svg"} <= names


@pytest.mark.ranks
def test_wrong_bytes_end_the_command_with_an_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slice that reaches beyond what the source shares: the rank that finds out says which case it was."""
    whole = contention.contention_cases

    def beyond(*arguments: Any) -> dict[Any, Case]:
        cases = whole(*arguments)
        key = ("readers", 1, None)
        twice = (Slice(0, 0, 0, 4096), Slice(0, 8192, 0, 4096))  # the second overwrites the first
        return cases | {key: cases[key]._replace(slices=((), twice))}

    monkeypatch.setattr(contention, "contention_cases", beyond)
    arguments = ("--ranks", "2", *TINY, "--orders", "rotated", "--repeats", "1", "--json", "-")
    assert main(["bench", "contention", *arguments]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert "WrongBytes" in said.err
    assert "1 readers, None" in said.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--orders", "rotatet"], ["--orders = 'rotatet'", "Did you mean 'rotated'"]),
        (["--slices", "none,2GiB"], ["--slices = '2GiB'", "must be from 3072 to 50331648"]),
        (["--slices", "none,,"], ["--slices", "256KiB"]),
        (["--share", "1KiB"], ["--share", "must be from 6144"]),
        (["--ranks", "1"], ["--ranks = 1"]),
        (["--share", "4GiB", "--ranks", "8"], ["--ranks = 8", "GB are free"]),
        (["--share", "4GiB", "--slices", "64KiB"], ["--slices = '64KiB'", "must be from 262144"]),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(
    options: list[str], words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_ranks(*_: object) -> None:
        raise AssertionError("ranks were started")

    monkeypatch.setattr("dwdp_lab.execute.rank_group.launch", no_ranks)
    assert main(["bench", "contention", *options]) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ("share", "slices"), [("1MiB", "none,262144,1048576"), ("8GiB", "none,1048576,2097152,4194304,16777216")]
)
def test_unasked_a_share_is_cut_into_those_slices_that_fit(
    share: str, slices: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def bench(*arguments: Any) -> dict[str, Any]:
        _, _, options, command, _ = arguments
        assert (options.slices[0], options.share) == (None, size_option("--share", share, 1))
        asked.append(command)
        raise ScenarioError("--share", share, "is as far as this goes")

    monkeypatch.setattr(contention, "bench_contention", bench)
    assert main(["bench", "contention", "--share", share]) == 2
    assert f"--slices {slices} " in asked[0]


@pytest.mark.parametrize("step", [None, 100_000, MIB])
@pytest.mark.parametrize("order", ["ascending", "rotated", "interleaved", "permutation", RANDOM_SOURCES])
def test_every_rank_pulls_all_that_it_lacks(order: str, step: int | None) -> None:
    options = ContentionOptions(share=3 * MIB)
    for rank, slices in enumerate(slices_of(PullCase(order, step, "random"), 4, options)):
        target = sorted((piece.slot_offset, piece.nbytes) for piece in slices)
        at = 0
        for offset, nbytes in target:  # no gap, no overlap
            assert offset == at
            at += nbytes
        assert all(piece.peer != rank and piece.source_offset + piece.nbytes <= 3 * MIB for piece in slices)
        if order != RANDOM_SOURCES:
            assert at == 3 * 3 * MIB
            assert {piece.peer for piece in slices} == {0, 1, 2, 3} - {rank}


def test_on_gpus_times_of_slices_are_noted_only_where_a_queue_takes_them_all() -> None:
    about = About("H100", "0", "580", {"torch": "2.13"}, ("plain", "batched", "kernel"))
    options = ContentionOptions()
    cases = contention_cases(Machine("cuda", (about,) * 4, 0.0), options)
    marked = {key[1:]: case for key, case in cases.items() if key[0] == "marked"}
    assert all(case.marks and case.way == "plain" and case.ahead for case in marked.values())
    assert max(len(case.slices[0]) * case.rounds for case in marked.values()) <= 256
    assert ("ascending", None, "random") in marked
    assert ("interleaved", MIB, "together") in marked
    assert ("interleaved", MIB // 4, "together") not in marked
    assert not any(case.marks for key, case in cases.items() if key[0] != "marked")
    assert cases["pull", "rotated", None, "together"].way == "plain"
    assert cases["pull", "rotated", MIB, "together"].way == "batched"


def made_up(marks: Sequence[Sequence[float]], pull: PullCase, options: ContentionOptions) -> Measured:
    """A measurement of one turn in which slices ended at these times."""
    count = len(marks)
    machine = Machine("cpu", (ON_CPU,) * count, 0.0)
    cases = contention_cases(machine, options)
    number = {key: place for place, key in enumerate(cases)}
    reports = tuple(
        Report((Sample(number[pull.key], 0, 0.0, ends[-1], 0.0, 0.0, marks=tuple(ends)),), (), 0.0, 0) for ends in marks
    )
    return Measured(machine, Plan("cpu", tuple(cases.values()), 1), reports, number)


def test_levels_come_from_who_read_whom_when() -> None:
    """Three ranks, ascending: 1 and 2 both start at 0. Each share is two slices (two parameters)."""
    pull = PullCase("ascending", None, "together")
    options = ContentionOptions(share=60 * KIB, slices=(None,), orders=("ascending",))
    # rank 0 reads 1 for 2 us, then 2 for 2 us; rank 1 reads 0 for 4 us, then 2 for 2; rank 2 reads 0 for 4, then 1
    measured = made_up([[1, 2, 3, 4], [3, 4, 5, 6], [3, 4, 5, 6]], pull, options)
    readings = readings_of(measured.turns(pull.key)[0], slices_of(pull, 3, options))
    assert [(r.source, r.start_us, r.end_us) for r in readings if r.rank == 1] == [
        (0, 0, 3),
        (0, 3, 4),
        (2, 4, 5),
        (2, 5, 6),
    ]
    row = contention._levels(measured, pull, options, alone=1.0)
    # 8 us of 16 in pairs at source 0; from 4 to 6 nobody meets anybody
    assert row["measured"] == pytest.approx([0.5, 0.5])
    assert row["measured_range"] == [(0.5, 0.5), (0.5, 0.5)]
    # on the simulator 0 finishes both its peers in half the time of the others' first
    assert row["simulated"] == pytest.approx([0.5, 0.5])
    assert row["repeats_counted"] == 1


def test_two_ranks_never_meet() -> None:
    assert level_probabilities(2) == {1: 1.0}
    assert not any(case.order == RANDOM_SOURCES for case in pull_cases(2, ContentionOptions()))
    assert ROUNDS["together"] == 1


def test_a_record_by_hand() -> None:
    """Three GPUs whose rounds take 1, 2 and 3 ms each; of 384 slices from each of two peers no times are noted."""
    about = About("H200", "0", "580", {"torch": "2.13"}, ("plain",))
    machine = Machine("cuda", tuple(about._replace(place=str(rank)) for rank in range(3)), 0.0)
    options = ContentionOptions(6 << 20, (None, 16 * KIB), ("ascending",), repeats=1)
    cases = contention_cases(machine, options)

    def sample(number: int, case: Case, rank: int) -> Sample:
        end_us = 1e3 * (rank + 1) * case.rounds
        count = len(case.slices[rank]) * case.rounds
        marks = tuple(end_us * (place + 1) / count for place in range(count)) if case.marks else ()
        return Sample(number, 0, 0.0, end_us, 1.0, -1.0, marks=marks)

    reports = [
        Report(tuple(sample(n, case, rank) for n, case in enumerate(cases.values()) if case.slices[rank]), (), 0.5, 1)
        for rank in range(3)
    ]
    plan, number = Plan("cuda", tuple(cases.values()), 1), {key: number for number, key in enumerate(cases)}
    record = contention_record(Measured(machine, plan, tuple(reports), number), options, "dwdp-lab bench contention")
    assert [(row["order"], row["slice_bytes"], row["phases"]) for row in record["levels"]] == [
        ("ascending", None, "together"),
        ("ascending", None, "random"),
    ]
    assert any(note.startswith("levels of 3 cases not measured") for note in record["notes"])
    assert not any("caches" in note for note in record["notes"])
    assert len(record["pulls"]) == 5
    for row in record["pulls"]:
        assert row["bytes"] == 12 << 20
        assert row["median_us"] == pytest.approx(2e3)
        assert row["gbps"] == pytest.approx((12 << 20) / 2e6)
        # rates are as 6 to 3 to 2: 11 squared over 3 x 49
        assert row["fairness"] == pytest.approx(121 / 147)
    assert record["alone_gbps"]["whole"] == pytest.approx((6 << 20) / 2e6)  # rank 1 is the one that reads alone
