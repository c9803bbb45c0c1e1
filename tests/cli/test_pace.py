"""What a person is told while a command runs: rows and tokens a second, and the time left."""

from __future__ import annotations

import pytest

from curate.cli.console import Pace, lines


def test_time_left_follows_the_work_done_since_the_first_report() -> None:
    pace = Pace(started=100.0, begun_at=2000, now=100.0, done=2000)  # 2,000 rows were kept from an earlier run
    assert (pace.rows_per_second, pace.seconds_left(5000), pace.line(5000)) == (None, None, "")
    pace.report(110.0, 2100, 5_000)
    pace.report(120.0, 2300, 10_000)
    assert pace.rows_per_second == pytest.approx(15)
    assert pace.tokens_per_second == pytest.approx(750)
    assert pace.seconds_left(5000) == pytest.approx(180)
    assert pace.line(5000) == "15 rows/s, 750 tokens/s, 0:03:00 left"


def test_without_tokens_none_are_told_and_slow_rates_are_not_rounded_to_nothing() -> None:
    pace = Pace(0.0, 0, 0.0, 0)
    pace.report(10.0, 5, 0)
    assert pace.line(3605) == "0.5 rows/s, 2:00:00 left"


def test_a_log_gets_a_line_every_half_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    times = iter([0.0, 0.0, 10.0, 31.0, 40.0, 62.0])
    show = lines("rows", lambda: next(times))
    for done in (0, 100, 310, 400, 620):
        show("loss", done, 1000, 1600 * (done > 0))
    assert capsys.readouterr().err.splitlines() == [
        "loss: 310 of 1,000 rows, 10 rows/s, 103 tokens/s, 0:01:09 left",
        "loss: 620 of 1,000 rows, 10 rows/s, 103 tokens/s, 0:00:38 left",
    ]
