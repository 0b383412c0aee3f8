"""Prompts are token ids per rank; what is not, is told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dwdp_lab.execute.hf.prompts import check_known, token_ids
from dwdp_lab.scenario.errors import ScenarioError

PLAIN = (((5, 6), (7, 8)), ())


@pytest.mark.parametrize(
    "given",
    [
        PLAIN,
        [[[5, 6], [7, 8]], []],
        [torch.tensor([[5, 6], [7, 8]]), torch.empty(0, 2)],
        [np.array([[5, 6], [7, 8]]), []],
        ([iter([5, 6]), (7, 8)], ()),
    ],
    ids=["tuples", "lists", "tensors", "arrays", "iterators"],
)
def test_whatever_holds_token_ids_will_do(given: Any) -> None:
    found = token_ids(given, 2)
    assert found == PLAIN
    assert all(type(token) is int for mine in found for prompt in mine for token in prompt)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (5, r"prompts = 5: needs a list per rank"),
        ([None, []], r"prompts = \[None, \[\]\]: needs a list per rank"),
        ([[1, 2], [3]], r"prompts\[0\] = \[1, 2\]: .*\[\[\[1, 2, 3\]\], \[\[4, 5\]\]\] for two ranks"),
        ([[], ["some text"]], r"prompts\[1\] = \['some text'\]: .*Text becomes token ids by its model's tokenizer"),
        ([[[1.5]], []], r"prompts\[0\] = \[\[1\.5\]\]"),
        ([[[1]]], r"prompts = 1: needs the prompts of each of the 2 ranks\. \[\] for none"),
        ([[[1], [2, 3]], []], r"prompts\[0\] = \[1, 2\]: a rank's prompts need to be of one length"),
        ([[], [[]]], r"prompts\[1\] = \[0\]: .*1 or more tokens"),
    ],
    ids=str,
)
def test_what_is_none_is_told(given: Any, says: str) -> None:
    with pytest.raises(ScenarioError, match=says):
        token_ids(given, 2)


@pytest.mark.parametrize("token", [-1, 10, 2**70])
def test_tokens_that_the_model_does_not_know_are_refused(token: int) -> None:
    check_known((((0, 9),),), 10)
    with pytest.raises(ScenarioError, match=rf"prompts\[1\] = {token}: must be from 0 to 9"):
        check_known(((), ((0, token),)), 10)
