"""The routed experts in a checkpoint's safetensors files, read one by one: a rank reads its own and no others.

Two forms are known. Most checkpoints have a tensor per expert and projection (`experts.7.gate_proj.weight`; Mixtral
says w1, w3 and w2 for gate, up and down), some one tensor of all experts (`experts.gate_up_proj`, [E, ...]).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from dwdp_lab.model.hf.experts_module import TYPES, layer_of
from dwdp_lab.scenario.errors import ScenarioError

INDEX, SINGLE = "model.safetensors.index.json", "model.safetensors"
_EACH = re.compile(r"\.experts\.(\d+)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight$")
_FUSED = re.compile(r"\.experts\.(gate_up_proj|down_proj)(?:\.weight)?$")
_PART = {"w1": "gate_proj", "w3": "up_proj", "w2": "down_proj"}


class ExpertFiles:
    """The experts' tensors of a checkpoint folder, by name; nothing is read before it is asked for.

    `transposed`: tensors of all experts are [E, in, out], as this family's modules keep them. Use it as a context.
    Raises ScenarioError (field `model`) for a folder without safetensors files or without experts in them.
    """

    def __init__(self, folder: Path, transposed: bool) -> None:
        self.folder = folder
        self.transposed = transposed
        self._open: dict[str, Any] = {}
        self._stack = ExitStack()
        self._file_of = self._index()
        self._each: dict[tuple[int, int, str], str] = {}
        self._fused: dict[tuple[int, str], str] = {}
        others: dict[str, int] = defaultdict(int)
        for name in self._file_of:
            if each := _EACH.search(name):
                self._each[layer_of(name), int(each[1]), _PART.get(each[2], each[2])] = name
            elif fused := _FUSED.search(name):
                self._fused[layer_of(name), fused[1]] = name
            elif ".experts." in name:
                others[re.sub(r"\d+", "N", name)] += 1
        if not self._each and not self._fused:
            seen = f"; it has {', '.join(sorted(others)[:3])}" if others else ""
            raise self._refused(f"has no experts' weights that are known by name{seen}", "take a bf16 checkpoint")

    def expert(self, layer: int, expert: int, w13_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """w13 [2I, H], of this size, and w2 [H, I] of one expert. Raises ScenarioError when the checkpoint lacks it."""
        rows, columns = w13_size
        if (layer, "gate_up_proj") in self._fused:
            w13, w2 = (self._one_of_all(layer, name, expert) for name in ("gate_up_proj", "down_proj"))
        else:
            gate, up, w2 = (self._one(layer, expert, part) for part in ("gate_proj", "up_proj", "down_proj"))
            w13 = torch.cat([gate, up])
        if not {w13.dtype, w2.dtype} <= set(TYPES):
            raise self._refused(
                f"has expert {expert} of layer {layer} as {w13.dtype}: quantised", "take a bf16 checkpoint"
            )
        if w13.shape != (rows, columns) or w2.shape != (columns, rows // 2):
            raise self._refused(
                f"expert {expert} of layer {layer} is {list(w13.shape)} and {list(w2.shape)}, and by the config "
                f"{[rows, columns]} and {[columns, rows // 2]}",
                "the config.json beside the checkpoint has to be its own",
            )
        return w13, w2

    def _one(self, layer: int, expert: int, part: str) -> Tensor:
        name = self._each.get((layer, expert, part))
        if name is None:
            raise self._refused(f"lacks {part} of expert {expert} of layer {layer}", "download it again")
        tensor: Tensor = self._file(name).get_tensor(name)
        return tensor

    def _one_of_all(self, layer: int, part: str, expert: int) -> Tensor:
        name = self._fused.get((layer, part))
        if name is None:
            raise self._refused(f"lacks {part} of layer {layer}", "download it again")
        tensor: Tensor = self._file(name).get_slice(name)[expert : expert + 1][0]
        return tensor.T if self.transposed else tensor

    def _file(self, name: str) -> Any:
        file = self._file_of[name]
        if file not in self._open:
            self._open[file] = self._stack.enter_context(self._reader(file))
        return self._open[file]

    def _reader(self, file: str) -> Any:
        path = self.folder / file
        if not path.is_file():
            raise self._refused(f"lacks its file {file}", "download it again")
        return import_module("safetensors").safe_open(path, framework="pt")

    def _index(self) -> dict[str, str]:
        if (self.folder / INDEX).is_file():
            found: dict[str, str] = json.loads((self.folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
            return found
        if not (self.folder / SINGLE).is_file():
            raise self._refused(f"has neither {INDEX} nor {SINGLE}", "give the folder that config.json is in")
        with self._reader(SINGLE) as file:
            return dict.fromkeys(file.keys(), SINGLE)

    def _refused(self, allowed: str, hint: str) -> ScenarioError:
        return ScenarioError("model", str(self.folder), allowed, hint)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.clear()
        self._stack.close()
