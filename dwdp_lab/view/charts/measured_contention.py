"""What `bench contention` measured: readers of one source, slices and orders, and how often ranks meet."""

from __future__ import annotations

from typing import Any, get_args

from dwdp_lab.scenario.strategy import PeerOrder
from dwdp_lab.timeline.palette import BLUE, GREY, ORANGE, PURPLE
from dwdp_lab.timeline.words import figures, size
from dwdp_lab.view.charts.chart import Bars, Chart
from dwdp_lab.view.charts.heat_map import HeatMap
from dwdp_lab.view.charts.measured_copies import COLOURS, worth


def reader_rates(record: dict[str, Any]) -> Chart:
    """What all readers of one source get together, over how many they are, for each slice size."""
    bars = _over_readers(record, "gbps")
    whole = bars[0]
    return Chart(
        title="One source: rate of all its readers together",
        x_title="readers of the source",
        y_title="rate together (GB/s)",
        categories=_readers(record),
        bars=bars,
        words=f"{whole.label}: one reader gets {figures(whole.values[0])} GB/s, {len(whole.values)} together get "
        f"{figures(whole.values[-1])} GB/s.",
        notes=worth(record),
    )


def reader_fairness(record: dict[str, Any]) -> Chart:
    """Jain's index of what each reader of one source gets, over how many they are."""
    bars = _over_readers(record, "fairness")
    least = min((value, one.label, number) for one in bars for number, value in enumerate(one.values, 1))
    return Chart(
        title="One source: how evenly it serves its readers",
        x_title="readers of the source",
        y_title="Jain's index (1: all get the same)",
        categories=_readers(record),
        bars=bars,
        words=f"Least even: {least[0]:.3f}, {least[1]}, {least[2]} readers.",
        notes=worth(record),
    )


def pull_rates(record: dict[str, Any], phases: str = "together") -> HeatMap:
    """All ranks pulling at once: each one's rate over what a reader alone gets, for each slice size and peer order.

    `phases`: "together" (all start at once) or "random".
    """
    pulls = [pull for pull in record["pulls"] if pull["phases"] == phases and pull["order"] in get_args(PeerOrder)]
    orders = list(dict.fromkeys(pull["order"] for pull in pulls))
    steps = list(dict.fromkeys(pull["slice_bytes"] for pull in pulls))
    base = None if None in steps else steps[-1]
    alone = record["alone_gbps"]["whole" if base is None else str(base)]
    rate = {(pull["slice_bytes"], pull["order"]): pull["gbps"] / alone for pull in pulls}
    best = max(rate, key=lambda case: rate[case])
    when = "all start at once" if phases == "together" else "each starts at a time of its own"
    return HeatMap(
        title=f"All ranks pull, {when}: rate over that of one reader alone",
        x_title="peer order",
        y_title="slice",
        columns=tuple(orders),
        rows=tuple("whole" if step is None else size(step) for step in steps),
        values=tuple(tuple(rate[step, order] for order in orders) for step in steps),
        words=f"1 is {figures(alone)} GB/s, what a single reader gets ({_cut(base)}). Best: {best[1]}, "
        f"{_cut(best[0])}, {rate[best]:.2f}.",
        notes=worth(record),
    )


def level_shares_chart(record: dict[str, Any], order: str, slice_bytes: int | None, phases: str = "random") -> Chart:
    """How many ranks read a rank's source at once: measured, simulated on the same slices, and in closed form.

    Raises KeyError for a case that was not measured.
    """
    found = [
        one
        for one in record["levels"]
        if (one["order"], one["slice_bytes"], one["phases"]) == (order, slice_bytes, phases) and one["measured"]
    ]
    if not found:
        raise KeyError(f"no levels of {order}, slices of {slice_bytes}, phases {phases} in this record")
    forms = record["closed_forms"]
    groups = [
        (label, shares, colour)
        for label, shares, colour in (
            (f"measured: {order}, {_cut(slice_bytes)}", found[0]["measured"], BLUE),
            ("simulated: the same slices and starts", found[0]["simulated"], ORANGE),
            ("closed form: random sources", forms["binomial"], GREY),
            ("closed form: random sources that readers share", forms["sharing"], PURPLE),
        )
        if shares is not None  # simulated ranks may never have pulled all at once
    ]
    means = {label.partition(":")[0]: _mean(shares) for label, shares, _ in groups[:-2]}
    simulator = f"the simulator says {means['simulated']:.2f}" if "simulated" in means else "the simulator has none"
    return Chart(
        title=f"Contention: readers of one source, N = {record['ranks']}",
        x_title="ranks that read the source at once, this one included",
        y_title="share of reading time (%)",
        categories=tuple(str(level) for level in range(1, record["ranks"])),
        bars=tuple(Bars(label, tuple(100 * share for share in shares), colour) for label, shares, colour in groups),
        words=f"A rank meets {means['measured']:.2f} readers at its source on average, itself included; {simulator}, "
        f"chance {_mean(forms['binomial']):.2f}, chance with crowded sources slower {_mean(forms['sharing']):.2f}.",
        notes=worth(record),
    )


def _mean(shares: list[float]) -> float:
    return sum(level * share for level, share in enumerate(shares, 1))


def _readers(record: dict[str, Any]) -> tuple[str, ...]:
    return tuple(str(readers) for readers in range(1, record["ranks"]))


def _over_readers(record: dict[str, Any], name: str) -> tuple[Bars, ...]:
    steps = list(dict.fromkeys(one["slice_bytes"] for one in record["readers"]))
    return tuple(
        Bars(
            _cut(step),
            tuple(one[name] for one in record["readers"] if one["slice_bytes"] == step),
            COLOURS[number % len(COLOURS)],
        )
        for number, step in enumerate(steps)
    )


def _cut(step: int | None) -> str:
    return "whole shares" if step is None else f"slices of {size(step)}"
