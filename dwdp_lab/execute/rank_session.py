"""A rank's end of the conversation with the session that started it."""

from __future__ import annotations

import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from dwdp_lab.execute.channel import Channel
from dwdp_lab.execute.messages import Failed, Gather, Gathered, Job, Order
from dwdp_lab.execute.run_folder import remove_run_folder


class RankSession:
    """Orders come in, reports go out, and all ranks can gather what each of them has.

    A thread always listens, also while the rank computes: when the connection ends, so does this process, at
    once and without asking anyone (the session may have been killed; a collective may never return).
    """

    def __init__(self, channel: Channel, rank: int, ranks: int, folder: Path) -> None:
        self.channel = channel
        self.rank = rank
        self.ranks = ranks
        self.folder = folder
        self.before_leaving: list[Callable[[], object]] = []
        """Called, in the thread that listens, when this process ends with its connection. They must not take long."""
        self.orders: queue.SimpleQueue[Order | Job] = queue.SimpleQueue()
        self._gathered: queue.SimpleQueue[tuple[Gathered, list[int]]] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="session", daemon=True).start()

    def _listen(self) -> NoReturn:
        try:
            while True:
                message, fds = self.channel.receive()
                if isinstance(message, Gathered):
                    self._gathered.put((message, fds))
                else:
                    self.orders.put(message)
        except (EOFError, OSError):
            self.leave(0)
        except BaseException:
            traceback.print_exc()
            self.leave(1)

    def leave(self, code: int) -> NoReturn:
        """End this process. Every rank removes the run folder, so that the last one leaves nothing."""
        remove_run_folder(self.folder)
        for last_act in self.before_leaving:
            with suppress(Exception):
                last_act()
        os._exit(code)

    def gather(self, name: str, value: Any, fds: Sequence[int] = ()) -> tuple[tuple[Any, ...], list[int]]:
        """All ranks' values in rank order and all ranks' files, once every rank has called this with this name.

        Where all that are left wait at different names, the session ends them and says so.
        """
        self.channel.send(Gather(name, value), fds)
        answer, received = self._gathered.get()
        return answer.values, received

    def report_failure(self) -> None:
        """Tell the session about the exception being handled."""
        self.channel.send(Failed(traceback.format_exc(), time.monotonic_ns()))
