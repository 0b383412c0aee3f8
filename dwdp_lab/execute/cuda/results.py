"""What a run gave: outputs and routing of each rank's own requests, whichever rank computed them."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.tokens import Place
from dwdp_lab.execute.cuda.setup import Setup
from dwdp_lab.program.micro_batches import micro_batches

Rows = dict[tuple[int, int], Tensor]
"""(step, layer) to [tokens, k], the experts that each MoE layer chose; to [tokens, H], the outputs, under the number of
layers."""


def own_rows(setup: Setup, computed: dict[Place, Tensor]) -> Rows:
    """The rows of this rank's own requests. Ranks of a pipeline hand each other theirs, so all must call this."""
    if setup.in_micro_batches:
        return _handed_over(setup, computed)
    found = {(step, layer): rows for (step, _, layer), rows in computed.items()}
    if setup.share is None:
        return found
    cuts = {}
    for step in range(setup.scenario.batches.steps):
        start = sum(setup.sizes(step)[: setup.rank])
        cuts[step] = slice(start, start + setup.sizes(step)[setup.rank])
    return {(step, layer): rows[cuts[step]] for (step, layer), rows in found.items()}


def _handed_over(setup: Setup, computed: dict[Place, Tensor]) -> Rows:
    """Each micro-batch's rows go to the rank whose requests they are, and are put together there."""
    scenario, layers = setup.scenario, setup.shape.layers
    parts = {step: micro_batches(scenario, step) for step in range(scenario.batches.steps)}
    for_rank: list[list[tuple[int, int, int, Tensor]]] = [[] for _ in range(scenario.ranks)]
    for (step, micro, layer), rows in computed.items():
        if micro is not None:
            for_rank[parts[step][micro].rank].append((micro, step, layer, rows))
    arrived = [entry for theirs in setup.met.deal(for_rank) for entry in theirs]
    here: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
    for _, step, layer, rows in sorted(arrived, key=lambda entry: entry[0]):
        here[step, layer].append(rows)
    nothing = torch.empty(0, setup.shape.hidden, dtype=setup.dtype)
    return {(step, layers): nothing for step in parts} | {place: torch.cat(some) for place, some in here.items()}
