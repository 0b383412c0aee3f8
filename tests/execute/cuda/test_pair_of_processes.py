"""The pair of processes that other tests use tells a failure. Free of torch, so that the processes start at once."""

from __future__ import annotations

import os

import pytest
from pair_of_processes import PairSession, run_pair


def fail_on_rank_1(session: PairSession, argument: None) -> None:
    del argument
    if session.rank == 1:
        raise ZeroDivisionError
    session.gather("never", None)


def test_a_rank_that_fails_is_told() -> None:
    with pytest.raises(AssertionError, match=r"(?s)rank 1: .*ZeroDivisionError.*rank 0: .*(EOF|Connection|Broken)"):
        run_pair(fail_on_rank_1, None)


def swap(session: PairSession, argument: str) -> tuple[tuple[str, ...], list[bytes]]:
    """Every rank's value, and what is in every rank's files."""
    files = []
    for text in (f"{argument} {session.rank}", "more"):
        reader, writer = os.pipe()
        os.write(writer, text.encode())
        os.close(writer)
        files.append(reader)
    values, received = session.gather("files", f"{session.rank}", files)
    return values, [os.read(fd, 100) for fd in received]


def test_values_and_files_come_in_rank_order() -> None:
    # a pipe is read once: the two ranks together see each text once or an empty rest
    first, second = run_pair(swap, "file of")
    assert first[0] == second[0] == ("0", "1")
    texts = [mine + theirs for mine, theirs in zip(first[1], second[1], strict=True)]
    assert texts == [b"file of 0", b"more", b"file of 1", b"more"]
