"""What `bench copies` copies and makes of it, by hand: no rank processes, and GPUs whose times are made up."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from dwdp_lab.execute.cpu.memory_need import PROCESS_BYTES
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.measure.transfers.contention_cases import ContentionOptions, contention_cases
from dwdp_lab.measure.transfers.copies import copies_record
from dwdp_lab.measure.transfers.copies_cases import CopyOptions, copy_cases, cut
from dwdp_lab.measure.transfers.pulled_layer import pulled_layer
from dwdp_lab.measure.transfers.transfers import ABOUT, JOB, ON_CPU, About, Plan, Report, Sample, Way
from dwdp_lab.measure.transfers.transfers_measured import EVICT, Machine, Measured, gbps, measure, spread
from dwdp_lab.program.pull_plan import Slice, pull_plan
from dwdp_lab.scenario.errors import ScenarioError

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def gpus(ranks: int, *ways: Way) -> Machine:
    return Machine("cuda", tuple(About("H200", str(rank), "580", {}, ways) for rank in range(ranks)), 0.0)


def made_up(machine: Machine, options: CopyOptions) -> Measured:
    """Three repeats, of which the n-th case takes n + 1 us, twice and three times as much; issuing as many ns.

    A rank begins as many us before zero as its number says, and ends as many later than that.
    """
    cases = copy_cases(machine, options)

    def samples(rank: int) -> tuple[Sample, ...]:
        return tuple(
            Sample(number, repeat, -rank, (number + 1) * (1 + repeat) + rank, (number + 1) * (1 + repeat) / 1e3, 0.0)
            for number, case in enumerate(cases.values())
            if case.slices[rank]
            for repeat in (2, 0, 1)
        )

    reports = tuple(Report(samples(rank), (), 0.0, 0) for rank in range(machine.ranks))
    return Measured(machine, Plan("cuda", tuple(cases.values()), 3), reports, {key: n for n, key in enumerate(cases)})


def test_who_copies_what_from_whom() -> None:
    cases = copy_cases(gpus(3, "plain", "batched", "kernel", "source"), CopyOptions(share=300 * KIB))
    whole = Slice(0, 0, 0, 300 * KIB)
    own = Slice(0, 0, 0, 256 * KIB)
    assert cases["one", 256 * KIB].slices == ((own._replace(peer=1),), (), ())
    assert cases["local", 256 * KIB, "plain"].slices == cases["local", 256 * KIB, "kernel"].slices == ((own,), (), ())
    assert (cases["local", 256 * KIB, "plain"].way, cases["local", 256 * KIB, "kernel"].way) == ("plain", "kernel")
    for way in ("plain", "source"):
        assert cases["both", way].slices == ((whole._replace(peer=1),), (whole,), ())
        assert cases["readers", 1, way].slices == ((), (whole,), ())
        assert cases["readers", 2, way].slices == ((), (whole,), (whole,))
        assert {key for key in cases if key[0] == "readers" and key[2] == way} == {("readers", n, way) for n in (1, 2)}
        assert {cases[key].way for key in cases if key[0] in ("both", "readers") and key[-1] == way} == {way}
    for step, way in ((None, "plain"), (2 * MIB, "batched")):
        case, pulled = cases["order", "rotated", step], pulled_layer(3, 300 * KIB)
        plans = [pull_plan(pulled.replace(**{"strategy.peer_order": "rotated"}), rank).slices for rank in range(3)]
        assert (case.slices, case.way) == (tuple(plans), way)


def test_a_share_in_slices() -> None:
    assert cut(1, 10, 4) == [Slice(1, 0, 0, 4), Slice(1, 4, 4, 4), Slice(1, 8, 8, 2)]
    cases = copy_cases(gpus(2, "plain", "batched", "kernel", "source"), CopyOptions())
    sliced = {key[1:]: case for key, case in cases.items() if key[0] == "sliced"}
    # 512 of 512 KiB are issued ahead of the start, and no more
    assert [key[1:] for key in sliced if key[0] == 256 * KIB] == [("plain", False), ("batched", False)]
    assert [key[1:] for key in sliced if key[0] == 512 * KIB] == [
        ("plain", False),
        ("plain", True),
        ("batched", False),
        ("batched", True),
    ]
    for (step, way, ahead), case in sliced.items():
        assert (case.way, case.ahead) == (way, ahead)
        assert isinstance(step, int)
        assert case.slices == (tuple(cut(1, 256 * MIB, step)), ())


@pytest.mark.parametrize("ranks", [2, 4])
@pytest.mark.parametrize("largest", [64 * KIB, 4 * MIB])
def test_memory_is_asked_for_as_much_as_is_shared_and_received(ranks: int, largest: int) -> None:
    machine = Machine("cpu", (ON_CPU,) * ranks, 0.0)
    copies, contention = CopyOptions(largest, share=600 * KIB), ContentionOptions(share=600 * KIB, slices=(None,))
    for options, cases in (
        (copies, copy_cases(machine, copies)),
        (contention, contention_cases(machine, contention)),
    ):
        plan = Plan("cpu", tuple(cases.values()), 1)
        assert options.rank_bytes(ranks) == plan.shared_bytes + plan.target_bytes


class _Free(NamedTuple):
    available: float


class Started(Exception):  # noqa: N818 - it reads as what it reports
    """The ranks would have been started."""


@pytest.mark.parametrize("evict", [None, 0])
def test_cpu_ranks_start_where_nine_tenths_of_what_is_free_are_enough(
    evict: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> None:
        raise Started

    monkeypatch.setattr("dwdp_lab.execute.rank_group.launch", start)
    options = CopyOptions(largest=2 * MIB, share=6 * MIB, evict_bytes=evict)
    each = 6 * MIB + 2 * 6 * MIB + (64 * MIB if evict is None else 0) + PROCESS_BYTES
    for room, expected in ((1.001, Started), (0.999, ScenarioError)):
        monkeypatch.setattr("psutil.virtual_memory", lambda room=room: _Free(room * 3 * each / 0.9))
        with pytest.raises(expected):
            measure(Ranks(3), "cpu", options, lambda machine: copy_cases(machine, options))


def test_a_record_of_gpus() -> None:
    machine, options = gpus(3, "plain", "batched", "kernel", "source"), CopyOptions(300 * KIB, 300 * KIB)
    measured = made_up(machine, options)
    record = copies_record(measured, options, "dwdp-lab bench copies")

    def median_us(*key: str | int | bool | None, last: int = 0) -> float:
        """The last rank that copies is the first to begin and the last to end; of three repeats the one in between."""
        return 2 * (measured.number[key] + 1) + 2 * last

    sizes = [64 * KIB, 256 * KIB, 300 * KIB]
    assert record["one_copy"]["median_us"] == [median_us("one", size) for size in sizes]
    assert set(record["within_a_rank"]) == {"plain", "kernel"}
    for way, table in record["within_a_rank"].items():
        assert table["median_us"] == [median_us("local", size, way) for size in sizes]
        assert table["gbps"] == pytest.approx([n / us / 1e3 for n, us in zip(sizes, table["median_us"], strict=True)])
    assert [(table["way"], table["ahead"]) for table in record["sliced"]] == [
        (way, ahead) for way in ("plain", "batched") for ahead in (False, True)
    ]
    for table in record["sliced"]:
        took = [median_us("sliced", step, table["way"], table["ahead"]) for step in (64 * KIB, 128 * KIB, 256 * KIB)]
        assert table["median_us"] == took
        assert table["issue_us"] == (None if table["ahead"] else pytest.approx([us / 1e3 for us in took]))
        said = "issued before the start" if table["ahead"] else "the host issues while copies run"
        assert table["what"].endswith(f", {said}")
    for way, part in (("plain", record), ("source", record["by_source_engines"])):
        both, alone = median_us("both", way, last=1), median_us("readers", 1, way, last=1)
        assert part["both_directions"]["over_one_way"] == pytest.approx(2 * alone / both)
        two = part["readers"][1]
        assert (two["readers"], two["bytes_each"]) == (2, 300 * KIB)
        assert two["median_us"] == median_us("readers", 2, way, last=2)
        each = [median_us("readers", 2, way, last=rank) for rank in (1, 2)]
        assert two["gbps_each"] == pytest.approx([300 * KIB / us / 1e3 for us in each])
    for row in record["orders"]:
        assert row["median_us"] == median_us("order", row["order"], row["slice_bytes"], last=2)
        assert row["bytes"] == 3 * 2 * 300 * KIB
        assert row["gbps_per_rank"] == pytest.approx(2 * 300 * KIB / row["median_us"] / 1e3)
    assert not any("peer orders" in note for note in record["notes"])


def test_a_share_too_large_for_few_slices_has_none_issued_ahead() -> None:
    machine = gpus(2, "plain")
    options = CopyOptions(64 * KIB, 16 * GIB)
    (table,) = copies_record(made_up(machine, options), options, "dwdp-lab bench copies")["sliced"]
    assert (table["ahead"], table["slice_bytes"]) == (False, [MIB, 2 * MIB, 4 * MIB, 8 * MIB, 16 * MIB])
    options = options._replace(share=257 * GIB)
    assert copies_record(made_up(machine, options), options, "dwdp-lab bench copies")["sliced"] == []


def test_what_a_spread_says() -> None:
    assert spread([5.0]) == (5.0, 5.0, 5.0)
    assert spread([10.0, 0.0]) == pytest.approx((5.0, 1.0, 9.0))
    assert spread([float(n) for n in range(21)]) == pytest.approx((10.0, 2.0, 18.0))
    assert spread([0.0, 1.0, 2.0, 3.0]) == pytest.approx((1.5, 0.3, 2.7))
    assert gbps(5e9, 1e6) == 5


def test_ranks_copy_in_the_ways_that_all_of_them_have() -> None:
    one, other = gpus(1, "plain", "batched", "source").abouts[0], gpus(1, "source", "plain").abouts[0]
    assert Machine("cuda", (one, other), 0.0).ways == ("plain", "source")
    assert Machine("cuda", (one, one, other), 0.0).ways == ("plain", "source")


def test_what_ranks_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    class Answering:
        size = 2

        def perform(self, job: str, told: object, progress: object = None) -> list[Any]:
            asked.append((job, told, progress))
            return [ON_CPU] * 2 if job == ABOUT else [Report((), (f"rank {rank}",), 0.0, 0) for rank in range(2)]

    asked: list[tuple[str, Any, object]] = []
    ranks: Any = Answering()
    monkeypatch.setattr("os.getloadavg", lambda: (1.0, 5.0, 15.0))
    options, heard = CopyOptions(64 * KIB, 64 * KIB, repeats=4, seed=9), lambda *_: None
    measured = measure(ranks, "cpu", options, lambda machine: copy_cases(machine, options), heard)
    (about, name, _), (job, plan, told) = asked
    assert (about, name, job, told) == (ABOUT, "cpu", JOB, heard)
    assert (plan.machine, plan.repeats, plan.seed, plan.evict_bytes) == ("cpu", 4, 9, EVICT["cpu"])
    assert (measured.machine, measured.plan) == (Machine("cpu", (ON_CPU,) * 2, load=1.0), plan)
    assert [report.notes for report in measured.reports] == [("rank 0",), ("rank 1",)]
    cases = copy_cases(measured.machine, options)
    assert {key: plan.cases[number] for key, number in measured.number.items()} == cases
    measure(ranks, "cpu", options._replace(evict_bytes=0), lambda machine: copy_cases(machine, options))
    assert asked[-1][1].evict_bytes == 0
