"""Rows go to the rank whose requests they are, whichever computed them. No rank processes: they are dealt out here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from rank_scenarios import scenario, several_steps
from torch import Tensor

from dwdp_lab.execute.messages import Order
from dwdp_lab.execute.results import Rows, own_rows
from dwdp_lab.execute.tokens import Place, token_batches
from dwdp_lab.program.build import build
from dwdp_lab.program.micro_batches import micro_batches
from dwdp_lab.scenario.scenario import Scenario


def orders(work: Scenario) -> list[Order]:
    programs = build(work)
    kinds = frozenset(op.kind for program in programs for op in program.ops)
    return [Order(work, program, kinds, True, work.strategy.name == "pipeline") for program in programs]


def numbered(rank: int, step: int, first: int, tokens: int) -> Tensor:
    """A row per token that tells whose it is: [tokens, 3] of rank, step and place in the rank's batch."""
    return torch.tensor([[rank, step, first + token] for token in range(tokens)]).view(-1, 3)


def all_own(work: Scenario, rank: int, step: int) -> Tensor:
    return numbered(rank, step, 0, work.batches.tokens(rank, step))


def dealt_out(of_ranks: Sequence[Order], computed: Sequence[dict[Place, Tensor]]) -> list[Rows]:
    """Every rank's own rows, all ranks having dealt each other what they had computed."""
    sent: list[Sequence[Any]] = []

    def note(objects: Sequence[Any]) -> Sequence[Any]:
        sent.append(objects)
        return []

    for rank, order in enumerate(of_ranks):
        own_rows(order, rank, computed[rank], note)
    arrived = list(zip(*sent, strict=True))
    return [own_rows(order, r, computed[r], lambda _, r=r: arrived[r]) for r, order in enumerate(of_ranks)]


@pytest.mark.parametrize("parts", [1, 3])
def test_micro_batches_are_put_together_at_home_in_their_order(parts: int) -> None:
    """Every micro-batch ends on another rank than the one before it, so that they arrive in another order."""
    pipeline = {"strategy.name": "pipeline", "strategy.micro_batches": parts}
    for work in (several_steps(3, **pipeline), scenario(3, [[5, 4, 3, 2], [], [1, 7]], **pipeline)):
        computed: list[dict[Place, Tensor]] = [{} for _ in range(3)]
        for step in range(work.batches.steps):
            for micro, part in enumerate(micro_batches(work, step)):
                for layer in (1, 2, work.model.layers):
                    rows = numbered(part.rank, step, part.first_token, part.tokens)
                    computed[(2 - micro + layer) % 3][step, micro, layer] = rows
        for rank, found in enumerate(dealt_out(orders(work), computed)):
            for step in range(work.batches.steps):
                if work.batches.tokens(rank, step):
                    for layer in (1, 2, work.model.layers):
                        assert torch.equal(found[step, layer], all_own(work, rank, step))
                else:  # a rank that sat out has an output all the same
                    assert (step, 1) not in found
                    assert found[step, work.model.layers].shape == (0, work.model.hidden)
                    assert found[step, work.model.layers].dtype == torch.float32


@pytest.mark.parametrize("strategy", ["tensor", "dwdp"])
def test_a_rank_keeps_its_own_of_all_tokens(strategy: str) -> None:
    work = several_steps(3, **{"strategy.name": strategy})
    for rank, order in enumerate(orders(work)):
        computed: dict[Place, Tensor] = {}
        for (step, micro), batch in token_batches(order, rank).items():
            of_ranks = range(3) if strategy == "tensor" else [rank]
            rows = torch.cat([all_own(work, peer, step) for peer in of_ranks])
            assert len(rows) == sum(chunk.new_tokens for chunk in batch)
            computed |= {(step, micro, layer): rows for layer in (1, work.model.layers)}
        found: Rows = own_rows(order, rank, computed, None)
        assert found.keys() == {(step, layer) for step in range(3) for layer in (1, work.model.layers)}
        assert all(torch.equal(rows, all_own(work, rank, step)) for (step, _), rows in found.items())
