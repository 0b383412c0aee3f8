"""Looking at a machine: all checks, side by side, each in a process of its own, within half a minute."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from dwdp_lab.doctor.ask import Answer, ask
from dwdp_lab.doctor.checks import ROUNDS, Check
from dwdp_lab.doctor.facts import Facts
from dwdp_lab.doctor.finding import Finding
from dwdp_lab.doctor.report import Report

LIMIT_S = 28.0
SIDE_BY_SIDE = 4
PROBES = "dwdp_lab.doctor.probes"
AGAIN = "run it again, since what was loaded once loads faster; if it stays so, look at it by itself: "


def check_machine(
    limit_s: float = LIMIT_S,
    rounds: Iterable[Sequence[Check]] = ROUNDS,
    say: Callable[[str], None] = lambda _: None,
) -> Report:
    """What of the lab runs on this machine, what does not, and what to do about it.

    Takes `limit_s` seconds at most, plus a second or two to clean up. Loads neither torch nor CUDA here: every
    probe runs in a process of its own, and one that hangs or crashes costs its own line of the report only.
    `say` is told what is being looked at.
    """
    began = time.monotonic()
    deadline = began + limit_s
    facts = Facts()
    findings: list[Finding] = []
    for checks in rounds:
        wanted = [check for check in checks if check.wanted(facts)]
        say(", ".join(check.title for check in wanted))
        answers = _asked(wanted, limit_s, deadline)
        for check, answer in zip(wanted, answers, strict=True):
            setattr(facts, check.probe, answer.facts)
        # after the whole round: a judge may look at what other probes of its round found
        for check, answer in zip(wanted, answers, strict=True):
            findings += [_unknown(check, answer.trouble)] if answer.trouble else _judged(check, facts)
    return Report(tuple(findings), time.monotonic() - began)


def _asked(checks: Sequence[Check], limit_s: float, deadline: float) -> list[Answer]:
    stopped = threading.Event()

    def one(check: Check) -> Answer:
        left = min(check.share * limit_s, deadline - time.monotonic())
        if left <= 0:
            return Answer(None, f"not looked at: the {limit_s:.0f} s for all checks were over")
        return ask(f"{PROBES}.{check.probe}", left, stopped)

    with ThreadPoolExecutor(SIDE_BY_SIDE) as threads:
        try:
            return list(threads.map(one, checks))
        except BaseException:  # an interrupt: the probes end at once, not when their time is over
            stopped.set()
            raise


def _judged(check: Check, facts: Facts) -> list[Finding]:
    try:
        return [finding for judge in check.judges for finding in judge(facts)]
    except Exception as error:
        return [_unknown(check, f"{type(error).__name__}: {error}")]


def _unknown(check: Check, trouble: str) -> Finding:
    fix = f"{AGAIN}python -m dwdp_lab.doctor.ask {PROBES}.{check.probe}"
    return Finding(check.title, "fail", f"cannot be checked: {trouble}", check.meaning, fix, check.stops)
