"""One thread, at most one waiting job."""

from __future__ import annotations

import threading

from dwdp_lab.view.control.dispatcher import Dispatcher

LONG_S = 20.0


def test_of_the_jobs_that_wait_only_the_newest_runs() -> None:
    errors: list[BaseException] = []
    dispatcher = Dispatcher("test", errors.append)
    first_runs, go_on, done = threading.Event(), threading.Event(), []
    dispatcher.submit(lambda: (first_runs.set(), go_on.wait(LONG_S), done.append(0)))
    assert first_runs.wait(LONG_S)
    for number in (1, 2, 3):
        dispatcher.submit(lambda number=number: done.append(number))
    assert dispatcher.waiting
    go_on.set()
    assert dispatcher.wait(LONG_S)
    assert done == [0, 3]
    assert not errors
    assert not dispatcher.busy
    dispatcher.close()


def test_a_job_that_fails_is_told_and_the_next_one_runs() -> None:
    errors: list[BaseException] = []
    dispatcher = Dispatcher("test", errors.append)
    dispatcher.submit(lambda: 1 // 0)
    assert dispatcher.wait(LONG_S)
    done: list[int] = []
    dispatcher.submit(lambda: done.append(1))
    assert dispatcher.wait(LONG_S)
    assert [type(error) for error in errors] == [ZeroDivisionError]
    assert done == [1]
    dispatcher.close()


def test_a_waiting_job_can_be_dropped_and_a_closed_dispatcher_takes_none() -> None:
    dispatcher = Dispatcher("test", lambda _: None)
    first_runs, go_on, done = threading.Event(), threading.Event(), []
    dispatcher.submit(lambda: (first_runs.set(), go_on.wait(LONG_S)))
    assert first_runs.wait(LONG_S)
    assert not dispatcher.drop_waiting()
    dispatcher.submit(lambda: done.append(1))
    assert dispatcher.drop_waiting()
    dispatcher.close()
    dispatcher.submit(lambda: done.append(2))
    go_on.set()
    assert dispatcher.wait(LONG_S)
    assert not done


def test_it_says_once_that_nobody_wants_anything_any_more() -> None:
    told, again = [], threading.Event()
    dispatcher = Dispatcher("test", lambda _: None, idle_s=0.0, on_idle=lambda: (told.append(1), again.set()))
    for expected in (1, 2):
        again.clear()
        dispatcher.submit(lambda: None)
        assert again.wait(LONG_S)
        assert len(told) == expected
    dispatcher.close()
