"""Every weight view on stand-in driver memory holds exactly the model's experts once the copies are made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from host_device import HostIpc
from host_memory import HostMemory, no_files_left
from hypothesis import example, given, settings
from hypothesis import strategies as st
from memory_ranks import MODEL, Rank, check_copies, check_tables, exact, on_ranks, perform, run_all_layers, scenario

from dwdp_lab.execute.cuda.experts.composite import CompositeStaging
from dwdp_lab.program.placement import placement
from dwdp_lab.scenario.scenario import Scenario

ORDERS = ["ascending", "rotated", "interleaved", "permutation"]
VIEWS = ["split", "merged", "composite"]


@pytest.mark.parametrize("expert_dtype", ["bf16", "fp8_channel"])
@pytest.mark.parametrize("peer_order", ORDERS)
@pytest.mark.parametrize("view", VIEWS)
def test_all_views_and_orders_hold_the_model(view: str, peer_order: str, expert_dtype: str) -> None:
    for slice_bytes in (None, 1024, 5000):
        work = scenario(
            3,
            **{
                "strategy.weight_view": view,
                "strategy.peer_order": peer_order,
                "strategy.slice_bytes": slice_bytes,
                "model.expert_dtype": expert_dtype,
            },
        )
        on_ranks(3, lambda rank, work=work: run_all_layers(rank, work))


@st.composite
def scenarios(draw: st.DrawFn) -> Scenario:
    ranks, experts = draw(st.integers(1, 5)), draw(st.integers(1, 9))
    layers = draw(st.integers(1, 4))
    dense = draw(st.integers(0, layers - 1))
    more_dense = draw(st.lists(st.integers(dense + 1, 4), max_size=2))
    slots = draw(st.integers(1, 3))
    local = draw(st.integers(-(-experts // ranks), experts))
    model = MODEL | {
        "experts": experts,
        "top_k": 1,
        "layers": layers,
        "dense_layers": dense,
        "more_dense_layers": more_dense,
        "dense_intermediate": 16 if dense or more_dense else 0,
        "hidden": 16 * draw(st.integers(1, 6)),
        "expert_intermediate": 16 * draw(st.integers(1, 6)),
        "expert_dtype": draw(st.sampled_from(["bf16", "fp32", "fp8_channel"])),
    }
    return scenario(
        ranks,
        **{
            "model": model,
            "group.local_experts": local,
            "strategy.weight_view": draw(st.sampled_from(VIEWS)),
            "strategy.slots": slots,
            "strategy.prefetch_distance": draw(st.none() | st.integers(1, slots)),
            "strategy.overlap": draw(st.booleans()),
            "strategy.slice_bytes": draw(st.sampled_from([None, 1024, 1500, 4096, 10_000])),
            "strategy.peer_order": draw(st.sampled_from(ORDERS)),
            "workload.seed": draw(st.integers(0, 2)),
        },
    )


@settings(max_examples=60, deadline=None)
@given(work=scenarios(), page=st.sampled_from([4096, 8192, 1 << 16, 1 << 21]), shuffle=st.integers(0, 3))
def test_any_placement_size_and_page(work: Scenario, page: int, shuffle: int) -> None:
    with no_files_left():
        memories = [HostMemory(page) for _ in range(work.ranks)]
        on_ranks(work.ranks, lambda rank: run_all_layers(rank, work, shuffle), memories)


@settings(max_examples=15, deadline=None)
@given(work=scenarios())
@example(work=scenario(3))
def test_any_placement_by_ipc(work: Scenario) -> None:
    if work.strategy.weight_view == "composite":
        work = work.replace(**{"strategy.weight_view": "split"})
    ipcs = [HostIpc() for _ in range(work.ranks)]

    def prepare(rank: Rank) -> None:
        run = rank.prepare(work)
        ipc = ipcs[rank.session.rank]
        assert rank.kept.transport is not None
        assert rank.kept.transport.words in " ".join(run.notes)
        for (layer, slot), copies in run.copies_of.items():
            for _, source, nbytes in copies:
                assert all(block.adopted for block in ipc.memory.behind(source, nbytes))
            perform(copies)
            if work.strategy.weight_view == "merged":
                run.merge(layer, slot)
            check_tables(run.tables(layer, slot), work, layer, range(work.model.experts))
        run.close()
        rank.session.gather("all have read", None)

    memories = [HostMemory(offered=()) for _ in range(work.ranks)]
    on_ranks(work.ranks, prepare, memories, ipcs)
    for ipc in ipcs:
        assert not ipc.own
        assert not ipc.opened
        ipc.memory.assert_nothing_left()


def one_layer(view: str, **changes: Any) -> Scenario:
    """Experts of exactly a page (w13) and half a page (w2)."""
    model = MODEL | {"layers": 2, "hidden": 32, "expert_intermediate": 32, **changes}
    return scenario(2, **{"model": model, "strategy.weight_view": view})


def test_composite_shows_the_store_itself() -> None:
    """Local experts on whole pages are not copied: what changes in the store changes in the view."""
    work = one_layer("composite")

    def look(rank: Rank) -> None:
        run = rank.prepare(work)
        store = rank.kept.shard
        assert store is not None
        assert isinstance(run.staging, CompositeStaging)
        assert run.staging.edge_bytes == 0
        assert not any("pages" in note for note in run.notes)
        local = placement(work).local(rank.session.rank)
        for layer in range(work.model.layers):
            store.parameter(layer, "w13")[1].fill_(7.0)
            seen = run.tables(layer, layer % 2).w13.weights[local.start + 1]
            assert torch.all(seen == 7.0)

    on_ranks(2, look)


def test_composite_says_what_it_keeps_twice() -> None:
    work = one_layer("composite", expert_intermediate=48, experts=6)

    def look(rank: Rank) -> int:
        run = rank.prepare(work)
        assert isinstance(run.staging, CompositeStaging)
        assert any("pages that hold local and pulled experts" in note for note in run.notes)
        return run.staging.edge_bytes

    # three times 6 KiB and three times 3 KiB: both end on rank 0, and begin on rank 1, in the middle of a page
    places = 2
    assert on_ranks(2, look) == [places * 2 * 4096] * 2


def test_merge_is_for_the_merged_view_alone() -> None:
    for view in ("split", "composite"):
        work = one_layer(view)

        def merge(rank: Rank, work: Scenario = work) -> None:
            run = rank.prepare(work)
            with pytest.raises(ValueError, match="has its local experts in place"):
                run.merge(0, 0)

        on_ranks(2, merge)


def test_wanted_experts_alone_can_be_pulled() -> None:
    work = scenario(3, **{"strategy.weight_view": "split"})

    def pull(rank: Rank) -> None:
        run = rank.prepare(work)
        local = placement(work).local(rank.session.rank)
        remote = [expert for expert in range(work.model.experts) if expert not in local]
        wanted = {remote[0], remote[-1], local.start}
        copies = run.copies_for(1, 1, wanted)
        assert sum(copy.nbytes for copy in copies) == 2 * work.model.expert_bytes
        check_copies(rank.memory, copies)
        perform(copies)
        for number, table in enumerate(run.tables(1, 1)):
            for expert in wanted:
                drawn = exact(work.model, 1, expert)[number]
                assert isinstance(drawn, torch.Tensor)
                assert torch.equal(table.weights[expert], drawn)

    on_ranks(3, pull)
