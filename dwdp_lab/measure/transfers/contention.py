"""`bench contention`: how ranks that read the same source slow each other, and how often they meet there."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

from dwdp_lab.execute.ranks import OnProgress, Ranks
from dwdp_lab.measure.transfers.contention_cases import (
    RANDOM_SOURCES,
    ROUNDS,
    ContentionOptions,
    PullCase,
    contention_cases,
    pull_cases,
    scenario_of,
    slices_of,
)
from dwdp_lab.measure.transfers.contention_levels import Reading, all_reading, level_shares
from dwdp_lab.measure.transfers.contention_simulated import simulated_readings, simulated_times
from dwdp_lab.measure.transfers.pulled_layer import pulled_layer
from dwdp_lab.measure.transfers.source_readers import rate_fairness, source_readers
from dwdp_lab.measure.transfers.transfers import MachineName, Sample
from dwdp_lab.measure.transfers.transfers_head import head
from dwdp_lab.measure.transfers.transfers_measured import EVICT, Key, Measured, gbps, measure, spread
from dwdp_lab.program.pull_plan import Slice
from dwdp_lab.simulate.contention import level_probabilities
from dwdp_lab.simulate.contention_sharing import sharing_probabilities


def bench_contention(
    ranks: Ranks, name: MachineName, options: ContentionOptions, command: str, progress: OnProgress | None = None
) -> dict[str, Any]:
    """Measure contention between the ranks; the record as plain values.

    Raises ScenarioError for a group of one rank, a share or slices that are too small, or too little memory;
    RankFailed when a copy brought wrong bytes.
    """
    pulled_layer(ranks.size, options.share)  # refuses what cannot be pulled before anything is started
    measured = measure(ranks, name, options, lambda machine: contention_cases(machine, options), progress)
    return contention_record(measured, options, command)


def contention_record(measured: Measured, options: ContentionOptions, command: str) -> dict[str, Any]:
    """Medians, distributions and what the simulator makes of the same slices, as plain JSON values."""
    count = measured.machine.ranks
    record = head("Contention: many readers on one source", measured, command)
    pulls = pull_cases(count, options)
    alone = {step: gbps(options.share, _alone_us(measured, step)) for step in options.slices}
    record["share_bytes"] = options.share
    record["alone_gbps"] = {_word(step): rate for step, rate in alone.items()}
    record["closed_forms"] = {
        "binomial": _column(level_probabilities(count), count),
        "sharing": _column(sharing_probabilities(count), count),
    }
    record["readers"] = [
        {"slice_bytes": step, **source_readers(measured, ("readers", readers, step), options.share)}
        for step in options.slices
        for readers in range(1, count)
    ]
    record["pulls"] = [_pull(measured, pull, options, alone[pull.step]) for pull in pulls]
    record["levels"] = [
        _levels(measured, pull, options, alone[pull.step]) for pull in pulls if _marked(measured, pull) is not None
    ]
    if measured.machine.name == "cpu" and options.rank_bytes(count) < EVICT["cpu"]:
        record["notes"].append(
            f"at random phases a rank pulls {ROUNDS['random']} times in a row, and so little that caches hold some of "
            "it: those rates are too high"
        )
    left_out = sum(_marked(measured, pull) is None for pull in pulls)
    if left_out:
        record["notes"].append(
            f"levels of {left_out} cases not measured: they have more slices than a stream takes before its start"
        )
    return record


def _alone_us(measured: Measured, step: int | None) -> float:
    return spread(measured.together_us(("readers", 1, step))).median_us


def _pull(measured: Measured, pull: PullCase, options: ContentionOptions, alone: float) -> dict[str, Any]:
    turns, rounds, count = measured.turns(pull.key), ROUNDS[pull.phases], measured.machine.ranks
    nbytes = measured.nbytes(pull.key) / count / rounds
    times = spread([sample.took_us / rounds for turn in turns for sample in turn.values()])
    return {
        "order": pull.order,
        "slice_bytes": pull.step,
        "phases": pull.phases,
        "rounds": rounds,
        "bytes": nbytes,
        **times._asdict(),
        "gbps": gbps(nbytes, times.median_us),
        "fairness": median([rate_fairness(turn) for turn in turns]),
        "simulated_gbps": _simulated_gbps(turns, pull, options, alone, nbytes),
    }


def _simulated_gbps(
    turns: Sequence[dict[int, Sample]], pull: PullCase, options: ContentionOptions, alone: float, nbytes: float
) -> dict[str, float]:
    """The same pulls from the same starts on the simulator, each source giving what one reader alone measured.

    `slices`: one slice in flight at a time. `stages`: as run_sim does, any number of slices in flight where peers are
    read in turn (not for random sources, which have no such form).
    """
    rounds = ROUNDS[pull.phases]
    slices = [copies * rounds for copies in slices_of(pull, len(turns[0]), options)]
    by_slices: list[float] = []
    by_stages: list[float] = []
    for turn in turns:
        starts = [turn[rank].start_us for rank in sorted(turn)]
        readings = simulated_readings(slices, starts, alone)
        by_slices += [
            (max(one.end_us for one in readings if one.rank == rank) - start) / rounds
            for rank, start in enumerate(starts)
        ]
        if pull.order != RANDOM_SOURCES:
            times = simulated_times(scenario_of(pull, len(turn), options), starts, alone, rounds)
            by_stages += [took_us / rounds for took_us in times]
    found = {"slices": gbps(nbytes, median(by_slices))}
    return found | ({"stages": gbps(nbytes, median(by_stages))} if by_stages else {})


def _marked(measured: Measured, pull: PullCase) -> Key | None:
    """The case of this pull in which the slices' times were noted, if there is one."""
    found = next((key for key in (pull.marked_key, pull.key) if key in measured.number), None)
    return found if found is not None and measured.plan.cases[measured.number[found]].marks else None


