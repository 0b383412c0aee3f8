"""The lesson on contention: wrong answers and what catches them; the slow model of links against the simulator's."""

from __future__ import annotations

import random
import re
import xml.etree.ElementTree as ElementTree
from math import comb
from typing import Any

import pytest
from course import named
from hypothesis import given, settings
from hypothesis import strategies as st

from dwdp_lab.program.operation import Stage
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.contention import level_probabilities
from dwdp_lab.simulate.cost import CostModel
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.links import Finished
from dwdp_lab.simulate.one_source_links import OneSourceLinks
from dwdp_lab.simulate.physics import Physics
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.teach import contention_answers as answers
from dwdp_lab.teach.chance import as_the_paper
from dwdp_lab.teach.contention import pulling
from dwdp_lab.teach.failure import ExerciseFailed
from dwdp_lab.teach.load_chart import load_chart
from dwdp_lab.teach.reading import Copy, planned, read_all, slowdown_apart, slowdowns
from dwdp_lab.teach.reading_picture import levels, reading_picture
from dwdp_lab.teach.slice_size import issue_share
from dwdp_lab.teach.waves_exercise import meetings, worst_share_pct


def ascending(rank: int, ranks: int) -> list[int]:
    return [peer for peer in range(ranks) if peer != rank]


def with_itself(rank: int, ranks: int) -> list[int]:
    return [(rank + shift) % ranks for shift in range(ranks)]


def by_bits(rank: int, ranks: int) -> list[int]:
    return [rank ^ shift for shift in range(1, ranks)]  # right for powers of two


def unwrapped(rank: int, ranks: int) -> list[int]:
    return [rank + shift for shift in range(1, ranks)]


def counts_itself(ranks: int, level: int) -> float:
    p = 1 / (ranks - 1)
    return comb(ranks - 1, level - 1) * p ** (level - 1) * (1 - p) ** (ranks - level)


def peers_with_itself(ranks: int, level: int) -> float:
    p = 1 / ranks
    return comb(ranks - 2, level - 1) * p ** (level - 1) * (1 - p) ** (ranks - 1 - level)


def level_of_others(ranks: int, level: int) -> float:
    return answers.level_probability(ranks, level + 1) if level + 1 < ranks else 0.0


def without_combinations(ranks: int, level: int) -> float:
    p = 1 / (ranks - 1)
    return p ** (level - 1) * (1 - p) ** (ranks - 1 - level)


def fixed_rotation(rank: int, ranks: int, wave: int) -> int:
    return (rank + 1 + wave % (ranks - 1)) % ranks


def all_to_one(rank: int, ranks: int, wave: int) -> int:
    return ascending(rank, ranks)[wave % (ranks - 1)]


def own_seed(rank: int, ranks: int, wave: int) -> int:
    shifts = list(range(1, ranks))
    random.Random(f"{rank} {wave // (ranks - 1)}").shuffle(shifts)
    return (rank + shifts[wave % (ranks - 1)]) % ranks


def no_seed(rank: int, ranks: int, wave: int) -> int:
    return (rank + random.randint(1, ranks - 1) + 0 * wave) % ranks


def one_draw_per_wave(rank: int, ranks: int, wave: int) -> int:
    return (rank + random.Random(f"wave {wave}").randint(1, ranks - 1)) % ranks


def visits_itself(rank: int, ranks: int, wave: int) -> int:
    return (rank + wave) % ranks


def decimal(link_gbps: float, copy_us: float, most: float) -> int:
    return max(64_000, int(copy_us * link_gbps * 1e3 / most))


def always_1_mib(link_gbps: float, copy_us: float, most: float) -> int:
    return 1 << 20 if link_gbps + copy_us + most else 0


def share_of_all(link_gbps: float, copy_us: float, most: float) -> int:
    nbytes = 64 * 1024
    while copy_us / (copy_us + nbytes / (link_gbps * 1e3)) > most:
        nbytes *= 2
    return nbytes


def wrong_unit(link_gbps: float, copy_us: float, most: float) -> int:
    return answers.smallest_slice(link_gbps / 1e3, copy_us, most)


