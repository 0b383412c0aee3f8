"""What `bench contention` has ranks copy: several readers on one source, and all ranks pulling at once."""

from __future__ import annotations

import random
from typing import Literal, NamedTuple, get_args

from dwdp_lab.measure.transfers.copies_cases import cut, pull_way
from dwdp_lab.measure.transfers.pulled_layer import pulled_layer
from dwdp_lab.measure.transfers.transfers import Case, MachineName
from dwdp_lab.measure.transfers.transfers_measured import Key, Machine
from dwdp_lab.program.pull_plan import Slice, pull_plan
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.scenario.strategy import PeerOrder

MIB = 1 << 20
SLICES = (None, MIB // 4, MIB, 2 * MIB, 4 * MIB, 16 * MIB)
ORDERS: tuple[PeerOrder, ...] = get_args(PeerOrder)
RANDOM_SOURCES = "random sources"
"""Every slice from a peer drawn anew: no order that anyone would pull in, but what the closed forms describe."""
Phases = Literal["together", "random"]
ROUNDS: dict[Phases, int] = {"together": 1, "random": 3}
"""Pulls in a row. Out of phase it takes several before all ranks pull at once, which is the time that counts."""
MARKED_AT_MOST: dict[MachineName, float] = {"cpu": float("inf"), "cuda": 256}
"""Slices of a turn whose times can be noted: a GPU's stream has to take all copies and events before the start, or
the host would be the limit."""


class ContentionOptions(NamedTuple):
    """`share` is what a rank pulls from each peer, in bytes; `slices` how it is cut (None: not at all)."""

    share: int = 48 * MIB
    slices: tuple[int | None, ...] = SLICES
    orders: tuple[PeerOrder, ...] = ORDERS
    repeats: int = 5
    seed: int = 0
    evict_bytes: int | None = None  # None: as bench copies

    def rank_bytes(self, ranks: int) -> int:
        """What a rank shares and receives."""
        return ranks * self.share


class PullCase(NamedTuple):
    """All ranks pull a layer at once. `order` may be RANDOM_SOURCES."""

    order: str
    step: int | None
    phases: Phases

    @property
    def key(self) -> Key:
        return ("pull", *self)

    @property
    def marked_key(self) -> Key:
        """The same with the time of each slice."""
        return ("marked", *self)


def contention_cases(machine: Machine, options: ContentionOptions) -> dict[Key, Case]:
    """Every case by its key. On CPU ranks noting times costs nothing, so there is one case for both purposes."""
    count = machine.ranks
    cases: dict[Key, Case] = {}
    for step in options.slices:
        for readers in range(1, count):
            pieces = tuple(cut(0, options.share, step or options.share))
            slices = tuple(pieces if 0 < rank <= readers else () for rank in range(count))
            cases["readers", readers, step] = Case(f"{readers} readers, {step}", slices, pull_way(machine, step))
    for pull in pull_cases(count, options):
        slices = slices_of(pull, count, options)
        name = f"{pull.order}, {pull.step}, {pull.phases}"
        rounds, apart = ROUNDS[pull.phases], pull.phases == "random"
        cases[pull.key] = Case(
            name, slices, pull_way(machine, pull.step), machine.name == "cpu", rounds=rounds, random_phases=apart
        )
        if machine.name == "cuda" and max(map(len, slices)) * rounds <= MARKED_AT_MOST["cuda"]:
            cases[pull.marked_key] = Case(f"{name}, noted", slices, marks=True, rounds=rounds, random_phases=apart)
    return cases


def pull_cases(ranks: int, options: ContentionOptions) -> list[PullCase]:
    """All ranks at once in every order, slice size and phase; and the closed forms' own case, for each slice size."""
    found = [PullCase(order, step, phases) for order in options.orders for step in options.slices for phases in ROUNDS]
    return found + [PullCase(RANDOM_SOURCES, step, "random") for step in options.slices if step and ranks > 2]


def scenario_of(pull: PullCase, ranks: int, options: ContentionOptions) -> Scenario:
    """The scenario whose pull plans are pulled. Raises ScenarioError for RANDOM_SOURCES, which is no peer order."""
    changes = {"strategy.peer_order": pull.order, "strategy.slice_bytes": pull.step}
    return pulled_layer(ranks, options.share).replace(**changes)


def slices_of(pull: PullCase, ranks: int, options: ContentionOptions) -> tuple[tuple[Slice, ...], ...]:
    """What each rank copies in one round, in issue order."""
    if pull.order == RANDOM_SOURCES:
        step = pull.step or options.share
        return tuple(tuple(_from_anyone(rank, ranks, options, step)) for rank in range(ranks))
    scenario = scenario_of(pull, ranks, options)
    return tuple(pull_plan(scenario, rank).slices for rank in range(ranks))


def _from_anyone(rank: int, ranks: int, options: ContentionOptions, step: int) -> list[Slice]:
    drawn = random.Random(f"sources {options.seed} {step} {rank}")
    peers = [peer for peer in range(ranks) if peer != rank]
    step = min(step, options.share)
    places = options.share // step
    return [
        Slice(drawn.choice(peers), number % places * step, number * step, step) for number in range(places * len(peers))
    ]
