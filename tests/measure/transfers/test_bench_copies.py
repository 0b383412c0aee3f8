"""`dwdp-lab bench copies` from the command line to JSON, tables and pictures, on CPU rank processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dwdp_lab.cli import transfer_options
from dwdp_lab.cli.main import main
from dwdp_lab.measure.transfers.copies_cases import CopyOptions, copy_cases, sizes, slice_sizes
from dwdp_lab.measure.transfers.transfers import About
from dwdp_lab.measure.transfers.transfers_measured import Machine
from dwdp_lab.program.pull_plan import Slice
from dwdp_lab.view.charts.measured_copies import copy_rates, slice_rates

KIB = 1024
TINY = ("--largest", "300KiB", "--share", "128KiB", "--evict", "0", "--repeats", "2")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    file = tmp_path_factory.mktemp("copies") / "copies.json"
    assert main(["bench", "copies", "--ranks", "3", *TINY, "--json", str(file)]) == 0
    found: dict[str, Any] = json.loads(file.read_text())
    return found


HEAD = {
    "title": str,
    "provenance": str,
    "machine": str,
    "ranks": int,
    "device": str,
    "driver": (str, type(None)),
    "versions": dict,
    "date": str,
    "command": str,
    "repeats": int,
    "seed": int,
    "notes": list,
    "checked_bytes": int,
    "page_faults": int,
    "clock_error_us": float,
    "start_late_us": dict,
    "environment": dict,
}
SPREAD = ("low_us", "median_us", "high_us")


@pytest.mark.ranks
def test_the_record_says_where_it_comes_from(record: dict[str, Any]) -> None:
    for name, kind in HEAD.items():
        assert isinstance(record[name], kind), name
    assert (record["provenance"], record["machine"], record["ranks"], record["driver"]) == ("measured", "cpu", 3, None)
    assert set(record["versions"]) == {"python", "torch"}
    assert record["command"].startswith("dwdp-lab bench copies --machine cpu --ranks 3 --largest 307200 --share 131072")
    assert any("says nothing about links" in note for note in record["notes"])
    assert record["checked_bytes"] > 0


@pytest.mark.ranks
def test_every_column_has_a_value_for_every_size(record: dict[str, Any]) -> None:
    one, local = record["one_copy"], record["within_a_rank"]["plain"]
    assert one["bytes"] == local["bytes"] == [64 * KIB, 256 * KIB, 300 * KIB]
    (sliced,) = record["sliced"]
    assert sliced["what"] == "a share of a peer's memory in slices, one call per copy"
    assert sliced["slice_bytes"] == [64 * KIB, 128 * KIB]
    assert (sliced["way"], sliced["total_bytes"], sliced["issue_us"]) == ("plain", 128 * KIB, None)
    for table, moved in ((one, one["bytes"]), (local, one["bytes"]), (sliced, [128 * KIB] * 2)):
        for row, nbytes in enumerate(moved):
            low, median, high = (table[name][row] for name in SPREAD)
            assert 0 < low <= median <= high
            assert table["gbps"][row] == pytest.approx(nbytes / median / 1e3)


@pytest.mark.ranks
def test_directions_readers_and_orders(record: dict[str, Any]) -> None:
    both = record["both_directions"]
    assert both["bytes"] == 256 * KIB
    assert both["gbps"] == pytest.approx(256 * KIB / both["median_us"] / 1e3)
    assert both["over_one_way"] == pytest.approx(2 * record["readers"][0]["median_us"] / both["median_us"])
    assert [row["readers"] for row in record["readers"]] == [1, 2]
    for row in record["readers"]:
        assert row["gbps"] == pytest.approx(row["readers"] * 128 * KIB / row["median_us"] / 1e3)
        assert len(row["gbps_each"]) == row["readers"]
        assert 1 / row["readers"] <= row["fairness"] <= 1
    cases = [(row["order"], row["slice_bytes"]) for row in record["orders"]]
    assert len(cases) == len(set(cases)) == 8
    # each of three ranks pulls the other two's experts, of 21 x 6 KiB
    assert {row["bytes"] for row in record["orders"]} == {3 * 2 * 21 * 6 * KIB}


@pytest.mark.ranks
def test_pictures_show_the_record(record: dict[str, Any]) -> None:
    rates, slices = copy_rates(record), slice_rates(record)
    assert rates.curves[0].y == tuple(record["one_copy"]["gbps"])
    assert rates.curves[0].x[0] == 1 / 16
    assert slices.curves[0].y == tuple(record["sliced"][0]["gbps"])
    for chart in (rates, slices):
        assert chart.notes[0] == "measured"
        assert chart.words
        assert chart.title in chart.svg()
        assert len(chart.figure().data) == len(chart.curves)


@pytest.mark.ranks
def test_two_ranks_show_tables_and_draw(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "copies", *TINY, "--repeats", "1", "--pictures", str(tmp_path)]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for words in (
        "one copy, GB/s",
        "128 KiB in slices, GB/s",
        "both directions at once",
        "all peer orders are the same",
    ):
        assert words in shown
    assert {file.name for file in tmp_path.iterdir()} == {"copy-rates.svg", "slice-rates.svg"}


@without_gpu
@pytest.mark.parametrize("what", ["copies", "contention"])
def test_gpu_ranks_need_a_gpu(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", what, "--machine", "cuda"]) == 2
    said = capsys.readouterr().err.strip()
    assert "--machine = 'cuda': needs an NVIDIA GPU" in said
    assert "--machine cpu" in said
    assert "\n" not in said


def test_gpu_ranks_need_cuda_python(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    found = transfer_options.importlib.util.find_spec
    monkeypatch.setattr(
        transfer_options.importlib.util, "find_spec", lambda name: None if name == "cuda.bindings" else found(name)
    )
    assert main(["bench", "copies", "--machine", "cuda"]) == 2
    assert "needs cuda-python" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--ranks", "1"], ["--ranks = 1", "2 to 64"]),
        (["--repeats", "0"], ["--repeats = 0", "1 to 10000"]),
        (["--largest", "many"], ["--largest = 'many'", "256KiB"]),
        (["--largest", "1KiB"], ["--largest", "must be from 65536"]),
        (["--share", "-4"], ["--share"]),
        (["--evict", "0.5KB5"], ["--evict"]),
        (["--pictures", "no/such/folder"], ["--pictures", "is no folder"]),
        (["--json", "no/such/folder/x.json"], ["--json", "folder does not exist"]),
        (["--largest", "64GiB", "--ranks", "64"], ["--ranks = 64", "GB are free", "Copy less"]),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_starts(
    options: list[str], words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_ranks(*_: object) -> None:
        raise AssertionError("ranks were started")

    monkeypatch.setattr("dwdp_lab.execute.rank_group.launch", no_ranks)
    assert main(["bench", "copies", *options]) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said


def test_sizes_grow_fourfold_to_the_largest() -> None:
    assert sizes(64 * KIB) == [64 * KIB]
    assert sizes(1 << 30) == [65536 * 4**n for n in range(8)]
    assert sizes(100_000) == [65536, 100_000]
    assert slice_sizes(1 << 30) == [64 * KIB << n for n in range(9)]
    assert slice_sizes(4 << 30)[0] == 256 * KIB  # no more than 16384 slices


def test_on_cpu_ranks_every_case_is_a_plain_copy() -> None:
    machine = Machine("cpu", (About("CPU", "CPU", None, {}, ("plain",)),) * 2, 0.0)
    cases = copy_cases(machine, CopyOptions())
    assert {case.way for case in cases.values()} == {"plain"}
    assert all(case.ahead for case in cases.values())
    assert len({case.name for case in cases.values()}) == len(cases)
    assert cases["both", "plain"].slices == ((Slice(1, 0, 0, 256 << 20),), (Slice(0, 0, 0, 256 << 20),))
