"""Jobs: what ranks do beside programs, such as measuring their copies.

A job is a function of a module, called on every rank with the rank's session and the same parameters. It is sent by
name, so the session imports nothing that only ranks need. What it is given and what it returns is plain data.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from dwdp_lab.execute.messages import Done, Job
from dwdp_lab.execute.rank_session import RankSession

JobFunction = Callable[[RankSession, Any], Any]


def perform(session: RankSession, job: Job) -> Done:
    """Call the job's function on this rank."""
    return Done(job_function(job.function)(session, job.parameters))


def job_function(name: str) -> JobFunction:
    """The function that `package.module:function` names. Raises ValueError when it names none."""
    module, colon, function = name.partition(":")
    if not colon or not module or not function:
        raise ValueError(f"a job is named package.module:function, not {name!r}")
    found = getattr(import_module(module), function, None)
    if not callable(found):
        raise ValueError(f"{module} has no function {function!r}")
    called: JobFunction = found
    return called
