"""Keeping more experts than one must: the exercise on local experts and memory."""

from __future__ import annotations

from typing import Any, NamedTuple

from dwdp_lab.scenario.model_config import read_model
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.teach.attempt import attempt, shown
from dwdp_lab.teach.exercise import Exercise, Property
from dwdp_lab.teach.judging_answers import most_local
from dwdp_lab.teach.shown import Shown, table


class Group(NamedTuple):
    """The arguments of `most_local`."""

    experts: int
    ranks: int
    layers: int
    expert_bytes: int
    slots: int
    free_bytes: int

    def needs(self, local: int) -> int:
        """Bytes of local experts of all layers and of the staging slots."""
        return (self.layers * local + self.slots * (self.experts - local)) * self.expert_bytes

    def __str__(self) -> str:
        return f"most_local({', '.join(f'{name}={value}' for name, value in self._asdict().items())})"


def splits(group: Group) -> list[tuple[int, int]]:
    """Every (L, P) with E = L + (N - 1) P in which each expert has an owner, the largest L first."""
    found = []
    for local in range(group.experts, 0, -1):
        pulled, rest = divmod(group.experts - local, group.ranks - 1)
        if not rest and group.ranks * local >= group.experts:
            found.append((local, pulled))
    return found


def largest(group: Group) -> tuple[int, int] | None:
    """The slow obvious answer: try every split."""
    return next((split for split in splits(group) if group.needs(split[0]) <= group.free_bytes), None)


SMALL = [
    Group(4, 2, 3, 1, slots, free)  # 4 experts on 2 ranks, 3 layers, 1 byte each
    for slots in (1, 2)
    for free in range(5, 14)
]
ODD = [Group(8, 3, 4, 1, 2, free) for free in (20, 24, 26, 28, 30, 32)]  # L = 8, 6, 4: 7 and 5 leave no whole P
LARGE = [Group(256, 4, 58, 24_772_608, 2, free * 10**9) for free in (100, 102, 120, 150, 400)]


def _given(answer: Any, group: Group) -> tuple[int, int] | str | None:
    """The pair that an answer gives, None where it says that nothing fits, or what is wrong with it in words."""
    called = attempt(answer, group)
    if called.error:
        return f"{group} {called.error}"
    if called.value is None:
        return None
    try:
        local, pulled = called.value
        if (int(local), int(pulled)) == (local, pulled):
            return int(local), int(pulled)
    except (TypeError, ValueError, OverflowError):
        pass
    return f"{group} gives {shown(called.value)}; a pair (L, P) of whole numbers is wanted, or None."


def _shares_add_up(answer: Any) -> str | None:
    for group in (*SMALL, *ODD, *LARGE):
        given = _given(answer, group)
        if isinstance(given, str):
            return given
        if given is not None and (given[0] + (group.ranks - 1) * given[1] != group.experts or given[1] < 0):
            local, pulled = given
            total = f"{local} + {group.ranks - 1} x {pulled} = {local + (group.ranks - 1) * pulled}"
            return f"{group} gives L = {local}, P = {pulled}: {total}, not {group.experts} experts."
    return None


def _owned(answer: Any) -> str | None:
    for group in (*SMALL, *ODD, *LARGE):
        given = _given(answer, group)
        if isinstance(given, tuple) and group.ranks * given[0] < group.experts:
            return (
                f"{group} gives L = {given[0]}: {group.ranks} ranks with that hold less than {group.experts} experts."
            )
    return None


def _fits(answer: Any) -> str | None:
    for group in (*SMALL, *ODD, *LARGE):
        given = _given(answer, group)
        if isinstance(given, tuple) and group.needs(given[0]) > group.free_bytes:
            local, remote = given[0], group.experts - given[0]
            parts = f"{group.layers} layers x {local} local experts and {group.slots} slots of {remote}"
            return (
                f"{group} gives L = {local}: {parts}, each of {group.expert_bytes:,} bytes, are "
                f"{group.needs(local):,} bytes."
            )
    return None


def _no_larger(answer: Any) -> str | None:
    for group in (*SMALL, *ODD, *LARGE):
        given, right = _given(answer, group), largest(group)
        if isinstance(given, str) or given == right:
            continue
        if right is None:
            return f"{group} gives {given}, but nothing fits: the answer is None."
        return f"{group} gives {given}, but L = {right[0]}, P = {right[1]} fits: {group.needs(right[0]):,} bytes."
    return None


def _show(answer: Any) -> Shown:
    shape, link = read_model({"preset": "deepseek-r1", "expert_dtype": "nvfp4"}), load_hardware("gb200").link_gbps.value
    rows = []
    for ranks in (3, 4):
        for free_gb in (100, 105, 120, 140, 160):
            given = _given(answer, Group(256, ranks, shape.moe_layers, shape.expert_bytes, 2, free_gb * 10**9))
            if isinstance(given, tuple):
                pull_ms = (256 - given[0]) * shape.expert_bytes / link / 1e6
                rows.append((f"N = {ranks}, {free_gb} GB", f"{given[0]}", f"{given[1]}", f"{pull_ms:.2f}"))
            else:
                rows.append((f"N = {ranks}, {free_gb} GB", "nothing fits" if given is None else given, "", ""))
    header = ("free for experts", "your L", "P", "T_pull, ms per layer")
    return Shown("DeepSeek-R1's experts in NVFP4 on GB200, two slots\n" + table(header, rows))


MOST_LOCAL = Exercise(
    key="judging.most_local",
    number="9.1",
    title="spend spare memory on local experts",
    difficulty=2,
    minutes=15,
    name="most_local",
    spec="""\
A rank that keeps more experts pulls fewer. Each of the N ranks keeps L of the E experts of every layer, and has `slots`
staging slots, each for the E - L others of one layer. Every peer gives the same whole number P of experts, so
E = L + (N - 1) P, and every expert needs an owner. `free_bytes` is what is left of a GPU's memory for both. Write
`most_local(experts, ranks, layers, expert_bytes, slots, free_bytes)`: `(L, P)` with the largest L that fits, or None if
not even the smallest does. There are at least two ranks.""",
    stub='''\
def most_local(
    experts: int, ranks: int, layers: int, expert_bytes: int, slots: int, free_bytes: int
) -> tuple[int, int] | None:
    """(L, P) with as many local experts as fit, or None."""''',
    hints=(
        "The largest L is the one with the smallest P. Try P = 0, 1, 2, ... and take the first that fits.",
        "Local experts are kept for all layers, pulled ones only in the slots: (layers * L + slots * (E - L)) * "
        "expert_bytes.",
        "With N L < E some expert would have no owner (with E = L + (N - 1) P that is the same as L < P). If you get "
        "there, nothing fits.",
    ),
    reference=most_local,
    view=_show,
    example=lambda: Group(4, 2, 3, 1, 1, 13),
    properties=(
        Property("every peer gives P, and L + (N - 1) P are all experts", _shares_add_up),
        Property("every expert has an owner", _owned),
        Property("local experts and slots fit into the memory", _fits),
        Property("no larger L would fit, and None only if none does", _no_larger),
    ),
)
