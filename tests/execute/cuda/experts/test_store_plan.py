"""Where experts lie in a store, and what is behind the pages of a composite range: arithmetic alone."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dwdp_lab.execute.cuda.experts.composite import parts_of
from dwdp_lab.execute.cuda.experts.store_plan import StorePlan, Stretch, local_part
from dwdp_lab.execute.cuda.memory.pages import up
from dwdp_lab.scenario.model_config import read_model
from dwdp_lab.scenario.model_shape import ModelShape

SMALL: dict[str, Any] = {
    "name": "small",
    "layers": 3,
    "hidden": 16,
    "attention": {"kind": "gqa", "heads": 1, "kv_heads": 1, "head_dim": 16},
    "experts": 4,
    "top_k": 1,
    "expert_intermediate": 16,
    "dtype": "bf16",
    "expert_dtype": "bf16",
}


@st.composite
def windows(draw: st.DrawFn) -> tuple[int, range]:
    """E and the local experts of some rank."""
    total = draw(st.integers(1, 12))
    start = draw(st.integers(0, total - 1))
    return total, range(start, draw(st.integers(start + 1, total)))


@given(windows=windows(), size=st.integers(1, 5000), page=st.sampled_from([64, 1024, 4096]))
def test_a_range_is_slots_edges_and_the_store_and_nothing_else(
    windows: tuple[int, range], size: int, page: int
) -> None:
    total, experts = windows
    part = local_part(size, experts, total, page)
    parts = parts_of(part, total * size, page)
    # without gaps, in whole pages
    assert parts[0].pages.start == 0
    assert parts[-1].pages.end == up(total * size, page)
    assert all(before.pages.end == after.pages.start for before, after in itertools.pairwise(parts))
    assert all(edge % page == 0 for _, pages in parts for edge in pages)
    local = range(experts.start * size, experts.stop * size)
    for kind, pages in parts:
        for byte in {pages.start, pages.end - 1, *range(pages.start, pages.end, 257)}:
            beginning = byte // page * page
            on_page = range(beginning, min(beginning + page, total * size))
            touches_local = on_page.start < local.stop and local.start < on_page.stop
            touches_pulled = on_page.start < local.start or local.stop < on_page.stop
            assert (
                kind
                == {
                    (False, True): "slot",
                    (True, True): "edge",
                    (True, False): "store",
                }[touches_local, touches_pulled]
            )


@given(
    windows=windows(),
    layers=st.integers(1, 4),
    dense=st.integers(0, 3),
    inner=st.integers(1, 40),
    hidden=st.sampled_from([16, 32, 48, 112]),
    page=st.sampled_from([512, 4096, 1 << 16]),
)
def test_a_store_holds_every_parameter_once_and_shows_whole_pages(
    windows: tuple[int, range], layers: int, dense: int, inner: int, hidden: int, page: int
) -> None:
    total, experts = windows
    dense = min(dense, layers - 1)
    changes = {"layers": layers, "dense_layers": dense, "dense_intermediate": 16, "hidden": hidden}
    changes |= {"more_dense_layers": [dense + 1]}
    shape = read_model(SMALL | changes | {"experts": total, "expert_intermediate": inner})
    plan = StorePlan(shape, experts, page)
    data = [region.data for region in plan.regions.values()]
    assert all(before.end <= after.start for before, after in itertools.pairwise(data))
    assert data[-1].end <= plan.nbytes
    assert plan.blocks[0].start == 0
    assert all(a.end == b.start for a, b in zip(plan.blocks, plan.blocks[1:], strict=False))
    assert all(block.nbytes > 0 and block.nbytes % page == 0 for block in plan.blocks)
    assert [*plan.regions] == [
        (layer, name) for layer in range(dense, layers) if layer != dense + 1 for name in ("w13", "w2")
    ]
    sizes = dict(plan.shard.parameters)
    for (_, name), region in plan.regions.items():
        assert region.data.nbytes == sizes[name] * len(experts)
        assert region.data.start % 16 == 0
        part = local_part(sizes[name], experts, total, page)
        assert (region.inner is None) == (part.inner is None)
        if region.inner is not None and part.inner is not None:
            # the same bytes, and a block of their own
            assert region.inner.start - region.data.start == part.inner.start - part.local.start
            assert region.inner.nbytes == part.inner.nbytes
            assert region.inner in plan.blocks
            others = [stretch for stretch in data if stretch != region.data]
            assert not any(stretch.start < region.inner.end and region.inner.start < stretch.end for stretch in others)
    # a page before and a page behind each parameter is all that may be lost
    assert plan.nbytes <= sum(stretch.nbytes for stretch in data) + 2 * page * len(data) + page


def plan_of(name: str, experts: range, page: int = 1 << 21) -> StorePlan:
    return StorePlan(read_model(name), experts, page)


def test_experts_of_whole_pages_have_no_edges() -> None:
    """Qwen3-30B-A3B: 6 MiB and 3 MiB, an even number of experts of which lies before and in each half."""
    for half in (range(64), range(64, 128)):
        plan = plan_of("qwen3-30b-a3b", half)
        assert len(plan.blocks) == 2 * plan.shape.moe_layers
        assert plan.nbytes == plan.shape.moe_layers * plan.shard.nbytes


def test_blocks_are_few_enough_for_the_driver_and_for_open_files() -> None:
    """The middle one of three ranks has an odd number of 3 MiB experts."""
    plan = plan_of("qwen3-30b-a3b", range(42, 85))
    assert isinstance(plan.shape, ModelShape)
    assert len(plan.blocks) <= 4 * plan.shape.moe_layers + 1
    wasted = plan.nbytes - plan.shape.moe_layers * plan.shard.nbytes
    assert 0 <= wasted < 0.01 * plan.nbytes


def test_small_experts_share_pages() -> None:
    plan = StorePlan(read_model(SMALL), range(1, 3), 1 << 21)
    assert plan.blocks == (Stretch(0, 1 << 21),)
