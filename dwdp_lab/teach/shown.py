"""What exercises show: words, and where it helps a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dwdp_lab.timeline.words import wrapped
from dwdp_lab.view.charts.chart import Chart
from dwdp_lab.view.charts.heat_map import HeatMap
from dwdp_lab.view.picture import Picture


class Text(str):
    """A text that a notebook shows as it is, without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return wrapped(self)


@dataclass(frozen=True)
class Shown:
    """Words and perhaps a picture. As the last value of a cell both are shown."""

    words: str
    picture: Picture | None = None

    def __repr__(self) -> str:
        return wrapped(self.words)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        print(repr(self))
        if self.picture is not None:
            display(self.picture)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Gallery:
    """Words and any number of pictures below them. As the last value of a cell all are shown."""

    words: str
    pictures: tuple[Chart | HeatMap, ...] = ()

    def __repr__(self) -> str:
        return wrapped(self.words)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        print(repr(self))
        for picture in self.pictures:
            display(picture)  # type: ignore[no-untyped-call]


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Columns as wide as they need to be, the first to the left and the others to the right."""
    cells = [list(header), *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
