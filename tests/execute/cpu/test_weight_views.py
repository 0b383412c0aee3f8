"""Every weight view holds exactly the model's experts once the pull plan was executed. No rank processes here."""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from dwdp_kernels.grouped_mlp import Weight
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_scenarios import MODEL, ODD_MODEL, ODD_SCALED_MODEL, SCALED_MODEL, scenario
from torch import Tensor

from dwdp_lab.execute.cpu.composite import CompositeStaging, Region
from dwdp_lab.execute.cpu.expert_store import ExpertStore
from dwdp_lab.execute.cpu.shared_memory import PAGE
from dwdp_lab.execute.cpu.staging import Staging, resident
from dwdp_lab.model.kept_experts import as_stored, kept_weights
from dwdp_lab.model.narrow import narrow_expert
from dwdp_lab.model.weights import drawn, expert_weights
from dwdp_lab.program.placement import placement
from dwdp_lab.program.pull_plan import pull_plan
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import narrowed, share_of


@lru_cache(maxsize=512)
def exact(shape: ModelShape, layer: int, expert: int) -> tuple[Weight, Weight]:
    return kept_weights(shape, expert_weights(shape, layer, expert, 0))


def same(found: Weight, expected: Weight) -> bool:
    """Of weights with scales, values and scales byte for byte."""
    return torch.equal(as_stored(found), as_stored(expected))


@contextmanager
def stores(work: Scenario) -> Iterator[list[ExpertStore]]:
    """Every rank's shard, in this process."""
    where = placement(work)
    made = [
        ExpertStore(work.model, where.local(rank), drawn(work.model, work.workload.seed)) for rank in range(work.ranks)
    ]
    try:
        yield made
    finally:
        for store in made:
            store.close()


@contextmanager
def staging_of(work: Scenario, rank: int, store: ExpertStore) -> Iterator[Staging]:
    kind = CompositeStaging if work.strategy.weight_view == "composite" else Staging
    staging = kind(store, pull_plan(work, rank).slot, work.strategy.slots)
    try:
        yield staging
    finally:
        staging.close()


def check_all_layers(work: Scenario) -> None:
    """Pull layers through the slots on every rank, as many at a time as there are slots; each view is as drawn."""
    shape = work.model
    with stores(work) as shards:
        peers = [shard.mapping for shard in shards]
        for rank, shard in enumerate(shards):
            slices = pull_plan(work, rank).slices
            with staging_of(work, rank, shard) as staging:
                layers, slots = range(shape.dense_layers, shape.layers), work.strategy.slots
                # slots go on in turn from one step to the next, so that a layer may come to another one
                visits = [(layer, number % slots) for number, layer in enumerate([*layers, *layers])]
                for filled in (visits[first : first + slots] for first in range(0, len(visits), slots)):
                    for layer, slot in filled:
                        staging.pull(slices, peers, layer, slot, None)
                        if work.strategy.weight_view == "merged":
                            staging.merge(layer, slot)
                    for layer, slot in filled:  # none disturbs another
                        w13, w2 = staging.weights(layer, slot)
                        for expert in range(shape.experts):
                            pairs = zip((w13[expert], w2[expert]), exact(shape, layer, expert), strict=True)
                            assert all(same(*pair) for pair in pairs), (rank, layer, slot, expert)


@pytest.mark.parametrize("peer_order", ["ascending", "rotated", "interleaved", "permutation"])
@pytest.mark.parametrize("weight_view", ["split", "merged", "composite"])
@pytest.mark.parametrize(
    "model", [MODEL, ODD_MODEL, SCALED_MODEL, ODD_SCALED_MODEL], ids=["pages", "odd", "scaled", "odd scaled"]
)
def test_all_views_and_orders_hold_the_model(model: dict[str, Any], weight_view: str, peer_order: str) -> None:
    for slice_bytes in (None, 1024, 5000):
        check_all_layers(
            scenario(
                3,
                [[4], [4], [4]],
                **{
                    "model": model,
                    "strategy.weight_view": weight_view,
                    "strategy.peer_order": peer_order,
                    "strategy.slice_bytes": slice_bytes,
                },
            )
        )


