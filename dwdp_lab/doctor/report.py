"""The doctor's report: all findings, and which forms of the lab this machine carries."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass
from typing import Any

from dwdp_lab import __version__
from dwdp_lab.doctor.finding import FORMS, Finding, Form

FORMAT = "dwdp-lab doctor 1"
WIDTH = 110


@dataclass(frozen=True)
class Report:
    """As the last value of a notebook's cell it shows as a table, in a terminal as text."""

    findings: tuple[Finding, ...]
    took_s: float

    @property
    def carries(self) -> dict[Form, bool]:
        """Which forms of the lab can run here."""
        stopped = {form for finding in self.findings for form in finding.stops}
        return {form: form not in stopped for form in FORMS}

    @property
    def worst_first(self) -> tuple[Finding, ...]:
        """The findings as people should read them."""
        return tuple(sorted(self.findings, key=lambda finding: ("fail", "warn", "ok").index(finding.level)))

    @property
    def usable(self) -> bool:
        """The simulator and the notebooks run, with which most of the course can be done."""
        return self.carries["simulator"] and self.carries["notebooks"]

    @property
    def summary(self) -> str:
        """One sentence on what runs, and one for each form that does not, with its reason."""
        here = [form for form, runs in self.carries.items() if runs]
        count = Counter(finding.level for finding in self.findings)
        lines = [
            f"This machine carries: {', '.join(here) or 'nothing of the lab'}. "
            f"({count['ok']} ok, {count['warn']} warn, {count['fail']} fail, in {self.took_s:.0f} s)"
        ]
        for form, runs in self.carries.items():
            if not runs:
                reasons = [f"{one.name}: {one.found}" for one in self.findings if form in one.stops]
                lines.append(f"Not {form}: {'; '.join(reasons)}.")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The form that `--json` writes."""
        return {
            "format": FORMAT,
            "dwdp_lab": __version__,
            "usable": self.usable,
            "carries": dict(self.carries),
            "findings": [finding._asdict() | {"stops": list(finding.stops)} for finding in self.findings],
            "took_s": self.took_s,
        }

    def __repr__(self) -> str:
        lines = []
        for finding in self.worst_first:
            lines.append(f"{finding.level:4}  {finding.name}: {finding.found}")
            if finding.level != "ok":
                lines += textwrap.wrap(finding.meaning, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
                lines += textwrap.wrap(f"Fix: {finding.fix}", WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
        return "\n".join([*lines, "", self.summary])

    def _repr_markdown_(self) -> str:
        rows = ["| | check | found | what it means for the lab |", "|---|---|---|---|"]
        for finding in self.worst_first:
            level = finding.level if finding.level == "ok" else f"**{finding.level}**"
            fix = f"<br>**Fix:** {_cell(finding.fix)}" if finding.fix and finding.level != "ok" else ""
            rows.append(f"| {level} | {finding.name} | {_cell(finding.found)} | {_cell(finding.meaning)}{fix} |")
        return "\n".join([*rows, "", self.summary.replace("\n", "  \n")])


def _cell(text: str) -> str:
    """Text that cannot break out of a Markdown table's cell."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
