"""What all tests of small tensors share; a folder's conftest takes it in."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

# the first call of a torch function takes long, and no test may depend on the clock
settings.register_profile("torch", deadline=None)
settings.load_profile("torch")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and the ranks use one each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
