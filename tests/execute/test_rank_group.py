"""What the session makes of its ranks' messages, without any process."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import Pipe

import pytest

from dwdp_lab.execute.channel import Channel
from dwdp_lab.execute.failures import RankFailed
from dwdp_lab.execute.messages import Done, Gather, Gathered
from dwdp_lab.execute.rank_group import RankGroup


@pytest.fixture
def group() -> Iterator[tuple[RankGroup, list[Channel]]]:
    """A group of three, and the ranks' ends of its connections."""
    made = RankGroup(3, "processes")
    pairs = [Pipe() for _ in range(3)]
    made.channels = {rank: Channel(session) for rank, (session, _) in enumerate(pairs)}
    ends = [Channel(end) for _, end in pairs]
    yield made, ends
    for end in ends:
        end.close()
    made.close()


def test_what_all_gather_is_passed_on(group: tuple[RankGroup, list[Channel]]) -> None:
    session, ends = group
    for rank, end in enumerate(ends):
        end.send(Gather("sizes", rank))
        end.send(Done(rank))
    assert sorted(rank for rank, _ in session.messages(until=Done)) == [0, 1, 2]
    for end in ends:
        assert end.receive()[0] == Gathered("sizes", (0, 1, 2))


def test_ranks_at_different_places_are_told_and_not_waited_for(group: tuple[RankGroup, list[Channel]]) -> None:
    session, ends = group
    for end, name in zip(ends, ("opened", "mapped", "opened"), strict=True):
        end.send(Gather(name, None))
    with pytest.raises(RankFailed, match=r"different places \('opened': \[0, 2\]; 'mapped': \[1\]\)") as failed:
        list(session.messages(until=Done))
    assert failed.value.rank == 1


def test_who_has_ended_comes_to_no_gathering(group: tuple[RankGroup, list[Channel]]) -> None:
    session, ends = group
    for end in ends[:2]:
        end.send(Gather("ended", None))
    ends[2].send(Done(None))
    with pytest.raises(RankFailed, match=r"'ended': \[0, 1\]"):
        list(session.messages(until=Done))