WRONG: list[tuple[str, Any, str, str]] = [
    ("contention.peer_order", ascending, "no two ranks read from one source at once", "3 ranks: as number 1 of 2"),
    ("contention.peer_order", with_itself, "every peer once", "peer_order(0, 2) gives [0, 1]"),
    ("contention.peer_order", by_bits, "every peer once", "3"),
    ("contention.peer_order", unwrapped, "every peer once", "peer_order(1, 2) gives [2]"),
    ("contention.level_probability", counts_itself, "two ranks never meet", "gives 0, but it is 1"),
    ("contention.level_probability", level_of_others, "two ranks never meet", "(2, 1)"),
    ("contention.level_probability", peers_with_itself, "of three ranks one other may be there", "(3, 1)"),
    ("contention.level_probability", without_combinations, "some level it always is", "4 ranks: levels 1 to 3"),
    ("contention.level_probability", lambda n, _: 1 / (n - 1), "the right distribution", "(4, 1)"),
    ("contention.wave_peer", all_to_one, "no two ranks read from one source in a wave", "3 ranks, wave 0"),
    ("contention.wave_peer", own_seed, "no two ranks read from one source in a wave", "both read from"),
    ("contention.wave_peer", no_seed, "the same question has the same answer", "asked again"),
    ("contention.wave_peer", one_draw_per_wave, "every peer once in a round", "in waves"),
    ("contention.wave_peer", visits_itself, "it names a peer, in every wave", "no peer of rank 0"),
    ("contention.smallest_slice", decimal, "a power of two, from 64 KiB up", "64,000"),
    ("contention.smallest_slice", always_1_mib, "issuing costs no more than that", "1,048,576 bytes"),
    ("contention.smallest_slice", share_of_all, "issuing costs no more than that", "of that"),
    ("contention.smallest_slice", wrong_unit, "issuing costs no more than that", "us on the link"),
    (
        "contention.smallest_slice",
        lambda *case: 4 * answers.smallest_slice(*case),
        "no larger than it needs to be",
        "but half of them",
    ),
    ("contention.smallest_slice", lambda *_: 1e6, "a power of two, from 64 KiB up", "no whole number"),
]


@pytest.mark.parametrize(("key", "answer", "violated", "words"), WRONG)
def test_a_wrong_answer_is_caught_by_its_property(key: str, answer: Any, violated: str, words: str) -> None:
    with pytest.raises(ExerciseFailed) as failed:
        named(key).check(answer)
    assert failed.value.violated == violated, failed.value.example
    assert re.search(re.escape(words), failed.value.example), failed.value.example
    assert named(key).show(answer).words


def test_a_fixed_rotation_is_correct_but_not_good() -> None:
    assert named("contention.wave_peer").check(fixed_rotation).reached == ()
    assert worst_share_pct(fixed_rotation) > 2 * worst_share_pct(answers.wave_peer)


def test_no_order_changes_how_often_a_late_rank_meets_somebody() -> None:
    for answer in (fixed_rotation, answers.wave_peer):
        for late in (1, 2):
            count = meetings(answer, 8, late)
            same = sum(answer(0, 8, wave) == answer(0, 8, wave - late) for wave in range(late, 280))
            assert sum(count.values()) + same == 280 - late  # nobody where it is its own turn at that source


def test_table_2_finds_a_single_digit() -> None:
    assert as_the_paper(answers.level_probability) is None
    shifted = as_the_paper(lambda n, c: level_probabilities(n)[c] + 1e-7 * (n == 16 and c == 9))
    assert shifted is not None
    assert shifted.startswith("DWDP16, C = 9: Table 2 prints 0.000077 %")


@given(st.integers(2, 6), st.data())
@settings(max_examples=40, deadline=None)
def test_one_copy_at_a_time_is_what_the_simulators_links_do(ranks: int, data: st.DataObject) -> None:
    draw = random.Random(data.draw(st.integers(0, 10**6)))
    copies = [
        [Copy(peer, draw.uniform(1e3, 1e6)) for peer in draw.sample(ascending(rank, ranks), ranks - 1)]
        for rank in range(ranks)
    ]
    starts = sorted(draw.uniform(0, 5) for _ in range(ranks))
    links, ends = OneSourceLinks(ranks, 450e3, 450e3), {}

    def finish(until_us: float) -> None:
        while isinstance(done := links.run(until_us), Finished):
            ends[done.rank] = done.end_us

    for rank, start in enumerate(starts):
        finish(start)
        links.start(rank, [Stage(((copy.source, copy.nbytes),)) for copy in copies[rank]], start)
    finish(1e9)
    readings = read_all(copies, 450.0, starts)
    for rank in range(ranks):
        assert max(one.end_us for one in readings if one.rank == rank) == pytest.approx(ends[rank], rel=1e-6)


