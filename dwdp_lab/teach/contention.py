"""The lesson on contention: many readers, one source."""

from __future__ import annotations

from dwdp_lab.scenario.scenario import Scenario
from dwdp_lab.simulate.contention import measured_levels
from dwdp_lab.teach.chance import LEVEL_PROBABILITY
from dwdp_lab.teach.lesson import lesson_of
from dwdp_lab.teach.peer_orders import PEER_ORDER, slowest_when_together
from dwdp_lab.teach.prediction import Prediction, Revealed
from dwdp_lab.teach.slice_size import SMALLEST_SLICE
from dwdp_lab.teach.waves_exercise import WAVE_PEER


def pulling(**strategy: object) -> Scenario:
    """Four H100s at the edge: computing a layer of Qwen3-30B-A3B takes about as long as pulling its experts."""
    return Scenario.create(
        model={"preset": "qwen3-30b-a3b", "layers": 16},
        group={"ranks": 4},
        strategy={"name": "dwdp", **strategy},
        workload={"kind": "cv", "cv": 0.0, "tokens_per_rank": 20480, "isl_tokens": 2048, "steps": 4},
        hardware="h100",
    )


def _ascending() -> Revealed:
    slowest = {n: slowest_when_together(pulling(peer_order="ascending").replace(group={"ranks": n})) for n in (4, 8)}
    return Revealed(
        slowest[4],
        f"Three ranks begin at rank 0 and get a third of its link each. With 8 ranks it would be {slowest[8]:.1f}.",
    )


def _drift() -> Revealed:
    scenario = pulling(peer_order="rotated").replace(**{"workload.cv": 0.2})
    mean = sum(level * share for level, share in measured_levels(scenario).items())
    return Revealed(
        mean,
        "In phase it is 1. Ranks with unequal work drift apart, and then they meet as if by chance. How often that is, "
        "you work out next.",
    )


LESSON = lesson_of(
    "contention",
    "07_contention.ipynb",
    "Contention",
    [PEER_ORDER, LEVEL_PROBABILITY, WAVE_PEER, SMALLEST_SLICE],
    [
        Prediction(
            "contention.ascending",
            "Four ranks start their pulls at the same moment, and each visits its peers in ascending order: rank 0 "
            "reads from 1, 2, 3, rank 1 from 0, 2, 3, and so on. A source's link is shared equally by those who read "
            "from it. How many times as long as alone does the *slowest* rank's pull take?",
            "times",
            0.25,
            _ascending,
        ),
        Prediction(
            "contention.drift",
            "The order is rotated, so ranks in phase never meet: one reader per source. Now the ranks' tokens have a "
            "CV of 20 %, for four steps. How many readers are at a pull's source on average, itself included?",
            "readers",
            0.2,
            _drift,
        ),
    ],
)
