"""Jobs that threads do ahead of the one who takes what they give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from curate.data import files as stream
from curate.data.files import in_order

JOBS = 40


def failing(at: int) -> Iterator[Callable[[], int]]:
    """Jobs that give their number, but for one."""

    def job(number: int) -> int:
        if number == at:
            raise ZeroDivisionError
        return number

    return (partial(job, number) for number in range(JOBS))


def test_what_came_before_a_failed_job_is_given_and_its_error_comes_out() -> None:
    given = []
    with pytest.raises(ZeroDivisionError):
        for number in in_order(failing(at=5)):
            given.append(number)
    assert given == [0, 1, 2, 3, 4]


def test_only_a_few_jobs_are_done_ahead_however_slowly_the_results_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST_THREADS", 2)
    done: list[int] = []
    for taken, _ in enumerate(in_order(partial(done.append, n) for n in range(JOBS))):
        assert len(done) <= taken + 2 * stream.RESULTS_AHEAD
    assert len(done) == JOBS


def test_no_thread_is_left_when_the_results_are_no_longer_wanted() -> None:
    results = in_order(partial(abs, n) for n in range(10**9))
    assert next(results) == 0
    results.close()
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("curate-read")]
