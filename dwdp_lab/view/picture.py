"""A picture that a notebook shows as it is: no widget, no JavaScript, readable on GitHub too."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dwdp_lab.timeline.span import Timeline
from dwdp_lab.timeline.svg import timeline_svg


@dataclass(frozen=True)
class Picture:
    """An SVG. As the last value of a notebook's cell it is shown."""

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"Picture({len(self.svg):,} characters of SVG)"

    def save(self, path: str | Path) -> Path:
        """Write the SVG to a file and return its path."""
        path = Path(path)
        path.write_text(self.svg, encoding="utf-8")
        return path


def timeline_picture(timelines: Timeline | Sequence[Timeline], width: int = 960, title: str = "") -> Picture:
    """`timeline_svg` for a notebook."""
    return Picture(timeline_svg(timelines, width, title))
