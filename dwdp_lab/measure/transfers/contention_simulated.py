"""The slices that ranks really pulled, on the simulator's links: who would have read whom, when."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from dwdp_lab.measure.transfers.contention_levels import Reading
from dwdp_lab.program.operation import Stage
from dwdp_lab.program.pull_plan import Slice, pull_of
from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.links import Links, PrivateLinks
from dwdp_lab.simulate.one_source_links import OneSourceLinks
from dwdp_lab.simulate.shared_links import SharedLinks


def simulated_readings(
    pulls: Sequence[Sequence[Slice]], starts_us: Sequence[float], gbps: float, sharing: bool = True
) -> list[Reading]:
    """Every rank pulls its slices one after another, from its start on; a source's readers share `gbps`.

    No rank has two slices in flight, so a crowded source holds it up whatever its next source does: the other extreme
    of `simulated_times`. Copy engines lie between the two.

    Without `sharing` every reader gets all of `gbps`, as in the random-state model. A rank may have no slices. Raises
    ValueError for a rate that is not above zero.
    """
    if not 0 < gbps < math.inf:
        raise ValueError(f"a link's rate is above 0 and finite, not {gbps}")
    rate = 1e3 * gbps  # bytes per microsecond
    links: Links = OneSourceLinks(len(pulls), rate, rate) if sharing else PrivateLinks(rate)
    pending = [(start_us, rank) for rank, start_us in enumerate(starts_us) if pulls[rank]]
    heapq.heapify(pending)
    place = [0] * len(pulls)
    began_us = [0.0] * len(pulls)
    readings: list[Reading] = []

    def begin(rank: int, now_us: float) -> None:
        piece = pulls[rank][place[rank]]
        began_us[rank] = now_us
        links.start(rank, (Stage(((piece.peer, float(piece.nbytes)),)),), now_us)

    while True:
        finished = links.run(pending[0][0] if pending else math.inf)
        if finished is not None:
            end_us, rank = finished
            readings.append(Reading(rank, pulls[rank][place[rank]].peer, began_us[rank], end_us))
            place[rank] += 1
            if place[rank] < len(pulls[rank]):
                begin(rank, end_us)
        elif pending:
            start_us, rank = heapq.heappop(pending)
            begin(rank, start_us)
        else:
            return readings


def simulated_times(scenario: Scenario, starts_us: Sequence[float], gbps: float, rounds: int = 1) -> list[float]:
    """How long so many pulls in a row take each rank as `run_sim` sees them: by stages, not by single slices.

    Where slices are read in turn a stage reads from all peers at once, as if any number of them were in flight.
    """
    rate = 1e3 * gbps
    pulls = [pull_of(scenario, rank).stages * rounds for rank in range(scenario.ranks)]
    serial = all(len(stage.sources) == 1 for stages in pulls for stage in stages)
    links: Links = (OneSourceLinks if serial else SharedLinks)(scenario.ranks, rate, rate)
    pending = sorted((start_us, rank) for rank, start_us in enumerate(starts_us))
    took_us = [0.0] * scenario.ranks
    while True:
        finished = links.run(pending[0][0] if pending else math.inf)
        if finished is not None:
            took_us[finished.rank] = finished.end_us - starts_us[finished.rank]
        elif pending:
            start_us, rank = pending.pop(0)
            links.start(rank, pulls[rank], start_us)
        else:
            return took_us
