"""What is done before a timed run: attention of every length that the run has."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from rank_scenarios import several_steps
from stand_in_group import StandInGroup, start_at_once

from dwdp_lab.execute.cuda import warm_up
from dwdp_lab.program.build import build
from dwdp_lab.scenario.batches import Batch


def sizes(batch: Batch) -> tuple[tuple[int, int], ...]:
    return tuple((chunk.new_tokens, chunk.context_tokens) for chunk in batch)


def test_attention_of_every_length_is_planned_before_the_clock_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once for each, and for layers with a window and without, where no warming step has it."""
    work = several_steps(2).with_strategy("replicated")
    monkeypatch.setattr(warm_up, "MOST_WARM_STEPS", 1)
    (warm,) = warm_up.warm_steps(work)
    expected: Counter[Any] = Counter()
    for by_step in work.batches.by_rank:
        others = {sizes(batch) for batch in by_step} - {sizes(by_step[warm])}
        expected.update((one, parity) for one in others for parity in {layer % 2 for layer in range(work.model.layers)})
    assert expected, "steps differ"

    start_at_once(monkeypatch)
    attended, found = warm_up.attended, Counter()

    def noted(*given: Any) -> Any:
        found[sizes(given[4].batch), given[5] % 2] += 1
        return attended(*given)

    monkeypatch.setattr(warm_up, "attended", noted)
    StandInGroup(2).run(work, build(work))
    assert found == expected
