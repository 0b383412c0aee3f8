"""A group of ranks that only prepare: programs of real scenarios, on stand-in memory."""

from __future__ import annotations

import ctypes
import itertools
import random
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
from dwdp_kernels.e4m3 import Quantised
from dwdp_kernels.grouped_mlp import Weight
from host_device import HostDevice, HostIpc
from host_memory import HostMemory
from rank_threads import ThreadSession, in_threads

from dwdp_lab.execute.cuda.experts.run_experts import RunExperts
from dwdp_lab.execute.cuda.experts.staging import LayerTables
from dwdp_lab.execute.cuda.gpu.device import Copy
from dwdp_lab.execute.cuda.kept import Kept
from dwdp_lab.execute.messages import Order
from dwdp_lab.model.kept_experts import kept_weights
from dwdp_lab.model.weights import expert_weights
from dwdp_lab.program.build import build
from dwdp_lab.program.placement import placement
from dwdp_lab.scenario.model_shape import ModelShape
from dwdp_lab.scenario.scenario import Scenario

MODEL: dict[str, Any] = {
    "name": "test",
    "layers": 3,
    "hidden": 32,
    "attention": {"kind": "gqa", "heads": 2, "kv_heads": 1, "head_dim": 16},
    "experts": 8,
    "top_k": 2,
    "expert_intermediate": 48,
    "dtype": "fp32",
    "expert_dtype": "bf16",
}

T = TypeVar("T")


def scenario(ranks: int, **changes: Any) -> Scenario:
    base = Scenario.create(model=MODEL, group={"ranks": ranks}, workload={"kind": "explicit", "lengths": [[4]] * ranks})
    return base.replace(**changes) if changes else base


def order_of(work: Scenario, rank: int) -> Order:
    programs = build(work)
    kinds = frozenset(op.kind for program in programs for op in program.ops)
    return Order(work, programs[rank], kinds, outputs=False)


class Rank(NamedTuple):
    """One rank of a group and what it keeps."""

    session: ThreadSession
    memory: HostMemory
    device: HostDevice
    kept: Kept

    def prepare(self, work: Scenario) -> RunExperts:
        return self.kept.prepare(self.session, order_of(work, self.session.rank))  # type: ignore[arg-type]


def on_ranks(
    ranks: int,
    work: Callable[[Rank], T],
    memories: Sequence[HostMemory] | None = None,
    ipcs: Sequence[HostIpc | None] | None = None,
) -> list[T]:
    """`work` on every rank, each in a thread; afterwards everything must have been given back."""
    made = [HostMemory() for _ in range(ranks)] if memories is None else list(memories)

    def run(session: ThreadSession) -> T:
        memory = made[session.rank]
        device = HostDevice(memory)
        kept = Kept(device, None if ipcs is None else ipcs[session.rank])
        result = work(Rank(session, memory, device, kept))
        kept.close()  # not after a failure: its report may show tensors over this memory
        return result

    results = in_threads(ranks, run)
    for memory in made:
        memory.assert_nothing_left()
    return results


def perform(copies: Sequence[Copy], seed: int | None = None) -> None:
    """Make the copies, in any order, as copy engines do."""
    chosen = list(copies)
    if seed is not None:
        random.Random(seed).shuffle(chosen)
    for target, source, nbytes in chosen:
        ctypes.memmove(target, source, nbytes)


def check_copies(memory: HostMemory, copies: Sequence[Copy]) -> None:
    """Copies read peers' blocks only, and write private memory only, no byte of it twice."""
    for target, source, nbytes in copies:
        assert nbytes > 0
        assert all(block.adopted for block in memory.behind(source, nbytes))
        assert not any(block.adopted or block.handles for block in memory.behind(target, nbytes))
    ends = sorted((copy.target, copy.target + copy.nbytes) for copy in copies)
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ends))


CPU = torch.device("cpu")


@lru_cache(maxsize=2048)
def exact(
    shape: ModelShape, layer: int, expert: int, seed: int = 0, device: torch.device = CPU
) -> tuple[Weight, Weight]:
    return kept_weights(shape, expert_weights(shape, layer, expert, seed, device))


def check_tables(tables: LayerTables, work: Scenario, layer: int, experts: Sequence[int]) -> None:
    """The tables hold exactly these experts, and their addresses are where their tensors lie."""
    for number, table in enumerate(tables):
        assert table.experts == len(experts)
        assert table.table[2:].tolist() == [weight.data_ptr() for weight in table.weights]
        for place, (weight, expert) in enumerate(zip(table.weights, experts, strict=True)):
            drawn = exact(work.model, layer, expert, work.workload.seed, weight.device)[number]
            if isinstance(drawn, Quantised):  # scales lie right behind, where the kernels look for them
                assert table.scales[place].data_ptr() == weight.data_ptr() + weight.nbytes
                assert torch.equal(table.scales[place], drawn.scales), (layer, expert, number)
                assert torch.equal(weight.view(torch.uint8), drawn.values.view(torch.uint8)), (layer, expert, number)
            else:
                assert torch.equal(weight, drawn), (layer, expert, number)


def bytes_of_shared(memory: HostMemory) -> bytes:
    """All that peers may read of this rank."""
    found = []
    for address, (nbytes, block) in sorted(memory.mappings.items()):
        if memory.blocks[block].handles is not None:
            found.append(ctypes.string_at(address, nbytes))
    return b"".join(found)


def run_all_layers(rank: Rank, work: Scenario, shuffle: int | None = None) -> None:
    """Pull layer after layer into the slots as the program would, and compare each view with the drawn weights."""
    run = rank.prepare(work)
    before = bytes_of_shared(rank.memory)
    merged = work.strategy.weight_view == "merged"
    places = [(op.layer, op.slot) for op in build(work)[rank.session.rank].ops if op.kind == "experts"]
    for layer, slot in places:
        assert slot is not None
        copies = run.copies(layer, slot)
        assert copies is run.copies(layer, slot)
        where = placement(work)
        local = where.local(rank.session.rank)
        size = sum(nbytes for _, nbytes in rank.kept.shard.plan.shard.parameters)  # type: ignore[union-attr]
        assert sum(copy.nbytes for copy in copies) == (where.experts - len(local)) * size
        check_copies(rank.memory, copies)
        for target, _, nbytes in copies:
            ctypes.memset(target, 0xA5, nbytes)
        perform(copies, shuffle)
        if merged:
            run.merge(layer, slot)
        check_tables(run.tables(layer, slot), work, layer, range(work.model.experts))
    assert bytes_of_shared(rank.memory) == before
