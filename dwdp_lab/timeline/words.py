"""Numbers and results in words, the same in every picture and panel."""

from __future__ import annotations

from textwrap import fill

from dwdp_lab.timeline.metrics import StepTime

WIDE, COLUMNS = 120, 110
"""Of a line that is wider, notebooks break words where their own width ends."""


def figures(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, thousands separated and never in exponent form.

    >>> figures(0.012345), figures(41.26), figures(18432.7)
    ('0.0123', '41.3', '18,433')
    """
    if value == 0:
        return "0"
    exponent = int(f"{value:.{digits - 1}e}".split("e")[1])  # after rounding: 0.9999 is 1.00
    return f"{value:,.{max(0, digits - 1 - exponent)}f}"


def size(nbytes: float) -> str:
    """Bytes in the largest binary unit that leaves at least one.

    >>> size(1000), size(262144), size(1.5 * 2**20)
    ('1000 B', '256 KiB', '1.5 MiB')
    """
    value, units = float(nbytes), ["B", "KiB", "MiB", "GiB", "TiB"]
    while abs(value) >= 1024 and len(units) > 1:
        value /= 1024
        units.pop(0)
    return f"{value:.4g} {units[0]}"


def summary(values: StepTime) -> str:
    """Step time, where it went and tokens/s, with parts of no length left out."""
    parts = {
        "waiting on peers": values.wait_on_peers_ms,
        "communication": values.communication_ms,
        "exposed copy": values.exposed_copy_ms,
        "idle": values.idle_ms,
    }
    named = [f"{name} {values.share(ms):.1f} %" for name, ms in parts.items() if values.share(ms) >= 0.05]
    spent = ", ".join(["compute " + f"{values.share(values.compute_ms):.1f} %", *named])
    return f"step {figures(values.step_ms)} ms: {spent}; {figures(values.tokens_per_s)} tokens/s per rank"


def wrapped(text: str) -> str:
    """The text with its wide lines broken between words, but for those of tables, which have columns."""
    return "\n".join(
        line
        if len(line) <= WIDE or "  " in line.strip()
        else fill(line, COLUMNS, break_on_hyphens=False, break_long_words=False)
        for line in text.split("\n")
    )
