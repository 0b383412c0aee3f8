"""Tests of the Triton kernels on the CPU, under Triton's interpreter.

It has to be switched on before anything imports triton, so these run in a process of their own, which
test_under_the_interpreter.py starts; or by hand: TRITON_INTERPRET=1 pytest tests/kernels/interpreted
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

if os.environ.get("TRITON_INTERPRET") != "1":
    collect_ignore_glob = ["test_*.py"]

# some thirty cases each: the interpreter takes a tenth of a second for one
settings.register_profile(
    "interpreter", deadline=None, max_examples=30, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("interpreter")
