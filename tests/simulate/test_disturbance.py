"""For how long transfers disturb who reads and who is read from, by every kind of links."""

from __future__ import annotations

import pytest

from dwdp_lab.program.operation import Stage
from dwdp_lab.simulate.links import Links, Nodes, PrivateLinks
from dwdp_lab.simulate.one_source_links import OneSourceLinks
from dwdp_lab.simulate.one_source_nodes import OneSourceNodes
from dwdp_lab.simulate.shared_links import SharedLinks

NODES = Nodes(2, 5.0)


@pytest.mark.parametrize(
    ("links", "far_us", "of_source"),
    [
        (PrivateLinks(10.0), 5, [(0, 0), (0, 0), (0, 0), (0, 0)]),  # it does not notice
        (OneSourceLinks(4, 10.0, 10.0), 5, [(5, 1), (10, 0), (12, 1), (15, 0)]),
        (OneSourceNodes(4, 10.0, 10.0, None, NODES), 10, [(5, 1), (10, 0), (12, 1), (20, 0)]),
        (SharedLinks(4, 10.0, 10.0), 5, [(5, 1), (10, 0), (12, 1), (15, 0)]),
        (
            SharedLinks(4, 10.0, 10.0, None, NODES),
            10,
            [(5, 1), (10, 0), (11, 0.5), (15, 0)],
        ),  # half of what it can give
    ],
)
def test_pulls_one_after_another(links: Links, far_us: float, of_source: list[tuple[float, float]]) -> None:
    """100 bytes for a neighbour of rank 0 from 0 to 10 us, and 50 for rank 2 from 15 on, perhaps on another node."""
    links.start(1, [Stage(((0, 100.0),))], 0.0)
    seen = []
    assert links.run(5.0) is None
    assert links.disturbed(1, 5.0) == (5.0, 1.0)
    seen.append(links.disturbed(0, 5.0))
    assert links.run(14.0) == (10.0, 1)
    assert links.disturbed(1, 14.0) == (10.0, 0.0)
    seen.append(links.disturbed(0, 14.0))
    links.start(2, [Stage(((0, 50.0),))], 15.0)
    assert links.run(17.0) is None
    assert links.disturbed(2, 17.0) == (2.0, 1.0)
    seen.append(links.disturbed(0, 17.0))
    assert links.run(40.0) == (15.0 + far_us, 2)
    seen.append(links.disturbed(0, 40.0))
    assert links.disturbed(2, 40.0) == (far_us, 0.0)
    assert links.disturbed(3, 40.0) == (0.0, 0.0)
    assert seen == of_source
    links.start(1, [Stage(((3, 100.0),))], 50.0)
    assert links.disturbed(1, 52.0) == (12.0, 1.0)  # and the ten before


@pytest.mark.parametrize(
    "links",
    [OneSourceLinks(4, 10.0, 10.0), OneSourceNodes(4, 10.0, 10.0, None, Nodes(3, 5.0)), SharedLinks(4, 10.0, 10.0)],
)
def test_a_rank_that_reads_while_it_is_read_from_is_disturbed_once(links: Links) -> None:
    """Rank 0 is read from until 10 us, and reads from 4 to 12."""
    links.start(1, [Stage(((0, 100.0),))], 0.0)
    assert links.run(4.0) is None
    links.start(0, [Stage(((2, 80.0),))], 4.0)
    assert links.run(11.0) == (10.0, 1)
    assert links.disturbed(0, 11.0) == (11.0, 1.0)
    assert links.run(20.0) == (12.0, 0)
    assert links.disturbed(0, 20.0) == (12.0, 0.0)


def test_a_pull_over_a_link_of_its_own_takes_all_its_stages() -> None:
    links = PrivateLinks(10.0)
    links.start(1, [Stage(((0, 100.0),)), Stage(((2, 20.0), (3, 30.0)))], 0.0)
    assert links.run(40.0) == (15.0, 1)


def test_two_sources_on_another_node_give_one_reader_no_more_than_reaches_it() -> None:
    """Each could give 5, and 5 is all that rank 0 gets from other nodes; a neighbour's 50 come beside it."""
    links = SharedLinks(4, 10.0, 10.0, None, NODES)
    links.start(0, [Stage(((2, 50.0), (3, 50.0))), Stage(((1, 50.0), (2, 50.0)))], 0.0)
    assert links.run(60.0) == (20.0 + 10.0, 0)
