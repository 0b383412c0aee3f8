"""Routing and outputs of all tokens that a CPU rank has worked on."""

from __future__ import annotations

import torch
from torch import Tensor

from dwdp_lab.execute.cpu.operations import Computation
from dwdp_lab.execute.cpu.setup import Setup
from dwdp_lab.execute.tokens import Place
from dwdp_lab.model.layers import final_norm


@torch.inference_mode()
def computed_rows(setup: Setup, computation: Computation) -> dict[Place, Tensor]:
    """The experts [tokens, k] that each layer chose; the outputs [tokens, H] under the number of layers."""
    shape = setup.scenario.model
    computed = {place: routing.ids for place, routing in computation.routing.items()}
    for (step, micro), hidden in computation.hidden.items():
        if micro is None or (step, micro, shape.layers - 1) in setup.kv_cache:  # it went through the last layer here
            computed[step, micro, shape.layers] = final_norm(hidden, shape.rms_eps)
    return computed
