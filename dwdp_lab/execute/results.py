"""What a run gave: outputs and routing of each rank's own requests, whichever rank computed them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from dwdp_lab.execute.messages import Order
from dwdp_lab.execute.tokens import Place
from dwdp_lab.model.supported import torch_dtype
from dwdp_lab.program.micro_batches import micro_batches
from dwdp_lab.program.operation import ALL_REDUCES

Rows = dict[tuple[int, int], Tensor]
"""(step, layer) to [tokens, k], the experts each MoE layer chose; under the number of layers the outputs, [tokens, H].
A rank that sat out a step has none of its layers, but an output."""
Deal = Callable[[Sequence[Any]], Sequence[Any]]
"""One object to each rank, and what each has for this one, both in rank order."""


def own_rows(order: Order, rank: int, computed: Mapping[Place, Tensor], deal: Deal | None) -> Rows:
    """The rows of this rank's own requests, of those of all tokens it has worked on (outputs under the number of
    layers). Ranks of a pipeline hand each other theirs, so all must call this."""
    if order.in_micro_batches and deal is not None:
        return _handed_over(order, computed, deal)
    found = {(step, layer): rows for (step, _, layer), rows in computed.items()}
    if not order.kinds & ALL_REDUCES:
        return found
    batches, cuts = order.scenario.batches, {}
    for step in range(batches.steps):
        start = sum(batches.tokens(before, step) for before in range(rank))
        cuts[step] = slice(start, start + batches.tokens(rank, step))
    return {(step, layer): rows[cuts[step]] for (step, layer), rows in found.items()}


def _handed_over(order: Order, computed: Mapping[Place, Tensor], deal: Deal) -> Rows:
    """Each micro-batch's rows go to the rank whose requests they are, and are put together there."""
    scenario, shape = order.scenario, order.scenario.model
    parts = {step: micro_batches(scenario, step) for step in range(scenario.batches.steps)}
    for_rank: list[list[tuple[int, int, int, Tensor]]] = [[] for _ in range(scenario.ranks)]
    for (step, micro, layer), rows in computed.items():
        if micro is not None:
            for_rank[parts[step][micro].rank].append((micro, step, layer, rows))
    arrived = [entry for theirs in deal(for_rank) for entry in theirs]
    here: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
    for _, step, layer, rows in sorted(arrived, key=lambda entry: entry[0]):
        here[step, layer].append(rows)
    nothing = torch.empty(0, shape.hidden, dtype=torch_dtype(shape.dtype, "model.dtype"))
    return {(step, shape.layers): nothing for step in parts} | {place: torch.cat(some) for place, some in here.items()}
