"""Where the weights of an experts module come from: its own parameters, or someone who brings them in time."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, Protocol
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from dwdp_lab.model.hf.experts_module import check_weights, weight_names

if TYPE_CHECKING:
    from dwdp_kernels.expert_table import ExpertTable


class Tables(NamedTuple):
    """The addresses of a layer's weights, for the kernels."""

    w13: ExpertTable
    w2: ExpertTable


class ExpertWeights:
    """One [out, in] tensor per expert for each of the two products, wherever each lies; with their tables if there are
    any yet."""

    def __init__(self, w13: tuple[Tensor, ...], w2: tuple[Tensor, ...], tables: Tables | None = None) -> None:
        self.w13 = w13
        self.w2 = w2
        self._tables = tables

    @cached_property
    def tables(self) -> Tables:
        """Made once, as it takes a copy to the device. Raises ValueError for weights that the kernels cannot read."""
        if self._tables is not None:
            return self._tables
        from dwdp_kernels.expert_table import expert_table

        return Tables(expert_table(self.w13), expert_table(self.w2))


Compute = Callable[[ExpertWeights], Tensor]


class ExpertSource(Protocol):
    """Brings the weights of one module."""

    def run(self, ids: Tensor, compute: Compute) -> Tensor:
        """What `compute` makes of the weights, which stay as they are until it is done.

        `ids` [T, k] are the experts that tokens go to: no others need to be there.
        """


class OwnWeights:
    """The module's own parameters, which every rank of a plain model has."""

    def __init__(self, module: nn.Module) -> None:
        self._module = ref(module)  # which is the key to this very source: it would never be given back
        self._weights: ExpertWeights | None = None
        self._of: tuple[int, ...] = ()

    def run(self, ids: Tensor, compute: Compute) -> Tensor:
        del ids  # all experts are there
        return compute(self._current())

    def _current(self) -> ExpertWeights:
        """Parameters may move, as with `model.to(device)`; what was made of others holds them, so none lies there."""
        module = self._module()
        if module is None:
            raise RuntimeError("the experts' module is gone")
        names = weight_names(module)
        of = tuple(getattr(module, name).data_ptr() for name in names)
        if self._weights is None or of != self._of:
            check_weights(module)
            self._weights = None  # before others take as much room
            w13, w2 = (_unbound(getattr(module, name), bool(module.is_transposed)) for name in names)
            self._weights = ExpertWeights(w13, w2)
            self._of = tuple(getattr(module, name).data_ptr() for name in names)
        return self._weights


@torch.inference_mode(False)  # the parameter is to be trained with another implementation afterwards
def _unbound(parameter: nn.Parameter, transposed: bool) -> tuple[Tensor, ...]:
    """Each expert's weight as [out, in], contiguous.

    A transposed parameter keeps its shape and values, but from now on its memory has the order that kernels read.
    """
    weight = parameter.data.transpose(1, 2) if transposed else parameter.data
    if not weight.is_contiguous():
        weight = weight.contiguous()
        parameter.data = weight.transpose(1, 2) if transposed else weight
    return weight.unbind(0)


_SOURCES: WeakKeyDictionary[nn.Module, ExpertSource] = WeakKeyDictionary()


def source_of(module: nn.Module) -> ExpertSource:
    """The module's source: its own weights until it is given another."""
    if module not in _SOURCES:
        _SOURCES[module] = OwnWeights(module)
    return _SOURCES[module]


def give_source(module: nn.Module, source: ExpertSource) -> None:
    """From now on the module's weights come from here, until `take_source`. The source must not hold the module."""
    _SOURCES[module] = source


def take_source(module: nn.Module) -> None:
    """The module's weights are its own again, and what brought them is held by nobody here."""
    _SOURCES.pop(module, None)
