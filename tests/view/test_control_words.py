"""What the control room says in HTML."""

from __future__ import annotations

import re

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.run import run_sim
from dwdp_lab.timeline.metrics import metrics
from dwdp_lab.view.control.words import errors_table, numbers
from dwdp_lab.view.simulated_measured import KindError, errors_text


def test_the_tokens_of_a_rank_are_per_step_as_the_times_beside_them() -> None:
    run = run_sim(
        Scenario.create(
            model="tiny",
            group={"ranks": 2},
            workload={"kind": "cv", "cv": 0.0, "tokens_per_rank": 1024, "steps": 4},
        )
    )
    assert run.tokens == (4096, 4096)
    said = numbers([run], [metrics(run)])
    assert re.search(r"per step, by rank.*rank 0</th><td>1,024</td>", said)
    assert "4,096" not in said


def test_an_error_that_rounds_to_nothing_has_no_minus() -> None:
    near = [KindError("step", 0.9996, 1.0), KindError("pull", 0.9, 1.0)]
    for said in (errors_table(near), errors_text(near)):
        assert "+0 %" in said
        assert "-0 %" not in said
        assert "-10 %" in said
