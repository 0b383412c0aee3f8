"""Memory is asked for before anything starts."""

from __future__ import annotations

import os
import subprocess
from typing import NamedTuple

import pytest

from dwdp_lab.execute.cpu.memory_need import check_memory, held_bytes, needed_bytes
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario


def test_a_model_that_does_not_fit_is_refused_before_ranks_start() -> None:
    ranks = Ranks(2)
    with pytest.raises(ScenarioError, match=r"model = 'mixtral.*GB of memory.*are free.*model\.layers") as caught:
        ranks.run(Scenario.create(model={"preset": "mixtral-8x7b", "layers": 1000}))
    assert caught.value.field == "model"
    assert not ranks.alive


class _Free(NamedTuple):
    available: float


def test_what_running_ranks_hold_is_not_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process stands for two ranks; as much is free as they need but do not hold."""
    scenario, here = Scenario.create(model="olmoe-1b-7b"), [os.getpid()] * 2
    held = sum(map(held_bytes, here))
    assert held > 0
    monkeypatch.setattr("psutil.virtual_memory", lambda: _Free(needed_bytes(scenario) - held / 2))
    check_memory(scenario, here)
    with pytest.raises(ScenarioError, match="GB are free"):
        check_memory(scenario)
    monkeypatch.setattr("psutil.virtual_memory", lambda: _Free(needed_bytes(scenario) - 2 * held))
    with pytest.raises(ScenarioError, match="GB are free"):
        check_memory(scenario, here)


def test_a_process_that_has_ended_holds_nothing() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert held_bytes(child.pid) == 0


@pytest.mark.ranks
def test_ranks_run_a_second_time_where_only_they_take_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario.create(model="tiny")
    with Ranks(2) as ranks:
        held = sum(map(held_bytes, ranks.pids))
        monkeypatch.setattr("psutil.virtual_memory", lambda: _Free(needed_bytes(scenario) - held / 2))
        assert len(ranks.run(scenario).output_sha256) == 2


def test_weights_dominate_the_need_of_a_large_model() -> None:
    """Two ranks that keep all of 16 layers' 64 experts: 3 x 2048 x 1024 parameters of 2 bytes each."""
    scenario = Scenario.create(model="olmoe-1b-7b", strategy={"name": "replicated"})
    experts = 2 * 16 * 64 * 3 * 2048 * 1024 * 2
    assert experts < needed_bytes(scenario) < 1.3 * experts
    assert needed_bytes(scenario.with_strategy("dwdp")) < 0.7 * needed_bytes(scenario)
