"""Jobs on rank processes: what ranks do beside programs."""

from __future__ import annotations

import pytest

from dwdp_lab.execute.failures import RankFailed
from dwdp_lab.execute.perform import job_function
from dwdp_lab.execute.ranks import Ranks
from dwdp_lab.measure.transfers.transfers import ABOUT, JOB
from dwdp_lab.scenario.scenario import Scenario


@pytest.mark.ranks
def test_every_rank_answers_in_its_place_and_keeps_running_programs(two_ranks: Ranks) -> None:
    two_ranks.start()
    pids = two_ranks.pids
    assert two_ranks.perform("builtins:getattr", "rank") == [0, 1]  # of the session that each is called with
    assert [about.ways for about in two_ranks.perform(ABOUT, "cpu")] == [("plain",), ("plain",)]
    result = two_ranks.run(Scenario.create(model={"preset": "tiny", "layers": 1}))
    assert len(result.output_sha256) == 2
    assert two_ranks.pids == pids


@pytest.mark.ranks
@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("builtins:divmod", "TypeError"),
        ("dwdp_lab.measure.transfers.transfers:no_such_job", "has no function 'no_such_job'"),
        ("no_such_module:job", "No module named 'no_such_module'"),
    ],
)
def test_a_job_that_fails_says_why_and_leaves_no_process(function: str, words: str) -> None:
    ranks = Ranks(1)
    with pytest.raises(RankFailed) as failed:
        ranks.perform(function, 0)
    assert failed.value.rank == 0
    assert words in failed.value.traceback_text
    assert not ranks.alive


@pytest.mark.parametrize("name", [ABOUT, JOB])
def test_the_jobs_that_are_named_exist(name: str) -> None:
    module, _, function = name.partition(":")
    assert (job_function(name).__module__, job_function(name).__name__) == (module, function)


@pytest.mark.parametrize("name", ["os.getpid", ":getpid", "os:", "os:sep"])
def test_what_is_no_function_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"package\.module:function|has no function"):
        job_function(name)
