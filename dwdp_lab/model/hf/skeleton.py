"""A model of transformers without its routed experts' weights: all else of it is read from the checkpoint as ever."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dwdp_lab.model.hf.experts_module import experts_modules, weight_names
from dwdp_lab.model.hf.interface import register_experts
from dwdp_lab.model.hf.tensor_files import refused
from dwdp_lab.scenario.errors import ScenarioError


def skeleton(folder: Path, dtype: torch.dtype) -> Any:
    """The causal language model in the folder, in evaluation mode on the CPU, with our experts that still lack weights.

    transformers itself reads it, so names, ties and buffers are as it knows them; of the experts' weights it reads
    nothing and makes no room for them. Raises ScenarioError (field `model`) for a model that our experts do not fit,
    and for a folder that lacks any of its weights.
    """
    transformers = import_module("transformers")
    name = register_experts()
    try:
        # no code of the checkpoint's own is run, and nobody is asked whether it may be
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        classes = _experts_classes(config)
    except ScenarioError:
        raise
    except (ValueError, OSError) as error:
        raise refused(
            folder, f"is no model that transformers {transformers.__version__} can make by its own code: {error}", ""
        ) from error
    # transformers' loader gives every parameter that it finds in the model memory: so there must be none
    with _without_weights(classes), _quiet(transformers):
        model, told = transformers.AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            experts_implementation=name,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            local_files_only=True,
            trust_remote_code=False,
        )
    _check_complete(folder, told)
    return model.eval().requires_grad_(False)


def _check_complete(folder: Path, told: Mapping[str, Collection[Any]]) -> None:
    """transformers draws at random what it does not find, and only warns."""
    wrong = sorted(str(name) for kind in ("missing_keys", "mismatched_keys") for name in told.get(kind, ()))
    if wrong:
        more = f" and {len(wrong) - 1} others" if len(wrong) > 1 else ""
        raise refused(
            folder,
            f"lacks {wrong[0]}{more}, or has it in another size than its config says",
            "download it again, with the config.json that belongs to it",
        )


def _experts_classes(config: Any) -> set[type[nn.Module]]:
    auto = import_module("transformers").AutoModelForCausalLM
    with torch.device("meta"):
        return {type(module) for module in experts_modules(auto.from_config(config, trust_remote_code=False)).values()}


@contextmanager
def _without_weights(classes: set[type[nn.Module]]) -> Iterator[None]:
    """In this context experts modules are made without the two weights of all experts."""
    makers: dict[type[nn.Module], Any] = {kind: kind.__init__ for kind in classes}

    def without(make: Any) -> Any:
        def made(self: nn.Module, *arguments: Any, **options: Any) -> None:
            make(self, *arguments, **options)
            for name in weight_names(self):
                self.register_parameter(name, None)
            self.__dict__["_is_hf_initialized"] = True  # transformers would draw what it does not find

        return made

    for kind, make in makers.items():
        kind.__init__ = without(make)  # type: ignore[method-assign]
    try:
        yield
    finally:
        for kind, make in makers.items():
            kind.__init__ = make  # type: ignore[method-assign]


@contextmanager
def _quiet(transformers: Any) -> Iterator[None]:
    """transformers warns of weights that it does not use: the experts'."""
    before = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers.logging.set_verbosity(before)