@pytest.mark.parametrize("in_flight", [1, 2, 3])
def test_no_source_and_no_reader_goes_faster_than_its_link(in_flight: int) -> None:
    scenario = Scenario.create(group={"ranks": 3}, strategy={"peer_order": "interleaved", "slice_bytes": "16KiB"})
    copies = planned(scenario)
    readings = read_all(copies, 1.0, (0.0, 7.0, 11.0), in_flight)
    assert len(readings) == sum(map(len, copies))
    for rank, of_rank in enumerate(copies):
        moved = sum(copy.nbytes for copy in of_rank)
        mine = [one for one in readings if one.rank == rank]
        assert max(one.end_us for one in mine) - min(one.start_us for one in mine) >= moved / 1e3 * (1 - 1e-9)
        running = [sum(one.start_us <= at < one.end_us for one in mine) for at in [one.start_us for one in mine]]
        assert max(running) <= in_flight
    for source in range(3):
        assert levels(readings, source)[-1][1] == 0
    assert all(times >= 1 - 1e-9 for times in slowdowns(readings, copies, 1.0))


def test_in_phase_only_the_ascending_order_is_slow() -> None:
    gbps = load_hardware("h100").link_gbps.value
    worst = {}
    for order in ("ascending", "rotated", "interleaved", "permutation"):
        copies = planned(pulling(peer_order=order, slice_bytes="32MiB"))
        worst[order] = max(slowdowns(read_all(copies, gbps), copies, gbps))
    assert worst.pop("ascending") == pytest.approx(2.0)
    assert list(worst.values()) == pytest.approx([1.0, 1.0, 1.0])


def test_out_of_phase_a_second_slice_in_flight_helps() -> None:
    scenario = pulling(peer_order="interleaved", slice_bytes="64MiB")
    one, two = (slowdown_apart(scenario, in_flight, draws=2) for in_flight in (1, 2))
    assert 1.0 <= two < one
    assert slowdown_apart(pulling(peer_order="rotated").replace(group={"ranks": 2})) == pytest.approx(1.0)


def test_pictures_are_svg_and_name_what_they_show() -> None:
    readings = read_all([[Copy(1, 9e5), Copy(2, 9e5)], [Copy(0, 9e5)], [Copy(0, 9e5)]], 450.0)
    picture = reading_picture(readings, "a < b", "words")
    ElementTree.fromstring(picture.svg)
    assert "source 2" in picture.svg
    scenario = pulling().replace(**{"model.layers": 2, "workload.steps": 1})
    chart = load_chart({"rotated": run_sim(scenario)}, 450.0)
    ElementTree.fromstring(chart.svg())
    assert max(chart.curves[0].y) <= 450.0 * (1 + 1e-9)


def test_the_share_for_issuing_is_the_simulators() -> None:
    scenario = pulling(peer_order="interleaved", slice_bytes="1MiB")
    hardware = load_hardware("h100")
    assert hardware.reached is not None
    assert hardware.reached.copy_us is not None
    cost = CostModel.of(hardware, None, Physics(efficiency=True, latencies=True))
    pull = next(op.pull for op in _ops(scenario) if op.pull is not None)
    mean_bytes = pull.nbytes / pull.copies  # the last slice of a share is smaller
    share = issue_share(int(mean_bytes), cost.link_gbps, hardware.reached.copy_us.value)
    assert cost.pull_overhead(pull) - 1.0 == pytest.approx(share, rel=1e-5)


def _ops(scenario: Scenario) -> tuple[Any, ...]:
    from dwdp_lab.program.build import build

    return build(scenario)[0].ops
