"""What a person is told while a command runs: rows and tokens a second, and the time left."""

from __future__ import annotations

import pytest

from curate.display import lines


class Clock:
    """Shows the time it is set to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def told(unit: str, reports: list[tuple[float, float, int, int]], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What a log says of reports, each the seconds, what is done, of how much, and the tokens since the last one."""
    clock = Clock()
    show = lines(unit, clock)
    for clock.now, done, total, tokens in reports:
        show("loss", done, total, tokens)
    return capsys.readouterr().err.splitlines()


def test_time_left_follows_the_work_done_since_the_first_report(capsys: pytest.CaptureFixture[str]) -> None:
    kept = 2000  # rows of an earlier run
    reports = [(100.0, kept, 5000, 0), (110.0, 2100, 5000, 5_000), (130.0, 2450, 5000, 10_000)]
    assert told("rows", reports, capsys) == [
        "loss: 2,000 of 5,000 rows, ",
        "loss: 2,450 of 5,000 rows, 15 rows/s, 500 tokens/s, 0:02:50 left",
    ]


def test_without_tokens_none_are_told_and_slow_rates_are_not_rounded_to_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert told("runs", [(0.0, 0, 3615, 0), (30.0, 15, 3615, 0)], capsys) == [
        "loss: 15 of 3,615 runs, 0.5 runs/s, 2:00:00 left"
    ]


def test_a_log_gets_a_line_every_half_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    times = {0.0: 0, 10.0: 100, 31.0: 310, 40.0: 400, 62.0: 620}
    reports = [(now, done, 1000, 1600 * (done > 0)) for now, done in times.items()]
    assert told("rows", reports, capsys) == [
        "loss: 310 of 1,000 rows, 10 rows/s, 103 tokens/s, 0:01:09 left",
        "loss: 620 of 1,000 rows, 10 rows/s, 103 tokens/s, 0:00:38 left",
    ]
