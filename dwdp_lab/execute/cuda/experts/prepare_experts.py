"""Turning what a rank keeps into what one run needs: slots, views, tables and copies."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from dwdp_lab.execute.cuda.experts.composite import CompositeStaging
from dwdp_lab.execute.cuda.experts.expert_store import ExpertStore
from dwdp_lab.execute.cuda.experts.needs import Need, check_copies, check_mappings
from dwdp_lab.execute.cuda.experts.pulls import Pulls
from dwdp_lab.execute.cuda.experts.resident import AllExperts, tables_of_all, tables_of_store
from dwdp_lab.execute.cuda.experts.run_experts import RunExperts
from dwdp_lab.execute.cuda.experts.staging import MergedStaging, SplitStaging, Staging
from dwdp_lab.execute.cuda.experts.store_plan import StorePlan
from dwdp_lab.execute.cuda.gpu.device import Device
from dwdp_lab.execute.cuda.gpu.driver_calls import mebibytes
from dwdp_lab.program.placement import placement
from dwdp_lab.program.pull_plan import Layout, pull_plan
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.shares import narrowed


def prepare_experts(
    scenario: Scenario,
    need: Need,
    rank: int,
    device: Device,
    whole: AllExperts,
    shard: ExpertStore | None,
    peers: Mapping[int, tuple[int, StorePlan]],
) -> RunExperts:
    """What the need asks for, over all experts or a shard. `peers`: where their stores lie here, and in which form.

    Raises ScenarioError, DriverError and torch's out-of-memory error, having given back what it made.
    """
    where, shape = placement(scenario), scenario.model
    run = RunExperts(cuts=tuple(where.computed(each) for each in range(scenario.ranks)), rank=rank, store=shard)
    if need.whole:
        run.resident = tables_of_all(shape if need.share is None else narrowed(shape, need.share), whole)
    elif need.exchanges and shard is not None:
        run.resident = tables_of_store(shard, run.cut)
    if shard is None:
        return run
    if need.pulls:
        run.notes.append(f"peers' weights: {shard.transport.words}")
        run.pulls = Pulls(scenario, rank, peers)
        check_copies(scenario, len(need.places), len(run.pulls.pieces))
    if need.slots:
        run.staging = _staging(scenario, need, rank, device, shard, peers)
        try:
            _add_copies(run, run.staging, need)
        except BaseException:
            run.close()
            raise
    return run


def _add_copies(run: RunExperts, staging: Staging, need: Need) -> None:
    if run.pulls is not None:
        run.copies_of = {
            (layer, slot): run.pulls.copies(layer, partial(staging.target, layer, slot)) for layer, slot in need.places
        }
    if isinstance(staging, CompositeStaging) and staging.edge_bytes:
        run.notes.append(
            f"composite view: {mebibytes(staging.edge_bytes)} of pages that hold local and pulled experts, kept once "
            "for each layer and slot"
        )


def _staging(
    scenario: Scenario,
    need: Need,
    rank: int,
    device: Device,
    shard: ExpertStore,
    peers: Mapping[int, tuple[int, StorePlan]],
) -> Staging:
    view = scenario.strategy.weight_view
    if need.gathers:  # a slot then holds all experts, whatever the weight view
        return MergedStaging(shard, Layout(shard.plan.shard.parameters, scenario.model.experts), need.slots)
    layout = pull_plan(scenario, rank).slot
    if view == "merged":
        return MergedStaging(shard, layout, need.slots)
    if view == "split":
        return SplitStaging(shard, layout, need.slots, need.places)
    if not shard.transport.composable:
        raise ScenarioError(
            "strategy.weight_view",
            view,
            f"needs memory that can be mapped page by page, and ranks here share theirs by {shard.transport.words}",
            "take split or merged",
        )
    check_mappings(scenario, shard.plan, [plan for _, plan in peers.values()], len(need.places))
    return CompositeStaging(shard, device.memory, need.slots, need.places)
