"""What a run that did not end well raises in the session that asked for it, and how a process ended."""

from __future__ import annotations

import contextlib
import signal


class RunStopped(RuntimeError):  # noqa: N818 - a stop is no error
    """The ranks were stopped while they ran. They start again with the next run."""


class RankFailed(RuntimeError):  # noqa: N818 - reads better where it is caught
    """A rank raised an exception or died. All ranks have been ended; they start again with the next run.

    `rank` is None when the launcher itself failed. `traceback_text` is the rank's traceback, or how it died
    (`killed by SIGKILL`); `log_tail` the last lines the rank wrote.
    """

    def __init__(self, rank: int | None, traceback_text: str, log_tail: str = "") -> None:
        self.rank = rank
        self.traceback_text = traceback_text
        self.log_tail = log_tail
        who = "the launcher" if rank is None else f"rank {rank}"
        log = f"\n--- last lines of its log ---\n{log_tail.rstrip()}" if log_tail.strip() else ""
        super().__init__(f"{who}: {traceback_text.rstrip()}{log}")

    def __reduce__(self) -> tuple[type[RankFailed], tuple[int | None, str, str]]:
        return type(self), (self.rank, self.traceback_text, self.log_tail)


def how_it_ended(returncode: int) -> str:
    """`killed by SIGKILL`, `ended with exit code 3`."""
    if returncode < 0:
        with contextlib.suppress(ValueError):
            return f"killed by {signal.Signals(-returncode).name}"
        return f"killed by signal {-returncode}"
    return f"ended with exit code {returncode}"
