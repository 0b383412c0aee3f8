"""Runs the tests of the Triton kernels in a process whose triton interprets them on the CPU."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "interpreted"
LEFT_OUT = ("-p", "no:cacheprovider", "-p", "no:nbval")


def why_not() -> str | None:
    """Why the interpreter cannot run here; None when it can."""
    numpy = pytest.importorskip("numpy")
    triton = pytest.importorskip("triton")
    versions = [tuple(int(part) for part in module.__version__.split(".")[:2]) for module in (triton, numpy)]
    if versions[0] < (3, 7) and versions[1] >= (2, 4):
        return "Triton's interpreter before 3.7 needs numpy before 2.4"
    return None


@pytest.mark.timeout(300)
def test_the_kernels_under_the_interpreter() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(FOLDER), "-q", *LEFT_OUT, "--timeout=120"],
        env={**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout
