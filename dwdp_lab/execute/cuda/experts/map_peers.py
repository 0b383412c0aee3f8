"""Reaching the experts that peers keep."""

from __future__ import annotations

from contextlib import ExitStack

from dwdp_lab.execute.cuda.experts.expert_store import ExpertStore
from dwdp_lab.execute.cuda.experts.store_plan import StorePlan
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.program.placement import placement
from dwdp_lab.scenario.scenario import Scenario

Peers = dict[int, tuple[int, StorePlan]]
"""Of those that a rank pulls from: where the store lies here, and its form."""


def map_peers(session: RankSession, scenario: Scenario, shard: ExpertStore) -> tuple[Peers, ExitStack]:
    """Map the shards of those that this rank pulls from, until the stack is closed.

    All ranks call this together, each when it has filled its own shard.
    """
    where = placement(scenario)
    page = shard.transport.page
    plans = {peer: StorePlan(scenario.model, where.local(peer), page) for peer, _ in where.pulled(session.rank)}
    sizes = {peer: [block.nbytes for block in plan.blocks] for peer, plan in plans.items()}
    with ExitStack() as stack:
        addresses = shard.transport.exchange(stack, session, shard.held, sizes)
        stack.callback(shard.device.synchronize)
        return {peer: (addresses[peer], plan) for peer, plan in plans.items()}, stack.pop_all()
