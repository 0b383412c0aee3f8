"""Two rank processes as the notebooks start them: DWDP with real pulls, against `replicated` bit for bit."""

from __future__ import annotations

from typing import NamedTuple

START_S = 60.0  # whoever asks has a shorter limit


class RankFacts(NamedTuple):
    pulled_bytes: float
    equal: bool


def probe() -> RankFacts:
    from dwdp_lab.execute.ranks import Ranks
    from dwdp_lab.scenario.scenario import Scenario

    scenario = Scenario.create(model="tiny", group={"ranks": 2})
    with Ranks(scenario.ranks, start_timeout_s=START_S) as ranks:
        dwdp, replicated = (ranks.run(scenario.with_strategy(name)) for name in ("dwdp", "replicated"))
    pulled = sum(span.nbytes for span in dwdp.timeline.spans if span.kind == "pull")
    return RankFacts(pulled, dwdp.output_sha256 == replicated.output_sha256)
