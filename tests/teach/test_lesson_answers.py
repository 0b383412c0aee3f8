"""The lessons' own answers beside the lab's code, and the machines that exercises are tried on."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.execute.cpu.composite import Region
from dwdp_lab.execute.cpu.shared_memory import PAGE
from dwdp_lab.program.placement import Placement, placement
from dwdp_lab.program.pull_plan import parameter_bytes, pull_plan
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.teach import moving_weights_answers, real_cost_answers, split_weights_answers
from dwdp_lab.teach.exposed_copy import right as exposed_by_metrics
from dwdp_lab.teach.recorded import COPIES, copy_times_us, provenance_of, recorded
from dwdp_lab.teach.stamped import slot, wrong_byte
from dwdp_lab.teach.virtual_gpu import COMPILE_US, NEW_US, Habits, VirtualGPU


@st.composite
def placements(draw: st.DrawFn) -> Placement:
    ranks = draw(st.integers(2, 5))
    experts = draw(st.integers(ranks, 12))
    return Placement(experts, ranks, draw(st.integers(-(-experts // ranks), experts - 1)))


@given(placements())
def test_windows_and_shares_are_the_labs(where: Placement) -> None:
    windows = moving_weights_answers.windows(where.experts, where.ranks, where.local_experts)
    assert windows == [where.local(rank) for rank in range(where.ranks)]
    for rank in range(where.ranks):
        mine = moving_weights_answers.shares(windows, rank)
        assert {peer: given for peer, given in mine.items() if given} == {
            peer: list(experts) for peer, experts in where.pulled(rank)
        }


SIZES = st.lists(st.integers(1, 4), min_size=1, max_size=3).map(
    lambda sizes: [(f"p{number}", size) for number, size in enumerate(sizes)]
)


@given(placements(), SIZES, st.integers(1, 9), st.data())
def test_pull_slices_are_byte_exact_and_one_wrong_byte_is_found(
    where: Placement, sizes: list[tuple[str, int]], slice_bytes: int, data: st.DataObject
) -> None:
    rank = data.draw(st.integers(0, where.ranks - 1))
    copies = moving_weights_answers.pull_slices(where, rank, sizes, slice_bytes)
    assert wrong_byte(where, rank, sizes, copies) is None
    assert max(nbytes for *_, nbytes in copies) <= slice_bytes
    broken = data.draw(st.integers(0, len(copies) - 1))
    peer, source, target, nbytes = copies[broken]
    changed = data.draw(
        st.sampled_from(
            [
                [],
                [(peer, source + 1, target, nbytes)],
                [(peer, source - 1, target, nbytes)],
                [(peer, source, target, nbytes), (peer, source, target, nbytes)],
                [(rank, 0, target, nbytes)],
            ]
        )
    )
    assert wrong_byte(where, rank, sizes, [*copies[:broken], *changed, *copies[broken + 1 :]]) is not None


@pytest.mark.parametrize("order", ["ascending", "rotated", "interleaved", "permutation"])
def test_the_labs_own_plan_is_byte_exact_by_the_same_stamps(order: str) -> None:
    scenario = Scenario.create(
        model={"preset": "tiny", "hidden": 16, "expert_intermediate": 16},
        group={"ranks": 3, "local_experts": 4},
        strategy={"slice_bytes": 1024, "peer_order": order, "weight_view": "split"},
    )
    sizes = parameter_bytes(scenario.model)
    for rank in range(3):
        copies = [tuple(piece) for piece in pull_plan(scenario, rank).slices]
        assert wrong_byte(placement(scenario), rank, sizes, copies) is None


def test_a_slot_holds_what_the_rank_lacks() -> None:
    stamps = slot(Placement(3, 3, 1), 1, [("w", 2)])
    assert [str(stamp) for stamp in stamps[1:3]] == ["byte 1 of expert 0's w", "byte 0 of expert 2's w"]


@given(st.integers(0, 6 * PAGE), st.integers(0, 6 * PAGE))
def test_pieces_are_as_the_composite_view_maps_them(one: int, other: int) -> None:
    start, end = sorted((one, other))
    if start == end:
        return
    region = Region(start, end)
    found = split_weights_answers.pieces(start, end, 6 * PAGE, PAGE)
    assert [first for first, _, kind in found if kind == "copied"] == region.edges
    assert [first for first, _, kind in found if kind == "own"] == list(region.inner)


@given(st.lists(st.lists(st.integers(0, 6), min_size=2, max_size=2, unique=True), min_size=1, max_size=20))
def test_sorted_rows_are_the_kernels_routes(visits: list[list[int]]) -> None:
    from dwdp_kernels.grouped_mlp import sort_by_expert

    ids = torch.tensor(visits)
    tokens, offsets = split_weights_answers.sort_rows(ids, 7)
    order, ends = sort_by_expert(ids, 7)
    assert tokens.tolist() == (order // 2).tolist()
    assert offsets.tolist() == ends


TIMES = st.lists(st.integers(0, 30), min_size=2, max_size=8).map(sorted)


def _intervals(times: list[int]) -> list[tuple[float, float]]:
    return [(float(first), float(last)) for first, last in zip(times[::2], times[1::2], strict=False) if last > first]


@given(TIMES, TIMES)
def test_exposed_copy_is_what_the_metrics_say(compute: list[int], copies: list[int]) -> None:
    work, pulls = _intervals(compute), _intervals(copies)
    if work:
        assert real_cost_answers.exposed_us(work, pulls) == pytest.approx(exposed_by_metrics(work, pulls))


def took_us(gpu: VirtualGPU, kernel: str, zeros: bool = False) -> float:
    data = gpu.zeros() if zeros else gpu.random_data()
    gpu.wait()
    began = gpu.now_us()
    gpu.run(kernel, data)
    gpu.wait()
    return gpu.now_us() - began


def test_a_virtual_gpu_without_habits_is_exact() -> None:
    gpu = VirtualGPU(1.5)
    assert took_us(gpu, "old") / took_us(gpu, "new") == pytest.approx(1.5, rel=0.01)
    began = gpu.now_us()
    gpu.run("new", gpu.random_data())
    assert gpu.now_us() - began < NEW_US / 10  # issued, not run
    with pytest.raises(ScenarioError, match="kernel = 'older'"):
        gpu.run("older", gpu.random_data())
    with pytest.raises(ScenarioError, match="random_data"):
        gpu.run("old", 3)  # type: ignore[arg-type]


def test_each_habit_shows() -> None:
    compiling = VirtualGPU(1.0, Habits(compiling=1))
    assert took_us(compiling, "new") > COMPILE_US > took_us(compiling, "new")
    zeros = VirtualGPU(1.0, Habits(zeros_us=100.0))
    assert took_us(zeros, "new", zeros=True) == pytest.approx(took_us(zeros, "new") - 100.0)
    assert took_us(zeros, "old", zeros=True) == took_us(zeros, "old")
    cached = VirtualGPU(1.0, Habits(cached_us=100.0))
    data = cached.random_data()
    cached.run("old", data)
    cached.wait()
    began = cached.now_us()
    cached.run("new", data)
    cached.wait()
    assert cached.now_us() - began == pytest.approx(took_us(cached, "new") - 100.0)
    heating = VirtualGPU(1.0, Habits(heating=0.5))
    times = [took_us(heating, "new") for _ in range(60)]
    assert times == sorted(times)
    assert times[-1] / times[0] == pytest.approx(1.5, rel=0.01)
    disturbed = VirtualGPU(1.0, Habits(neighbour=0.15))
    slow = sum(took_us(disturbed, "new") > 5 * NEW_US for _ in range(200))
    assert 10 < slow < 60


def test_what_was_recorded_says_on_what_when_and_by_whom() -> None:
    fields = recorded(COPIES)
    assert fields["provenance"] == "recorded"
    for words in ("H100", "driver 580", "torch 2.11", "triton 3.6", "2026-11-23", "measured by"):
        assert words in " ".join(provenance_of(COPIES).split())
    sizes, times = copy_times_us()
    assert sizes == sorted(sizes)
    assert times == sorted(times)
    assert sizes[-1] / times[-1] / 1e3 == pytest.approx(394)
    with pytest.raises(ScenarioError, match=r"recorded = 'h100'"):
        recorded("h100")
