"""At the edge where a pull just fits behind compute: what does and what does not decide how much is exposed."""

from __future__ import annotations

import random

import pytest

from dwdp_lab.program.operation import Kind, Work
from dwdp_lab.simulate.contention_sharing import sharing_probabilities
from dwdp_lab.simulate.cost import CostModel, Piece
from dwdp_lab.simulate.hardware import load_hardware
from dwdp_lab.simulate.outcome import Outcome, outcome
from dwdp_lab.simulate.paper_data import paper_scenario
from dwdp_lab.simulate.physics import REALISTIC
from dwdp_lab.simulate.reached import Number

EDGE = {"isl_tokens": 8192, "isl_ratio": 0.5, "mnt_tokens": 16384}


def _edge(egress: float | None = None) -> Outcome:
    hardware = load_hardware("gb200")
    if egress is not None and hardware.reached is not None:
        number = Number(value=egress, source="for this test")
        hardware = hardware.model_copy(update={"reached": hardware.reached.model_copy(update={"egress": number})})
    return outcome(paper_scenario("dwdp", EDGE, {"peer_order": "ascending"}), hardware, REALISTIC)


def test_kernels_that_vary_do_not_take_ranks_that_share_sources_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks already meet as often as ones that pick their sources at random: more randomness changes nothing."""
    steady = _edge()
    for readers, share in sharing_probabilities(4).items():
        assert steady.readers_share[readers] == pytest.approx(share, abs=0.05)
    given, draw = CostModel.pieces, random.Random(1)

    def varied(self: CostModel, work: tuple[Work, ...], kind: Kind | None = None) -> tuple[Piece, ...]:
        longer = max(0.5, draw.gauss(1.0, 0.05))
        return tuple(piece._replace(alone_us=piece.alone_us * longer) for piece in given(self, work, kind))

    monkeypatch.setattr(CostModel, "pieces", varied)
    assert _edge().metrics.step_ms == pytest.approx(steady.metrics.step_ms, rel=0.03)


def test_a_source_that_gives_more_than_one_reader_takes_exposes_less() -> None:
    known = load_hardware("gb200").reached
    assert known is not None
    as_one_takes, more = _edge(known.link.value), _edge(1.0)
    assert as_one_takes == _edge()
    assert more.metrics.exposed_copy_ms < 0.7 * as_one_takes.metrics.exposed_copy_ms
    assert more.pull_ms < as_one_takes.pull_ms
