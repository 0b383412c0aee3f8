"""Memory is asked for before anything starts."""

from __future__ import annotations

import pytest

from dwdp_lab.execute.cpu.memory_need import needed_bytes
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.scenario.errors import ScenarioError
from dwdp_lab.scenario.scenario import Scenario


def test_a_model_that_does_not_fit_is_refused_before_ranks_start() -> None:
    ranks = Ranks(2)
    with pytest.raises(ScenarioError, match=r"model = 'mixtral.*GB of memory.*are free.*model\.layers") as caught:
        ranks.run(Scenario.create(model={"preset": "mixtral-8x7b", "layers": 1000}))
    assert caught.value.field == "model"
    assert not ranks.alive


def test_weights_dominate_the_need_of_a_large_model() -> None:
    """Two ranks that keep all of 16 layers' 64 experts: 3 x 2048 x 1024 parameters of 2 bytes each."""
    scenario = Scenario.create(model="olmoe-1b-7b", strategy={"name": "replicated"})
    experts = 2 * 16 * 64 * 3 * 2048 * 1024 * 2
    assert experts < needed_bytes(scenario) < 1.3 * experts
    assert needed_bytes(scenario.with_strategy("dwdp")) < 0.7 * needed_bytes(scenario)
