"""One thread for work that must not block the kernel; of the jobs that wait only the newest is kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

Job = Callable[[], None]


class Dispatcher:
    """Runs jobs one at a time in a daemon thread of its own, which starts with the first job.

    `failed` gets what a job raises. After `idle_s` seconds without a job `on_idle` is called once, in the same thread.
    """

    def __init__(
        self,
        name: str,
        failed: Callable[[BaseException], None],
        idle_s: float | None = None,
        on_idle: Job | None = None,
    ) -> None:
        self.name = name
        self._failed = failed
        self._idle_s = idle_s
        self._on_idle = on_idle
        self._changed = threading.Condition()
        self._waiting: Job | None = None
        self._busy = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def submit(self, job: Job) -> None:
        """Run the job when the one that runs has ended. A job that waits already is dropped for it."""
        with self._changed:
            if self._closed:
                return
            self._waiting = job
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def drop_waiting(self) -> bool:
        """Forget the job that waits. Returns whether there was one."""
        with self._changed:
            dropped = self._waiting is not None
            self._waiting = None
            self._changed.notify_all()
            return dropped

    @property
    def busy(self) -> bool:
        """A job runs or waits."""
        return self._busy or self._waiting is not None

    @property
    def waiting(self) -> bool:
        """A job waits for the one that runs."""
        return self._busy and self._waiting is not None

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until no job runs or waits. Returns whether that is so."""
        with self._changed:
            return self._changed.wait_for(lambda: not self.busy, timeout_s)

    def close(self) -> None:
        """Take no more jobs. The one that runs goes on; nobody waits for it."""
        with self._changed:
            self._closed = True
            self._waiting = None
            self._changed.notify_all()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except BaseException as error:
                self._failed(error)
            finally:
                del job  # it may hold a whole run
                with self._changed:
                    self._busy = False
                    self._changed.notify_all()

    def _next(self) -> Job | None:
        idle_from = time.monotonic()
        told = self._on_idle is None or self._idle_s is None
        with self._changed:
            while self._waiting is None and not self._closed:
                left = None if told else max(0.0, idle_from + (self._idle_s or 0.0) - time.monotonic())
                if not self._changed.wait(left) and not told and self._on_idle is not None:
                    told = True
                    self._on_idle()
            job, self._waiting = self._waiting, None
            self._busy = job is not None
            return job
