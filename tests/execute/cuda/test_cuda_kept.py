"""What a rank keeps from order to order, on stand-in memory."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
from host_memory import HostMemory, no_files_left
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_ranks import MODEL, Rank, check_tables, exact, on_ranks, run_all_layers, scenario

from dwdp_lab.execute.cuda.experts.staging import copy_by_kernel
from dwdp_lab.model.weights import layer_weights
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario


def check(rank: Rank, work: Scenario) -> None:
    """Prepare an order of any strategy and compare all that it reads with the drawn weights."""
    name = work.strategy.name
    everything = range(work.model.experts)
    if name == "dwdp":
        run_all_layers(rank, work)
        return
    run = rank.prepare(work)
    if name == "weight_gather":
        for slot in range(work.strategy.slots):
            gathered = run.slot(slot)
            assert [tensor.shape[0] for tensor in gathered.values()] == [work.model.experts] * 2
        layer, slot = work.model.layers - 1, (work.model.layers - 1) % work.strategy.slots
        for number, (name_of, tensor) in enumerate(run.slot(slot).items()):
            for expert in everything:
                tensor[expert].copy_(exact(work.model, layer, expert)[number])
            local = run.local(layer)[name_of]
            assert torch.equal(local, tensor[run.cut.start : run.cut.stop])
        check_tables(run.tables(layer, slot), work, layer, everything)
        return
    experts = run.cut if name == "dep" else everything
    for layer in range(work.model.layers):
        check_tables(run.tables(layer, None), work, layer, experts)


STRATEGIES = ["replicated", "dep", "weight_gather", "dwdp"]


@settings(max_examples=20, deadline=None)
@given(
    orders=st.lists(
        st.tuples(
            st.sampled_from(STRATEGIES),
            st.sampled_from(["split", "merged", "composite"]),
            st.sampled_from([8, 7]),
            st.sampled_from([None, 5]),
        ),
        min_size=1,
        max_size=5,
    ),
    limit=st.sampled_from([1 << 40, 300_000, 100_000]),
    ranks=st.integers(1, 3),
)
def test_any_sequence_of_orders_on_little_or_much_memory(orders: list[Any], limit: int, ranks: int) -> None:
    def run(rank: Rank) -> None:
        for name, view, experts, local in orders:
            work = scenario(
                ranks,
                **{
                    "model": MODEL | {"experts": experts},
                    "strategy.name": name,
                    "strategy.weight_view": view,
                    "group.local_experts": local if ranks > 1 else None,
                },
            )
            check(rank, work)
            for layer, weights in rank.kept.layers.items():
                assert torch.equal(weights.qkv, layer_weights(work.model, layer, 0, 0.0).qkv)
        # the limit is what the memory says it has left, which decides what is kept; nothing really runs out here

    with no_files_left():
        on_ranks(ranks, run, [Little(limit=limit) for _ in range(ranks)])


class Little(HostMemory):
    """Memory that says it has little left and yet never runs out."""

    def available(self) -> int:
        return super().available() if self.limit == 1 << 40 else self.limit

    def create(self, nbytes: int, handles: Any = None) -> int:
        limit, self.limit = self.limit, 1 << 40
        try:
            return super().create(nbytes, handles)
        finally:
            self.limit = limit


def test_the_next_order_finds_what_it_needs() -> None:
    """Another view or strategy on the same model draws nothing anew and shares nothing anew."""
    work = scenario(2)

    def run(rank: Rank) -> None:
        rank.prepare(work)
        shard, layers, peers = rank.kept.shard, dict(rank.kept.layers), rank.kept.peers
        rank.session.names.clear()
        for changes in (
            {"strategy.weight_view": "composite"},
            {"strategy.name": "dep"},
            {"strategy.name": "replicated"},
        ):
            rank.prepare(work.replace(**changes))
            assert rank.kept.shard is shard
            assert rank.kept.peers is peers
            assert all(rank.kept.layers[layer] is layers[layer] for layer in layers)
        assert rank.session.names == ["free memory"] * 3
        whole = rank.kept.whole
        rank.prepare(work)
        assert rank.kept.whole is whole
        rank.prepare(work.replace(**{"workload.seed": 5}))
        assert rank.kept.shard is not shard
        assert not rank.kept.whole
        assert not set(map(id, rank.kept.layers.values())) & set(map(id, layers.values()))

    on_ranks(2, run)


def test_what_does_not_fit_side_by_side_is_dropped_on_all_ranks() -> None:
    work = scenario(2)

    def run(rank: Rank) -> None:
        memory = rank.memory
        rank.prepare(work)
        if rank.session.rank == 1:  # one rank short of memory is enough
            memory.limit = memory.created_bytes + 1000
        rank.prepare(work.replace(**{"strategy.name": "replicated"}))
        assert rank.kept.shard is None
        assert rank.kept.whole
        rank.prepare(work.replace(**{"strategy.name": "dep"}))
        assert rank.kept.shard is not None
        assert not rank.kept.whole
        assert rank.kept.peers is None  # nobody pulls

    on_ranks(2, run)


def test_peers_are_let_go_of_before_anybodys_memory_goes() -> None:
    def run(rank: Rank) -> list[str]:
        rank.prepare(scenario(2))
        rank.session.names.clear()
        rank.prepare(scenario(2, **{"group.local_experts": 6}))
        return rank.session.names

    for names in on_ranks(2, run):
        assert names[:2] == ["let go of peers", "free memory"]
        assert "transports" not in names


def test_too_many_copies_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dwdp_lab.execute.cuda.experts.needs.MOST_COPIES", 30)

    def run(rank: Rank) -> None:
        rank.prepare(scenario(2))
        with pytest.raises(ScenarioError, match=r"strategy.slice_bytes = 1024: gives 36 copies for each of 3 pulls"):
            rank.prepare(scenario(2, **{"strategy.slice_bytes": 1024}))

    on_ranks(2, run)


def test_too_many_mappings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dwdp_lab.execute.cuda.experts.needs.MOST_MAPPINGS", 40)

    def run(rank: Rank) -> None:
        rank.prepare(scenario(2))
        with pytest.raises(ScenarioError, match=r"model.layers = 3: the rank would map \d+ blocks"):
            rank.prepare(scenario(2, **{"strategy.weight_view": "composite"}))

    on_ranks(2, run)


def test_what_a_program_does_not_have_is_said() -> None:
    def run(rank: Rank) -> None:
        prepared = rank.prepare(scenario(2, **{"strategy.name": "replicated"}))
        for wrong in (
            lambda: prepared.merge(0, 0),
            lambda: prepared.local(0),
            lambda: prepared.slot(0),
            lambda: prepared.tables(0, 0),
            lambda: prepared.copies_for(0, 0, {1}),
        ):
            with pytest.raises(ValueError, match="the program"):
                wrong()
        with pytest.raises(ValueError, match="room for all experts"):
            rank.prepare(scenario(2)).slot(0)
        prepared.close()
        prepared.close()

    on_ranks(2, run)


@given(
    count=st.integers(1, 100), dtype=st.sampled_from([torch.bfloat16, torch.float32, torch.uint8]), seed=st.integers()
)
def test_a_kernel_copies_every_bit(count: int, dtype: torch.dtype, seed: int) -> None:
    """Not-a-numbers, negative zeros and all."""
    nbytes = count * dtype.itemsize
    raw = torch.tensor(list(random.Random(seed).randbytes(nbytes)), dtype=torch.uint8)
    target = torch.zeros(count, dtype=dtype)
    copy_by_kernel(target, raw.view(dtype))
    assert torch.equal(target.view(torch.uint8), raw)
