"""How a learner's result is written in a message."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dwdp_lab.teach.attempt import shown


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (np.int64(12), "12"),
        (np.float64(0.1), "0.1"),
        (torch.tensor(12), "12"),
        (torch.tensor(0.5), "0.5"),
        (1 / 3, "0.333333"),
        (np.zeros(2), "array of 2"),
        (torch.zeros(2, 3), "tensor of 2 x 3"),
        ([np.zeros(2), np.zeros(1)], "list of 2 arrays"),
        ((torch.zeros(2), 1), "tuple of 2 tensors"),
        ([1, 2], "[1, 2]"),
        ("12", "'12'"),
    ],
)
def test_numbers_are_numbers_and_the_rest_is_what_it_is(value: object, written: str) -> None:
    assert shown(value) == written


def test_nothing_long_is_written() -> None:
    assert len(shown(list(range(1000)))) == 300
