"""What a run gave: outputs and routing of each rank's own requests, whichever rank computed them."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.exchange_rows import exchange_objects
from dwdp_lab.execute.cpu.operations import Computation
from dwdp_lab.execute.cpu.setup import Setup
from dwdp_lab.execute.cpu.tokens import Place
from dwdp_lab.model.layers import final_norm
from dwdp_lab.program.micro_batches import micro_batches

Rows = dict[tuple[int, int], Tensor]
"""(step, layer) to [tokens, k], the experts each MoE layer chose; under the number of layers the outputs, [tokens, H].
A rank that sat out a step has none of its layers, but an output."""


@torch.inference_mode()
def own_rows(setup: Setup, computation: Computation) -> Rows:
    """The rows of this rank's own requests. Ranks of a pipeline hand each other theirs, so all must call this."""
    steps = range(setup.scenario.batches.steps)
    computed = _computed(setup, computation)
    if setup.in_micro_batches:
        return _handed_over(setup, computed)
    found = {(step, layer): rows for (step, _, layer), rows in computed.items()}
    if setup.share is None:
        return found
    counts = [setup.tokens(step) for step in steps]
    starts = [sum(of_step[: setup.rank]) for of_step in counts]
    ends = [sum(of_step[: setup.rank + 1]) for of_step in counts]
    return {(step, layer): rows[starts[step] : ends[step]] for (step, layer), rows in found.items()}


def _computed(setup: Setup, computation: Computation) -> dict[Place, Tensor]:
    """Routing and outputs of all tokens this rank worked on, the outputs under the number of layers."""
    shape = setup.scenario.model
    computed = {place: routing.ids for place, routing in computation.routing.items()}
    for (step, micro), hidden in computation.hidden.items():
        if micro is None or (step, micro, shape.layers - 1) in setup.kv_cache:  # it went through the last layer here
            computed[step, micro, shape.layers] = final_norm(hidden, shape.rms_eps)
    return computed


def _handed_over(setup: Setup, computed: dict[Place, Tensor]) -> Rows:
    """Each micro-batch's rows go to the rank whose requests they are, and are put together there."""
    scenario, shape = setup.scenario, setup.scenario.model
    parts = {step: micro_batches(scenario, step) for step in range(scenario.batches.steps)}
    for_rank: list[list[tuple[int, int, int, Tensor]]] = [[] for _ in range(scenario.ranks)]
    for (step, micro, layer), rows in computed.items():
        if micro is not None:
            for_rank[parts[step][micro].rank].append((micro, step, layer, rows))
    arrived = [entry for theirs in exchange_objects(for_rank) for entry in theirs]
    here: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
    for _, step, layer, rows in sorted(arrived, key=lambda entry: entry[0]):
        here[step, layer].append(rows)
    nothing = torch.empty(0, shape.hidden, dtype=setup.dtype)
    return {(step, shape.layers): nothing for step in parts} | {place: torch.cat(some) for place, some in here.items()}
