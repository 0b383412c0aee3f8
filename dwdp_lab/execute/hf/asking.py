"""Putting a rank's prompts to its model, with experts that a program brings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from dwdp_lab.execute.hf.order import HfOrder
from dwdp_lab.model.hf.expert_source import Compute, give_source, take_source


class BroughtExperts(Protocol):
    """The routed experts of one rank's model, brought by a program that is run once for each pass of the model."""

    def begin(self) -> None:
        """A pass of the model begins, and with it the first pulls."""

    def end(self) -> None:
        """The pass has ended. Raises RuntimeError when the model left out a layer."""

    def run(self, layer: int, ids: Tensor, compute: Compute) -> Tensor:
        """What `compute` makes of the layer's experts, once the program has brought them.

        Raises RuntimeError when another layer is next in the program.
        """


@dataclass
class LayerExperts:
    """The source (model/hf/expert_source.py) of one layer's experts module."""

    experts: BroughtExperts
    layer: int

    def run(self, ids: Tensor, compute: Compute) -> Tensor:
        return self.experts.run(self.layer, ids, compute)


@contextmanager
def brought(model: Any, modules: Mapping[int, nn.Module], experts: BroughtExperts) -> Iterator[None]:
    """In this context the model has these experts; `modules` by decoder layer."""
    for layer, module in modules.items():
        give_source(module, LayerExperts(experts, layer))
    hooks = [
        model.register_forward_pre_hook(lambda *_: experts.begin()),
        model.register_forward_hook(lambda *_: experts.end()),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for module in modules.values():
            take_source(module)  # the model stays for the next run, these experts do not


def warm_up(model: Any, prompts: Tensor) -> None:
    """One pass, untimed: first calls cost several times the rest."""
    _logits(model, prompts, all_positions=False)


def ask(model: Any, prompts: Tensor, order: HfOrder) -> tuple[Tensor | None, Tensor | None]:
    """Logits, or the prompts with the likeliest next words [prompts, length], whichever is asked for."""
    if not order.new_tokens:
        return _logits(model, prompts, order.all_logits), None
    tokens: Tensor = model.generate(
        prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=order.new_tokens, do_sample=False
    )
    return None, tokens.clone()


def _logits(model: Any, prompts: Tensor, all_positions: bool) -> Tensor:
    logits: Tensor = model(prompts, logits_to_keep=0 if all_positions else 1, use_cache=False).logits
    return logits.clone()
