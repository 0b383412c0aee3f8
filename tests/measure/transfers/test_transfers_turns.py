"""The order of turns, the phases, and what is made of the samples."""

from __future__ import annotations

import contextlib
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.execute.cpu.memory_need import PROCESS_BYTES
from dwdp_lab.measure.transfers.copies_cases import CopyOptions
from dwdp_lab.measure.transfers.transfers import ABOUT as ABOUT_JOB
from dwdp_lab.measure.transfers.transfers import About, Case, Plan, Report, Sample, Turn, delay_us, turns
from dwdp_lab.measure.transfers.transfers_head import head
from dwdp_lab.measure.transfers.transfers_measured import EVICT, Machine, Measured, gbps, measure, spread
from dwdp_lab.program.pull_plan import Slice
from dwdp_lab.scenario.errors import ScenarioError


def case(name: str, **more: bool) -> Case:
    return Case(name, ((Slice(1, 100, 50, 200),), (Slice(0, 0, 0, 500), Slice(0, 500, 500, 100))), **more)


@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 3))
def test_every_case_is_tried_first_and_then_repeated_in_a_random_order(count: int, repeats: int, seed: int) -> None:
    plan = Plan("cpu", tuple(case(str(number)) for number in range(count)), repeats, seed)
    todo = turns(plan)
    assert todo[:count] == [Turn(number, -1) for number in range(count)]
    assert Counter(todo[count:]) == Counter(Turn(c, r) for c in range(count) for r in range(repeats))
    assert todo == turns(plan)  # all ranks compute it for themselves


def test_the_order_of_turns_depends_on_the_seed() -> None:
    plans = [Plan("cpu", tuple(case(str(number)) for number in range(9)), 5, seed) for seed in range(2)]
    assert turns(plans[0]) != turns(plans[1])
    assert turns(plans[0]) != sorted(turns(plans[0]))


def test_phases_are_drawn_for_each_rank_and_repeat_within_one_round() -> None:
    plan = Plan("cpu", (case("apart", random_phases=True), case("together")), 200)
    drawn = [delay_us(plan, Turn(0, repeat), rank, 80.0) for repeat in range(200) for rank in range(2)]
    assert len(set(drawn)) == len(drawn)
    assert min(drawn) < 4
    assert max(drawn) > 76
    assert all(0 <= delay <= 80 for delay in drawn)
    assert sum(drawn) / len(drawn) == pytest.approx(40, abs=4)
    assert delay_us(plan, Turn(0, -1), 0, 80.0) == 0
    assert delay_us(plan, Turn(1, 0), 0, 80.0) == 0


def test_a_case_knows_how_much_memory_it_needs() -> None:
    one = case("x")
    assert (one.shared_bytes, one.received_bytes(0), one.received_bytes(1)) == (600, 250, 600)
    assert (one.target_bytes, one.round_bytes(0), one.round_bytes(1)) == (600, 200, 600)
    plan = Plan("cpu", (one, Case("idle", ((), ()))), 1)
    assert (plan.shared_bytes, plan.target_bytes) == (600, 600)
    idle = Plan("cpu", (Case("idle", ((), ())),), 1)
    assert (idle.shared_bytes, idle.target_bytes) == (0, 0)


ABOUT = About("CPU", "CPU", None, {"torch": "2.13"}, ("plain",))


def measured(machine: Machine, **more: int) -> Measured:
    """Two repeats of one case, and one of a case in which ranks begin when they like, and issue as they copy."""
    samples = [
        [Sample(0, 1, 0.0, 10.0, 10.0, 10.0), Sample(0, 0, 1.0, 5.0, 4.0, 5.0, **more)],
        [Sample(0, 0, 2.0, 9.0, 7.0, 9.0), Sample(0, 1, 0.0, 30.0, 30.0, -5.0), Sample(1, 0, 70.0, 80.0, 10.0, 80.0)],
    ]
    reports = tuple(
        Report(tuple(own), ("copied somehow",), error_us, 8192)
        for own, error_us in zip(samples, (0.25, 0.5), strict=True)
    )
    cases = case("x"), case("apart", random_phases=True, ahead=False)
    return Measured(machine, Plan(machine.name, cases, 2), reports, {("x",): 0, ("apart",): 1})


