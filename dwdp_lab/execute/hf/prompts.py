"""The prompts of each rank, as token ids."""

from __future__ import annotations

from collections.abc import Sequence
from operator import index

from dwdp_lab.scenario.errors import ScenarioError

Prompts = Sequence[Sequence[Sequence[int]]]
"""Per rank its prompts, as token ids; a rank's are all of one length. Integer tensors [prompts, length] do as well."""
TokenIds = tuple[tuple[tuple[int, ...], ...], ...]
_FORM = "needs a list per rank, of prompts that are lists of token ids: [[[1, 2, 3]], [[4, 5]]] for two ranks"


def token_ids(prompts: Prompts, ranks: int) -> TokenIds:
    """The prompts as plain numbers.

    Raises ScenarioError for another number of ranks, for what are no token ids, and for a rank's prompts of different
    lengths or none at all.
    """
    try:
        given = [list(mine) for mine in prompts]
    except TypeError:
        raise ScenarioError("prompts", prompts, _FORM) from None
    if len(given) != ranks:
        raise ScenarioError("prompts", len(given), f"needs the prompts of each of the {ranks} ranks", "[] for none")
    found = []
    for rank, mine in enumerate(given):
        try:
            numbers = tuple(tuple(index(token) for token in prompt) for prompt in mine)
        except TypeError:
            hint = "text becomes token ids by its model's tokenizer"
            raise ScenarioError(f"prompts[{rank}]", given[rank], _FORM, hint) from None
        if len(lengths := {len(prompt) for prompt in numbers}) > 1 or 0 in lengths:
            raise ScenarioError(
                f"prompts[{rank}]", sorted(lengths), "a rank's prompts need to be of one length, 1 or more tokens"
            )
        found.append(numbers)
    return tuple(found)


def check_known(prompts: TokenIds, vocab: int) -> None:
    """Raises ScenarioError for a token that the model has no embedding of: a GPU would stop at it without a reason."""
    for rank, mine in enumerate(prompts):
        for token in (token for prompt in mine for token in prompt):
            if not 0 <= token < vocab:
                raise ScenarioError(
                    f"prompts[{rank}]",
                    token,
                    f"must be from 0 to {vocab - 1}: the model's vocabulary has {vocab} tokens",
                    "take the tokenizer that belongs to the checkpoint",
                )