@settings(max_examples=25, deadline=None)
@given(
    ranks=st.integers(1, 5),
    experts=st.integers(3, 9),
    inner=st.integers(1, 40),
    spare=st.integers(0, 9),
    slots=st.integers(1, 3),
    view=st.sampled_from(["split", "merged", "composite"]),
    expert_dtype=st.sampled_from(["fp32", "fp8_channel"]),
)
def test_any_placement_and_size(
    ranks: int, experts: int, inner: int, spare: int, slots: int, view: str, expert_dtype: str
) -> None:
    local, kind = min(experts, -(-experts // ranks) + spare), {"expert_dtype": expert_dtype}
    check_all_layers(
        scenario(
            ranks,
            [[1]] * ranks,
            **{
                "model": MODEL | {"experts": experts, "expert_intermediate": inner, "layers": 3} | kind,
                "group.local_experts": local,
                "strategy.weight_view": view,
                "strategy.slots": slots,
            },
        )
    )


def test_composite_shows_the_shard_itself() -> None:
    """Local experts on whole pages are not copied: what changes in the shard changes in the view."""
    work = scenario(2, [[1], [1]], **{"strategy.weight_view": "composite"})
    layer = work.model.dense_layers
    with stores(work) as shards, staging_of(work, 0, shards[0]) as staging:
        seen = staging.weights(layer, 0).w13[1]
        assert isinstance(seen, Tensor)
        shards[0].tensor(layer, "w13", 1).fill_(7.0)
        assert torch.all(seen == 7.0)
        assert isinstance(staging, CompositeStaging)
        assert staging.doubled_bytes == 0


def test_composite_says_what_it_keeps_twice() -> None:
    work = scenario(3, [[1]] * 3, **{"model": ODD_MODEL, "strategy.weight_view": "composite"})
    with stores(work) as shards, staging_of(work, 1, shards[1]) as staging:
        assert isinstance(staging, CompositeStaging)
        staging.weights(work.model.dense_layers, 0)
        assert 0 < staging.doubled_bytes <= shards[1].layout.nbytes


def held() -> tuple[int, int]:
    """Open files of this process, and bytes of shared memory among its addresses."""
    ranges = [line.split()[0].split("-") for line in Path("/proc/self/maps").read_text().splitlines() if "dwdp" in line]
    return len(os.listdir("/proc/self/fd")), sum(int(end, 16) - int(start, 16) for start, end in ranges)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs Linux's /proc")
@pytest.mark.parametrize("weight_view", ["split", "merged", "composite"])
def test_closed_views_and_stores_hold_nothing(weight_view: str) -> None:
    gc.collect()  # what other tests let go of
    before = held()
    for model in (MODEL, ODD_MODEL):
        check_all_layers(scenario(3, [[1]] * 3, **{"model": model, "strategy.weight_view": weight_view}))
    assert held() == before


@given(start=st.integers(0, 5 * PAGE), length=st.integers(1, 5 * PAGE))
def test_a_region_is_its_inner_pages_and_its_edges(start: int, length: int) -> None:
    region = Region(start, start + length)
    pages = [*region.inner, *region.edges]
    assert len(set(pages)) == len(pages)
    assert set(pages) == {
        byte // PAGE * PAGE for byte in (start, start + length - 1, *range(start, start + length, PAGE))
    }
    assert all(start <= page and page + PAGE <= start + length for page in region.inner)
    assert len(region.edges) <= 2


def test_resident_experts_are_views_of_the_store() -> None:
    work = scenario(2, [[1], [1]])
    with stores(work) as shards:
        layer = work.model.layers - 1
        w13, w2 = resident(shards[1], layer, range(5, 7))
        assert len(w13) == len(w2) == 2
        assert same(w2[1], exact(work.model, layer, 6)[1])
        assert as_stored(w13[0]).data_ptr() == shards[1].tensor(layer, "w13", 5).data_ptr()


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_share_of_scaled_experts_is_kept_with_its_scales(ranks: int) -> None:
    shape = scenario(ranks, [[1]] * ranks, model=SCALED_MODEL).model
    for rank in range(ranks):
        share = share_of(shape, ranks, rank)
        store = ExpertStore(shape, range(shape.experts), drawn(shape, 0), share=share)
        assert store.layout.nbytes == shape.experts * narrowed(shape, share).expert_bytes
        cut = narrow_expert(*exact(shape, 2, 5), share.columns)
        assert all(same(store.weight(2, name, 5), part) for name, part in zip(("w13", "w2"), cut, strict=True))
        store.close()