def test_samples_of_one_turn_belong_together() -> None:
    found = measured(Machine("cpu", (ABOUT, ABOUT), 0.0))
    assert [sorted(turn) for turn in found.turns(("x",))] == [[0, 1], [0, 1]]
    assert found.together_us(("x",)) == [8.0, 30.0]  # from the first to begin to the last to end
    assert found.nbytes(("x",)) == 800
    assert gbps(8000, 8.0) == 1.0


def test_a_record_says_what_it_is_worth() -> None:
    machine = Machine("cpu", (ABOUT, ABOUT), 99.0)
    record = head("Copies", measured(machine), "dwdp-lab bench copies")
    assert record["provenance"] == "measured"
    assert record["checked_bytes"] == 16384
    assert record["clock_error_us"] == 0.5
    assert record["start_late_us"]["median_us"] == 0.5
    notes = " ".join(record["notes"])
    assert "says nothing about links between GPUs" in notes
    assert "crowded: 2 ranks beside a load average of 99.0" in notes
    assert record["notes"].count("copied somehow") == 1
    assert "page faults" not in notes
    assert "50 page faults" in " ".join(head("Copies", measured(machine, page_faults=50), "x")["notes"])


def test_ranks_that_share_a_gpu_say_so() -> None:
    gpus = [About("H100", str(index), "580", {"torch": "2.13"}, ("plain", "batched")) for index in (0, 1, 0)]
    machine = Machine("cuda", (gpus[0]._replace(ways=("plain", "batched", "kernel")), *gpus[1:]), 0.0)
    assert machine.ways == ("plain", "batched")
    record = head("Copies", measured(machine), "x")
    assert "crowded: 3 ranks share 2 GPUs" in record["notes"]
    assert record["device"] == "2 x H100"
    # one of the four samples was issued before it began
    assert any("in 75% of the turns the host was still issuing" in note for note in record["notes"])
    assert not any("links between GPUs" in note for note in record["notes"])
    assert "the ranks' clocks agree within 1 us" in record["notes"]


class Group:
    """Two ranks that copy nothing, and keep what they were asked for."""

    size = 2

    def __init__(self) -> None:
        self.asked: list[object] = []

    def perform(self, job: str, asked: object, _: object = None) -> list[object]:
        self.asked.append(asked)
        return [ABOUT] * 2 if job == ABOUT_JOB else [Report((), (), 0.0, 0)] * 2


@pytest.mark.parametrize(("evict", "written"), [(None, EVICT["cpu"]), (0, 0), (5, 5)])
def test_as_much_is_written_before_a_turn_as_is_asked_for(evict: int | None, written: int) -> None:
    group, options = Group(), CopyOptions(largest=1 << 20, share=1 << 20, evict_bytes=evict)
    measure(group, "cpu", options, lambda _: {("x",): case("x")})  # type: ignore[arg-type]
    plan = group.asked[-1]
    assert isinstance(plan, Plan)
    assert plan.evict_bytes == written


@pytest.mark.parametrize(("factor", "fits"), [(1.001, True), (0.999, False)])
def test_ranks_leave_a_tenth_of_the_free_memory(factor: float, fits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of two shares 1 MiB, receives as much, and writes 6 MiB."""
    needed = 2 * ((8 << 20) + PROCESS_BYTES)
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=factor * needed / 0.9))
    group, options = Group(), CopyOptions(largest=1 << 20, share=1 << 20, evict_bytes=6 << 20)
    with contextlib.nullcontext() if fits else pytest.raises(ScenarioError, match=r"need about 0\.6 GB in all"):
        measure(group, "cpu", options, lambda _: {("x",): case("x")})  # type: ignore[arg-type]
    assert bool(group.asked) == fits


@given(st.lists(st.floats(0.1, 1e6), min_size=1, max_size=30))
def test_the_spread_holds_the_median(times: list[float]) -> None:
    found = spread(times)
    assert min(times) <= found.low_us <= found.median_us <= found.high_us <= max(times)
