"""The routed experts in a checkpoint's safetensors files, read one by one: a rank reads its own and no others.

Two forms are known. Most checkpoints have a tensor per expert and projection (`experts.7.gate_proj.weight`; Mixtral
says w1, w3 and w2 for gate, up and down), some one tensor of all experts (`experts.gate_up_proj`, [E, ...]).

Beside the layers of the model a checkpoint may have layers for something else, with experts of their own and counted
from 0 again: `mtp.layers.0` of Qwen3-Next predicts tokens further ahead. So layers go by what their names begin with.
"""

from __future__ import annotations

import re
from collections import defaultdict
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from dwdp_lab.model.hf.experts_module import TYPES, layer_of, stack_of
from dwdp_lab.model.hf.tensor_files import AGAIN, file_of_tensors, refused

_EACH = re.compile(r"\.experts\.(\d+)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight$")
_FUSED = re.compile(r"\.experts\.(gate_up_proj|down_proj)(?:\.weight)?$")
_PART = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}


class ExpertFiles:
    """The experts' tensors of a checkpoint folder, by name; nothing is read before it is asked for.

    `transposed`: tensors of all experts are [E, in, out], as this family's modules keep them. `stack`: what the names
    of the model's layers begin with (`model.`), which is of no importance where the checkpoint's all begin alike. Use
    it as a context.

    Raises ScenarioError (field `model`) for a folder without safetensors files or without experts in them, and where it
    is not clear which tensors are the layers'.
    """

    def __init__(self, folder: Path, transposed: bool, stack: str = "model.") -> None:
        self.folder = folder
        self.transposed = transposed
        self._open: dict[str, Any] = {}
        self._files = ExitStack()
        self._file_of = file_of_tensors(folder)
        self._each: dict[tuple[int, int, str], str] = {}
        self._fused: dict[tuple[int, str], str] = {}
        for name in self._names(stack):
            if each := _EACH.search(name):
                self._note(self._each, (layer_of(name), int(each[1]), _PART.get(each[2], each[2])), name)
            elif fused := _FUSED.search(name):
                self._note(self._fused, (layer_of(name), fused[1]), name)

    def _names(self, stack: str) -> list[str]:
        """Of all tensors that are the experts' of the layers of that stack."""
        stacks: dict[str, list[str]] = defaultdict(list)
        for name in self._file_of:
            known = _EACH.search(name) or _FUSED.search(name)
            if known and (begin := stack_of(name)) is not None:
                stacks[begin].append(name)
        if not stacks:
            others = {re.sub(r"\d+", "N", name) for name in self._file_of if ".experts." in name}
            seen = f"; it has {', '.join(sorted(others)[:3])}" if others else ""
            raise refused(
                self.folder,
                f"has no experts' weights that are known by name{seen}",
                "take a bf16 checkpoint of a family that says experts.0.gate_proj.weight, experts.0.w1.weight or "
                "experts.gate_up_proj",
            )
        if stack not in stacks and len(stacks) > 1:
            found = ", ".join(f"{each}layers" for each in sorted(stacks))
            raise refused(
                self.folder,
                f"has experts in {found}, and the model in {stack}layers",
                "rename the tensors of the model's layers as transformers does",
            )
        return stacks[stack] if stack in stacks else next(iter(stacks.values()))

    def _note(self, names: dict[Any, str], key: Any, name: str) -> None:
        if (other := names.setdefault(key, name)) != name:
            raise refused(self.folder, f"has the same weights twice: {other} and {name}", "remove one of them")

    def expert(self, layer: int, expert: int, w13_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """w13 [2I, H], of this size, and w2 [H, I] of one expert. Raises ScenarioError when the checkpoint lacks it."""
        rows, columns = w13_size
        if (layer, "gate_up_proj") in self._fused:
            w13, w2 = (self._one_of_all(layer, name, expert) for name in ("gate_up_proj", "down_proj"))
        else:
            gate, up, w2 = (self._one(layer, expert, part) for part in ("gate_proj", "up_proj", "down_proj"))
            w13 = torch.cat([gate, up])
        if not {w13.dtype, w2.dtype} <= set(TYPES):
            raise refused(
                self.folder,
                f"has expert {expert} of layer {layer} as {w13.dtype}: quantised",
                "take a bf16 checkpoint",
            )
        if w13.shape != (rows, columns) or w2.shape != (columns, rows // 2):
            raise refused(
                self.folder,
                f"expert {expert} of layer {layer} is {list(w13.shape)} and {list(w2.shape)}, and by the config "
                f"{[rows, columns]} and {[columns, rows // 2]}",
                "the config.json beside the checkpoint has to be its own",
            )
        return w13, w2

    def _one(self, layer: int, expert: int, part: str) -> Tensor:
        name = self._each.get((layer, expert, part))
        if name is None:
            raise refused(self.folder, f"lacks {part} of expert {expert} of layer {layer}", AGAIN)
        tensor: Tensor = self._file(name).get_tensor(name)
        return tensor

    def _one_of_all(self, layer: int, part: str, expert: int) -> Tensor:
        name = self._fused.get((layer, part))
        if name is None:
            raise refused(self.folder, f"lacks {part} of layer {layer}", AGAIN)
        tensor: Tensor = self._file(name).get_slice(name)[expert : expert + 1][0]
        return tensor.T if self.transposed else tensor

    def _file(self, name: str) -> Any:
        file = self._file_of[name]
        if file not in self._open:
            self._open[file] = self._files.enter_context(self._reader(file))
        return self._open[file]

    def _reader(self, file: str) -> Any:
        path = self.folder / file
        if not path.is_file():
            raise refused(self.folder, f"lacks its file {file}", AGAIN)
        return import_module("safetensors").safe_open(path, framework="pt")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.clear()
        self._files.close()
