"""Trying a learner's kernel in a process of its own, which a wrong address may end without harm to the notebook."""

from __future__ import annotations

import importlib.util
import inspect
import json
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from dwdp_lab.teach.gemm_cases import GemmCase, Tried

PATIENCE_S = 60.0
"""For one case; the first waits for torch and Triton too."""

HEADER = "import triton\nimport triton.language as tl\n\n\n"


def triton_is_here() -> bool:
    """Triton exists for Linux only."""
    return importlib.util.find_spec("triton") is not None


def function_of(answer: Any) -> Callable[..., Any] | None:
    """The Python function behind a kernel, jitted or not; None for what is none."""
    found = getattr(answer, "fn", answer)
    return found if inspect.isfunction(found) else None


def source_of(function: Callable[..., Any]) -> str:
    """The kernel as a file of its own, with the functions of the same notebook that it calls.

    Raises OSError when Python does not know the function's source.
    """
    parts: dict[str, str] = {}

    def collect(each: Any) -> None:
        for name in each.__code__.co_names:
            value = each.__globals__.get(name)
            called = function_of(value)
            if called is not None and called.__globals__ is each.__globals__ and called.__name__ not in seen:
                seen.add(called.__name__)
                collect(called)
            elif type(value).__name__ == "constexpr":
                parts[name] = f"{name} = tl.constexpr({value.value!r})\n"
        parts[each.__name__] = textwrap.dedent(inspect.getsource(each))

    seen = {function.__name__}
    collect(function)
    return HEADER + "\n\n".join(parts.values())


class Trials:
    """One process that tries kernels, started when it is needed and again when a kernel has ended it.

    Results of the last few kernels are kept: `show` and `check` ask the same. Any thread may call.
    """

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._known: dict[tuple[str, tuple[GemmCase, ...]], list[Tried]] = {}
        self._in_use = threading.Lock()

    def results(self, function: Callable[..., Any], cases: Sequence[GemmCase]) -> list[Tried]:
        """What became of each case. After one that ends the process the others are not tried."""
        source = source_of(function)
        key = source, tuple(cases)
        with self._in_use:
            if key not in self._known:
                self._known = dict(list(self._known.items())[-7:])
                self._known[key] = self._try(source, function.__name__, key[1])
            return self._known[key]

    def _try(self, source: str, name: str, cases: tuple[GemmCase, ...]) -> list[Tried]:
        process = self._started()
        assert process.stdin is not None
        results: list[Tried] = []
        try:
            process.stdin.write(json.dumps({"source": source, "name": name, "cases": cases}) + "\n")
            process.stdin.flush()
            for _ in cases:
                results.append(self._next())
        except (EOFError, OSError, TimeoutError) as error:
            results.append(Tried(error=_ending(process, error)))
            self._process = None
        return results + [Tried(skipped="the case before has ended the process")] * (len(cases) - len(results))

    def _started(self) -> subprocess.Popen[str]:
        if self._process is None or self._process.poll() is not None:
            # -P: a learner's file called signal.py beside the notebook must not become the standard library's
            command = [sys.executable, "-P", "-m", "dwdp_lab.teach.kernel_process"]
            pipe = subprocess.PIPE
            self._process = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True, start_new_session=True
            )
            self._lines = queue.SimpleQueue()
            threading.Thread(target=_listen, args=(self._process, self._lines), daemon=True).start()
            weakref.finalize(self, _close, self._process)
        return self._process

    def _next(self) -> Tried:
        try:
            line = self._lines.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise TimeoutError from None
        if not line:
            raise EOFError
        error, skipped, words, stray, cells = json.loads(line)
        return Tried(error, skipped, words, stray, tuple(cells))


def _listen(process: subprocess.Popen[str], lines: queue.SimpleQueue[str]) -> None:
    """Hand on each line of a process, and an empty one when it has ended."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put("")


def _ending(process: subprocess.Popen[str], error: Exception) -> str:
    """How a process that gives no more results has ended."""
    if isinstance(error, TimeoutError):
        process.kill()
        process.wait()
        return f"has not ended after {PATIENCE_S:.0f} seconds."
    status = process.wait()
    if status < 0:
        return (
            "read or wrote memory that is not there: the process that ran it was ended by "
            f"{signal.Signals(-status).name}. An address is wrong."
        )
    return f"ended the process that ran it, with status {status}."


def _close(process: subprocess.Popen[str]) -> None:
    if process.stdin is not None:
        process.stdin.close()
    process.kill()
    process.wait()


TRIALS = Trials()
"""One process is enough for all exercises."""
