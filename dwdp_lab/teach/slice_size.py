"""How small a slice may be: the exercise on what issuing a copy costs."""

from __future__ import annotations

from typing import Any

from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.teach import contention_answers as answers
from dwdp_lab.teach.agrees import whole
from dwdp_lab.teach.attempt import attempt, call_text, shown
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.shown import Shown, table

SMALLEST = 64 * 1024
CASES = ((1.0, 0.0, 0.1), (450.0, 0.0, 0.01), (1.0, 65.536, 1.0), (1.0, 65.537, 1.0), (1.0, 100.0, 0.5))
REAL = ((394.2, 1.22, 0.5), (394.2, 1.22, 0.1), (394.2, 1.22, 0.02), (900.0, 1.22, 0.1), (394.2, 8.0, 0.1))


def issue_share(nbytes: float, link_gbps: float, copy_us: float) -> float:
    """What issuing a copy takes, as a share of the time of its bytes on the link."""
    return copy_us * link_gbps * 1e3 / nbytes


def _size(answer: Any, case: tuple[float, float, float]) -> int | str:
    called = attempt(answer, case)
    where = call_text("smallest_slice", case)
    if called.error:
        return f"{where} {called.error}"
    size = whole(called.value)
    if size is None or size < 1:
        return f"{where} gives {shown(called.value)}, which is no whole number of bytes: give an int above 0."
    return size


def _power_of_two(answer: Any) -> str | None:
    for case in (*CASES, *REAL):
        size = _size(answer, case)
        if isinstance(size, str):
            return size
        if size & (size - 1) or size < SMALLEST:
            return f"{call_text('smallest_slice', case)} gives {size:,}, which is no power of two from {SMALLEST:,} up."
    return None


def _cheap_enough(answer: Any) -> str | None:
    for case in (*REAL, *CASES):  # first what may happen, then what is just too much
        size = _size(answer, case)
        if isinstance(size, str):
            return size
        link_gbps, copy_us, most = case
        share = issue_share(size, link_gbps, copy_us)
        if share > most * (1 + 1e-9):
            on_link = size / link_gbps / 1e3
            return (
                f"{call_text('smallest_slice', case)} gives {size:,} bytes. They take {on_link:.6g} us on the link, "
                f"and issuing them {copy_us:g} us: {100 * share:.6g} % of that, where {100 * most:g} % is allowed."
            )
    return None


def _no_larger(answer: Any) -> str | None:
    for case in (*CASES, *REAL):
        size = _size(answer, case)
        if isinstance(size, str):
            return size
        link_gbps, copy_us, most = case
        if size > SMALLEST and issue_share(size // 2, link_gbps, copy_us) <= most * (1 - 1e-9):
            half = issue_share(size // 2, link_gbps, copy_us)
            return (
                f"{call_text('smallest_slice', case)} gives {size:,} bytes, but half of them would do: issuing is then "
                f"{100 * half:.6g} % of their time on the link, and {100 * most:g} % is allowed."
            )
    return None


def _show(answer: Any) -> Shown:
    profile = load_hardware("h100")
    assert profile.reached is not None
    link_gbps = profile.link_gbps.value * profile.reached.link.value
    rows = []
    for copy_us, most in ((1.22, 0.5), (1.22, 0.1), (1.22, 0.02), (8.0, 0.1)):
        size = _size(answer, (link_gbps, copy_us, most))
        issued = f"{copy_us:g} us, {'in one batch' if copy_us < 5 else 'one by one'}"
        if isinstance(size, str):
            rows.append((issued, f"{100 * most:.0f} %", size, ""))
        else:
            paid = f"{100 * issue_share(size, link_gbps, copy_us):.1f} %"
            rows.append((issued, f"{100 * most:.0f} %", f"{size / 2**20:g} MiB", paid))
    header = ("to issue a copy", "may cost", "your smallest_slice", "costs")
    return Shown(f"an H100's link at {link_gbps:.0f} GB/s\n" + table(header, rows))


SMALLEST_SLICE = Exercise(
    key="contention.smallest_slice",
    number="7.4",
    title="how small may a slice be?",
    difficulty=2,
    minutes=5,
    name="smallest_slice",
    spec="""\
Every copy has a fixed cost, `copy_us`, on top of its bytes' time on the link (`link_gbps`, 1e9 bytes/s). Write
`smallest_slice(link_gbps, copy_us, most)`: the smallest slice in bytes whose fixed cost is at most the share `most` of
its time on the link. Take a power of two, 64 KiB at least.""",
    stub='''\
def smallest_slice(link_gbps: float, copy_us: float, most: float) -> int:
    """Bytes: a power of two, at least 64 KiB."""''',
    hints=(
        "How many microseconds is a slice of n bytes on the link? 1e9 bytes per second are 1e3 bytes per microsecond.",
        "The fixed cost is the share copy_us / (n / (link_gbps * 1e3)) of it. It falls as n grows.",
        "Begin with 64 * 1024 and double it as long as the share is above `most`.",
    ),
    reference=answers.smallest_slice,
    view=_show,
    example=lambda: (1.0, 0.0, 1.0),
    properties=(
        Property("a power of two, from 64 KiB up", _power_of_two),
        Property("issuing costs no more than that", _cheap_enough),
        Property("no larger than it needs to be", _no_larger),
    ),
)
