"""What a rank keeps between runs, and lets go of: there may be no room for two models."""

from __future__ import annotations

import weakref
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from tiny_models import tiny_model, token_ids, transformers_here
from torch import nn

from dwdp_lab.execute.hf import gpu_loaded, loaded
from dwdp_lab.execute.hf.asking import BroughtExperts, brought
from dwdp_lab.execute.hf.order import HfOrder
from dwdp_lab.execute.hf.run_model import hf_scenario
from dwdp_lab.model.hf.expert_source import OwnWeights, source_of
from dwdp_lab.model.hf.experts_module import experts_modules
from dwdp_lab.program.build import build


class Alone:
    """The session of the only rank there is."""

    rank, ranks = 0, 1

    class channel:  # noqa: N801 (stands for an object)
        sent: ClassVar[list[Any]] = []
        send = sent.append


class HostDevice:
    torch_device = torch.device("cpu")

    def synchronize(self) -> None:
        pass


def order_of(folder: Path) -> HfOrder:
    prompts = [token_ids(1, 5).tolist()]
    scenario = hf_scenario(1, folder, prompts, strategy={"name": "replicated"})
    return HfOrder(str(folder), None, scenario, build(scenario), prompts, 0, False)  # type: ignore[arg-type]


@pytest.mark.parametrize("machine", ["cpu", "cuda"])
def test_the_model_before_is_gone_when_another_is_read(
    tmp_path: Path, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers_here()
    orders = []
    for number in range(2):
        tiny_model("qwen3_moe", seed=number).save_pretrained(tmp_path / str(number))
        orders.append(order_of(tmp_path / str(number)))
    session: Any = Alone()
    room = loaded if machine == "cpu" else gpu_loaded

    def load(order: HfOrder) -> Any:
        rank: Any = type("Rank", (), {"device": HostDevice(), "ipc": None})
        return loaded.load(session, order) if machine == "cpu" else gpu_loaded.gpu_load(session, rank, order)

    held = [weakref.ref(load(orders[0]).model)]
    assert load(orders[0]).model is held[0]()
    alive: list[bool] = []
    read = loaded.model_of

    def looks(order: HfOrder) -> Any:
        alive.append(held[0]() is not None)
        return read(order)

    monkeypatch.setattr(room, "model_of", looks)
    load(orders[1])
    assert alive == [False]


def test_what_brought_a_runs_experts_is_not_held_by_the_model() -> None:
    """Slots, tables and, on a GPU, whole weights hang on it."""

    class Nothing:
        def begin(self) -> None: ...
        def end(self) -> None: ...

    model = tiny_model("qwen3_moe")
    modules: dict[int, nn.Module] = dict(enumerate(experts_modules(model).values()))
    experts: Any = Nothing()
    gone = weakref.ref(experts)
    given: BroughtExperts = experts
    with brought(model, modules, given):
        assert not isinstance(source_of(modules[0]), OwnWeights)
    del experts, given
    assert gone() is None
    assert isinstance(source_of(modules[0]), OwnWeights)
