"""What the room shows: the knobs' scenario or a run of the history, beside what it is compared with."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.physics import BOUND
from dwdp_lab.view.control import words
from dwdp_lab.view.control.choices import Choice
from dwdp_lab.view.control.comparisons import Subject, comparison, comparisons
from dwdp_lab.view.control.dispatcher import Dispatcher
from dwdp_lab.view.control.face import Face
from dwdp_lab.view.control.history import History, Run
from dwdp_lab.view.control.scene import Scene, scene

AT_ONCE_S = 0.2
"""A picture that took longer is drawn in the background, so that buttons still answer."""


@contextmanager
def _unswept() -> Iterator[None]:
    """No garbage collection meanwhile: in a session with torch and plotly a full one takes longer than a picture."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


class Showing:
    """What takes long to draw is drawn in a thread of its own, where only the newest request matters. A picture that
    takes a blink is drawn at once: two threads that take turns would need half as long again.

    `compared` is the person's wish; `now` what it comes to. `physics` is that of
    all that is simulated here. `changed` is called when a hand chooses another one.
    """

    def __init__(
        self,
        face: Face,
        history: History,
        compared: str,
        changed: Callable[[str], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self.compared = compared
        self.physics = BOUND
        self.scene: Scene | None = None
        self._face = face
        self._history = history
        self._changed = changed
        self._offered: tuple[Choice, ...] = ()
        self._offering = False
        self._lock = threading.RLock()
        self._took_s = AT_ONCE_S + 1  # nobody knows yet
        self._failed = failed
        self._dispatcher = Dispatcher("control room live", failed)
        face.compared.observe(self._chosen, names="index")

    def now(self, subject: Subject) -> str:
        """What the wish comes to for a subject."""
        return comparison(self.compared, subject, self._history)

    def show(self, subject: Subject) -> None:
        """Show a scenario, simulated, or a run: at once if the last picture was quick, else soon."""
        now = self.now(subject)
        self._offer(subject, now)
        if self._took_s > AT_ONCE_S or self._dispatcher.busy:
            self._dispatcher.submit(lambda: self._draw(subject, now))
            return
        try:
            self._draw(subject, now)
        except Exception as error:
            self._failed(error)

    def refuse(self, complaint: str) -> None:
        """The knobs say something that cannot be: what was shown stays, paled."""
        self._face.pane.add_class("dwdp-stale")
        self._face.words.value = words.refused(complaint)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until everything is shown. Returns whether that is so."""
        return self._dispatcher.wait(timeout_s)

    def close(self) -> None:
        """Show nothing more."""
        self._dispatcher.close()

    def _offer(self, subject: Scenario | Run, now: str) -> None:
        with self._lock:
            self._offered = comparisons(subject, self._history)
            labels = tuple(choice.label for choice in self._offered)
            listed = self._face.compared
            self._offering = True
            with listed.hold_sync():
                if listed.options != labels:
                    listed.options = labels
                listed.index = [choice.value for choice in self._offered].index(now)
            self._offering = False

    def _chosen(self, change: dict[str, Any]) -> None:
        with self._lock:
            if not self._offering and change["new"] is not None:
                self._changed(self._offered[change["new"]].value)

    def _draw(self, subject: Subject, compared: str) -> None:
        face, began = self._face, time.perf_counter()
        with _unswept():
            self.scene = drawn = scene(subject, compared, self._history, self.physics)
            face.view.show(drawn.timelines, drawn.link_gbps, drawn.metrics)
        face.pane.remove_class("dwdp-stale")
        face.words.value = words.headline(drawn.words)
        face.subject.value = words.subject(subject)
        face.back.layout.display = None if isinstance(subject, Run) else "none"
        face.errors.value = words.errors_table(drawn.errors)
        face.numbers.value = words.numbers(drawn.timelines, drawn.metrics)
        self._took_s = time.perf_counter() - began