def _levels(measured: Measured, pull: PullCase, options: ContentionOptions, alone: float) -> dict[str, Any]:
    key, rounds, count = _marked(measured, pull), ROUNDS[pull.phases], measured.machine.ranks
    assert key is not None
    slices = [copies * rounds for copies in slices_of(pull, count, options)]
    seen, simulated = [], []
    for turn in measured.turns(key):
        starts = [turn[rank].start_us for rank in range(count)]
        seen.append(_shares(readings_of(turn, slices), pull))
        simulated.append(_shares(simulated_readings(slices, starts, alone), pull))
    return {
        "order": pull.order,
        "slice_bytes": pull.step,
        "phases": pull.phases,
        "repeats_counted": sum(map(bool, seen)),
        "measured": _mean(seen, count),
        "measured_range": _range(seen, count),
        "simulated": _mean(simulated, count),
    }


def readings_of(turn: dict[int, Sample], slices: Sequence[Sequence[Slice]]) -> list[Reading]:
    """Who read which source when, from the ends that ranks noted: each slice begins where the one before it ended."""
    readings = []
    for rank, sample in turn.items():
        began = sample.start_us
        for piece, ended in zip(slices[rank], sample.marks, strict=True):
            readings.append(Reading(rank, piece.peer, began, ended))
            began = ended
    return readings


def _shares(readings: list[Reading], pull: PullCase) -> dict[int, float]:
    return level_shares(readings, all_reading(readings)) if pull.phases == "random" else level_shares(readings)


def _mean(shares: Sequence[dict[int, float]], ranks: int) -> list[float] | None:
    """Mean share of each level 1 to N - 1 over the repeats in which all ranks pulled at once; None without any."""
    known = [_column(one, ranks) for one in shares if one]
    return [fmean(column) for column in zip(*known, strict=True)] if known else None


def _range(shares: Sequence[dict[int, float]], ranks: int) -> list[tuple[float, float]] | None:
    """The least and the greatest share of each level over repeats: how much one of them tells."""
    known = [_column(one, ranks) for one in shares if one]
    return [(min(column), max(column)) for column in zip(*known, strict=True)] if known else None


def _column(shares: dict[int, float], ranks: int) -> list[float]:
    return [shares.get(level, 0.0) for level in range(1, ranks)]


def _word(step: int | None) -> str:
    return "whole" if step is None else str(step)
