"""The job that measures transfers on one rank: turn after turn, in step with all others."""

from __future__ import annotations

import gc
import time

from dwdp_lab.execute.messages import Progress
from dwdp_lab.execute.rank_session import RankSession
from dwdp_lab.measure.transfers.transfers import MachineName, Plan, Report, Sample, Turn, delay_us, turns
from dwdp_lab.measure.transfers.transfers_end import CopyEnd
from dwdp_lab.measure.transfers.transfers_open import open_end
from dwdp_lab.measure.transfers.transfers_pattern import GUARD, WrongBytes, check_received

HEAD_START_NS: dict[MachineName, int] = {"cpu": 10_000_000, "cuda": 30_000_000}
"""Between agreeing on a start and starting: more than a message takes on a busy machine, and on GPUs than it takes to
issue the copies."""


def measure_transfers(session: RankSession, plan: Plan) -> Report:
    """Measure all turns of the plan. All ranks call this together.

    Raises WrongBytes when not all that arrived is right.
    """
    end = open_end(session, plan)
    report = _measure(session, plan, end)
    session.gather("checked", None)  # nobody reads anybody's memory any more
    # not after a failure: copies may still be under way, and this process is about to end anyway
    end.close()
    return report


def _measure(session: RankSession, plan: Plan, end: CopyEnd) -> Report:
    samples: list[Sample] = []
    round_us: dict[int, float] = {}  # of the slowest rank, when tried
    checked, clock_error_us = 0, 0.0
    todo = turns(plan)
    gc.collect()
    gc.disable()  # it would run while copies do
    try:
        for number, turn in enumerate(todo):
            sample, error_us = _turn(session, plan, end, turn, number, round_us.get(turn.case, 0.0))
            took_us = 0.0 if sample is None else sample.took_us / plan.cases[turn.case].rounds
            # all have copied: only now may anyone read memory to compare it
            times, _ = session.gather(f"copied {number}", took_us)
            if turn.repeat < 0:
                round_us[turn.case] = max(times)
            if sample is not None:
                checked += _check(session.rank, plan, end, turn, number)
                clock_error_us = max(clock_error_us, error_us)
                if turn.repeat >= 0:
                    samples.append(sample)
            session.channel.send(Progress(plan.cases[turn.case].name, number + 1, len(todo)))
    finally:
        gc.enable()
    return Report(tuple(samples), tuple(end.notes), clock_error_us, checked)


def _turn(
    session: RankSession, plan: Plan, end: CopyEnd, turn: Turn, number: int, round_us: float
) -> tuple[Sample | None, float]:
    """Prepare, start with the others, copy. None for a rank that has nothing to copy."""
    case, rank = plan.cases[turn.case], session.rank
    copies = case.slices[rank] * case.rounds
    if copies:
        # what an earlier turn left there must not pass for what this one brings
        end.target(case.received_bytes(rank) + 2 * GUARD).fill_(scrub_of(number))
    end.evict()
    end.settle()
    proposals, _ = session.gather(f"start {number}", time.monotonic_ns() + HEAD_START_NS[plan.machine])
    common_ns = int(max(proposals))
    if not copies:
        return None, 0.0
    start_ns = common_ns + int(1e3 * delay_us(plan, turn, rank, round_us))
    timing = end.copy(copies, start_ns, case)
    sample = Sample(
        turn.case,
        turn.repeat,
        (timing.start_ns - common_ns) / 1e3,
        (timing.end_ns - common_ns) / 1e3,
        (timing.issued_ns - timing.issuing_ns) / 1e3,
        (timing.issued_ns - common_ns) / 1e3,
        timing.page_faults,
        tuple([(mark - common_ns) / 1e3 for mark in timing.marks_ns]),
    )
    return sample, timing.clock_error_us


def _check(rank: int, plan: Plan, end: CopyEnd, turn: Turn, number: int) -> int:
    case = plan.cases[turn.case]
    target = end.target(case.received_bytes(rank) + 2 * GUARD)
    try:
        return check_received(target, case.slices[rank], end.shared, scrub_of(number))
    except WrongBytes as error:
        error.add_note(f"case {case.name!r}, repeat {turn.repeat}")
        raise


def scrub_of(number: int) -> int:
    """The byte that fills the target before a turn, another one each time."""
    return 1 + number % 251
