"""What the room says in HTML: the difference, where the time went, errors of the model, trouble."""

from __future__ import annotations

import traceback
from collections.abc import Iterable, Sequence
from html import escape

from dwdp_lab.timeline.metrics import Metrics
from dwdp_lab.timeline.palette import strategy_name
from dwdp_lab.timeline.segments import STATES
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.timeline.words import figures
from dwdp_lab.view.control.comparisons import Subject
from dwdp_lab.view.control.history import Run
from dwdp_lab.view.simulated_measured import KindError

STATE_WORDS = {
    "compute": "compute",
    "communication": "communication",
    "exposed_copy": "exposed copy",
    "wait_on_peers": "waiting on peers",
    "idle": "idle",
}


def headline(words: str) -> str:
    """The difference in words, its first clause large."""
    first, _, rest = words.partition(": ")
    after = f"<span class='dwdp-because'>{escape(rest)}</span>" if rest else ""
    return f"<div class='dwdp-words' role='status'><b>{escape(first)}</b> {after}</div>"


def refused(complaint: str) -> str:
    """The knobs say something that cannot be."""
    return (
        "<div class='dwdp-words' role='status'><b>Not possible</b> "
        f"<span class='dwdp-because'>{escape(complaint)}. Below: the last that was.</span></div>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> str:
    """A table whose first column is words and whose others are numbers."""
    lines = [f"<table class='dwdp-table'><caption>{escape(caption)}</caption><thead><tr>"]
    lines += [f"<th scope='col'>{escape(cell)}</th>" for cell in head]
    lines.append("</tr></thead><tbody>")
    for first, *cells in rows:
        lines.append(f"<tr><th scope='row'>{escape(first)}</th>")
        lines += [f"<td>{escape(cell)}</td>" for cell in cells]
        lines.append("</tr>")
    return "".join(lines) + "</tbody></table>"


def numbers(timelines: Sequence[Timeline], measured: Sequence[Metrics]) -> str:
    """Where the time of each run went, per step and mean over ranks, and each rank's tokens, step and waiting."""
    head = ["per step, mean over ranks", *[f"{strategy_name(t)} ({t.provenance})" for t in timelines]]
    rows = [["step", *[f"{figures(m.step_ms)} ms" for m in measured]]]
    for state in STATES:
        parts = [getattr(m, f"{state}_ms") for m in measured]
        cells = [f"{figures(ms)} ms, {m.share(ms):.1f} %" for ms, m in zip(parts, measured, strict=True)]
        rows.append([STATE_WORDS[state], *cells])
    rows.append(["copies hidden", *[f"{m.overlap_pct:.1f} %" for m in measured]])
    rows.append(["tokens/s per rank", *[figures(m.tokens_per_s) for m in measured]])
    ranks = max(timeline.ranks for timeline in timelines)
    by_rank = []
    for rank in range(ranks):
        cells = []
        for timeline, m in zip(timelines, measured, strict=True):
            here = rank < timeline.ranks
            cells.append(f"{timeline.tokens[rank] / timeline.steps:,.0f}" if here else "")
            cells.append(f"{figures(m.by_rank[rank].step_ms)} ms" if here else "")
            cells.append(f"{m.by_rank[rank].wait_pct:.1f} %" if here else "")
        by_rank.append([f"rank {rank}", *cells])
    heads = [f"{strategy_name(t)} {what}" for t in timelines for what in ("tokens", "step", "waits")]
    return table(head, rows) + table(["per step, by rank", *heads], by_rank)


def errors_table(errors: Sequence[KindError]) -> str:
    """Simulated against measured, kind by kind."""
    if not errors:
        return (
            "<p class='dwdp-quiet'>Shown when a measured run is shown: press Run with the machine set to CPU ranks, or "
            "show one from the history.</p>"
        )
    rows = [
        [
            error.label,
            f"{figures(error.simulated_ms)} ms",
            f"{figures(error.measured_ms)} ms",
            "" if error.error_pct is None else f"{error.error_pct:+z,.0f} %",
        ]
        for error in errors
    ]
    caption = "Per step and rank, hidden or not. The error is the model's: simulated over measured, less one."
    return table(["kind", "simulated", "measured", "error"], rows, caption)


def subject(shown: Subject) -> str:
    """Which run is shown."""
    if isinstance(shown, Run):
        return f"<span class='dwdp-quiet'>Shown: <b>{escape(shown.title)}</b>, {escape(shown.setting)}</span>"
    return "<span class='dwdp-quiet'>Shown: what the knobs say, simulated as you turn them. Run keeps it.</span>"


def traced(error: BaseException) -> str:
    """An error with its traceback."""
    return "".join(traceback.format_exception(error))


def trouble(text: str, advice: str) -> str:
    """What went wrong, and the way out."""
    if not text:
        return ""
    last = text.strip().splitlines()[-1] if "Traceback" in text else text.strip().splitlines()[0]
    return (
        f"<div class='dwdp-trouble' role='alert'><b>{escape(last)}</b><br>{escape(advice)}"
        f"<details><summary>all of it</summary><pre>{escape(text)}</pre></details></div>"
    )
