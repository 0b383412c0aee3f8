"""Keeping Python's garbage collector out of what is timed.

A full pass looks at every container object: some 200,000 once torch is loaded, for 70 ms or more. On a rank it comes
when runs have made enough objects, and halts all lanes, or lets the host fall behind the GPU that it queues work for.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def keep_what_is_loaded() -> None:
    """Collections of this process look at nothing that is there now: modules stay, and need not be looked at again."""
    gc.collect()
    gc.freeze()


@contextmanager
def no_collection() -> Iterator[None]:
    """Nothing is collected within; what is without cycles is given back as ever."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
