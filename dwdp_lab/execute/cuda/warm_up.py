"""Steps before the timed ones on a rank of the CUDA machine: what is done for the first time takes longer."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from dwdp_lab.execute.cuda.compute.decoder_layers import attended
from dwdp_lab.execute.cuda.operations import Computation
from dwdp_lab.execute.cuda.queue_program import Events, queue_program
from dwdp_lab.execute.cuda.rank_machine import RankMachine
from dwdp_lab.execute.cuda.setup import Setup
from dwdp_lab.execute.report import of_steps
from dwdp_lab.program.operation import Op
from dwdp_lab.scenario.scenario import Scenario

MOST_WARM_STEPS = 8


def warm_up(machine: RankMachine, setup: Setup, ops: tuple[Op, ...], steps: Collection[int]) -> None:
    """Run these steps untimed: first calls compile, load and allocate.

    Meanwhile the outputs of all steps have their place, so that the timed run finds as much free memory as it needs.
    """
    chosen = of_steps(ops, steps)
    computation = Computation(setup, machine.device, machine.streams, machine.arithmetic)
    places: list[Tensor] = []
    machine.streams["compute"].run(lambda: places.extend(torch.empty_like(x) for x in setup.inputs.values()))
    events = Events(machine.device, chosen, recorded=False)
    machine.device.synchronize()  # lanes do not wait for torch's default stream, on which all this was prepared
    queue_program(chosen, events, machine.streams, computation.queue, computation.end)
    if setup.attends:
        machine.streams["compute"].run(lambda: _attend_to_other_sizes(machine, setup, steps))
    machine.device.synchronize()
    computation.close()


def _attend_to_other_sizes(machine: RankMachine, setup: Setup, done: Collection[int]) -> None:
    """Attention of batches like which none has run yet: its kernels are planned for each length of requests anew."""
    seen = set()
    for (step, micro, layer), known in setup.attention.items():
        sizes = tuple((chunk.new_tokens, chunk.context_tokens) for chunk in known.batch), layer % 2
        if sizes in seen:
            continue
        seen.add(sizes)
        if step not in done:
            size = setup.rows((step, micro)), setup.shape.hidden
            x = torch.zeros(size, dtype=setup.dtype, device=machine.device.torch_device)
            attended(machine.arithmetic, setup.shape, setup.layers[layer], x, known, layer, setup.kv_of_head)


def warm_steps(scenario: Scenario) -> frozenset[int]:
    """One step of each combination of sizes, the largest ones if there are many; the same on every rank."""
    batches = scenario.batches
    sizes: dict[tuple[int, ...], int] = {}
    for step in range(batches.steps):
        sizes.setdefault(tuple(batches.tokens(rank, step) for rank in range(batches.ranks)), step)
    largest_first = sorted(sizes, key=lambda tokens: (-max(tokens), sizes[tokens]))
    return frozenset(sizes[tokens] for tokens in largest_first[:MOST_WARM_STEPS])
