"""Groups of rank processes that tests of one module share, because starting one takes a second."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from dwdp_lab.execute.ranks import Ranks

# the oracle's many small products lose a hundredfold when torch's threads wait for each other on a busy machine
torch.set_num_threads(1)


@pytest.fixture(scope="package")
def two_ranks() -> Iterator[Ranks]:
    with Ranks(2) as ranks:
        yield ranks


@pytest.fixture(scope="package")
def three_ranks() -> Iterator[Ranks]:
    with Ranks(3) as ranks:
        yield ranks
