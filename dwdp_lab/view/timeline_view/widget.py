"""The timeline widget: shows runs under one another, and other runs in their place as fast as they come."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from dwdp_lab.timeline.chrome_trace import chrome_trace
from dwdp_lab.timeline.metrics import StepTime
from dwdp_lab.timeline.span import Timeline
from dwdp_lab.view.picture import Picture, timeline_picture
from dwdp_lab.view.timeline_view.packed import packed, styles_for_page

_PAGE = Path(__file__).parent / "page"
_PARTS = ("runs.js", "draw.js", "view.js", "files.js", "render.js")


class TimelineView(anywidget.AnyWidget):
    """Rows of spans per rank and lane, the links' load below, all runs on one axis in milliseconds.

    Zoom by dragging, point at a span to read what it is, click a pull to see the experts that read what it brought;
    all of it with the keyboard too. Shown as the last value of a cell; `show` replaces what is shown.

    Unlike a plotly figure it costs a few milliseconds to change, whatever the number of spans.
    """

    _esm = "\n".join((_PAGE / name).read_text(encoding="utf-8") for name in _PARTS)
    _css = (_PAGE / "style.css").read_text(encoding="utf-8")
    styles = traitlets.Dict().tag(sync=True)
    picture = traitlets.Dict().tag(sync=True)

    def __init__(self, timelines: Timeline | Sequence[Timeline] = (), link_gbps: Sequence[float | None] = ()) -> None:
        super().__init__(styles=styles_for_page(), picture={"runs": []})
        self.timelines: tuple[Timeline, ...] = ()
        self.on_msg(self._asked)
        self.show(timelines, link_gbps)

    def show(
        self,
        timelines: Timeline | Sequence[Timeline],
        link_gbps: Sequence[float | None] = (),
        measured: Sequence[StepTime | None] = (),
    ) -> None:
        """Show these runs. `link_gbps` gives each run's link speed, where it is known, for the strip below it;
        `measured` their metrics, where they are known already."""
        several = (timelines,) if isinstance(timelines, Timeline) else tuple(timelines)
        self.timelines = several
        self.picture = {
            "runs": [
                packed(run, limit, known)
                for run, limit, known in zip_longest(several, link_gbps[: len(several)], measured[: len(several)])
            ]
        }

    def static(self, title: str = "") -> Picture:
        """What is shown now as an SVG, for where widgets do not work. Raises ValueError when nothing is shown."""
        return timeline_picture(self.timelines, title=title)

    def download(self, name: str, text: str) -> None:
        """Give the person who looks at the page a file."""
        self.send({"file": name}, [text.encode()])

    def _asked(self, _: object, message: dict[str, Any], __: object) -> None:
        asked = message.get("ask")
        if asked == "trace":
            answer = json.dumps(chrome_trace(self.timelines), allow_nan=False)
        elif asked == "picture" and self.timelines:
            answer = self.static().svg
        else:
            return
        self.send({"number": message.get("number")}, [answer.encode()])
