"""Tests of the Triton kernels on an NVIDIA GPU: `make test-gpu`, or pytest -m gpu tests/kernels/gpu."""

from __future__ import annotations

import importlib.util
import os

import pytest
import torch

if importlib.util.find_spec("triton") is None:
    collect_ignore_glob = ["test_*.py"]


def why_not() -> str | None:
    """Why these tests cannot run here; None when they can."""
    if not torch.cuda.is_available():
        return "no NVIDIA GPU here"
    if os.environ.get("TRITON_INTERPRET") == "1":
        return "TRITON_INTERPRET=1: the kernels would run on the CPU"
    return None


@pytest.fixture(autouse=True)
def a_gpu() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)
