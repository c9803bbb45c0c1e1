"""What `--window` may say, and which months that is."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.errors import EstimatorError
from curate.wikipedia.options import parse_window

TODAY = date(2026, 11, 23)


@pytest.mark.parametrize(
    ("text", "months", "count", "start", "end"),
    [
        ("12m", "2025-11:2026-10", 12, "2025110100", "2026103100"),
        ("1m", "2026-10", 1, "2026100100", "2026103100"),
        ("2021-10", "2021-10", 1, "2021100100", "2021103100"),
        ("2020-10:2021-09", "2020-10:2021-09", 12, "2020100100", "2021093000"),
        ("2024-02", "2024-02", 1, "2024020100", "2024022900"),
        ("popqa", "2021-10", 1, "2021100100", "2021103100"),
        ("2026-11", "2026-11", 1, "2026110100", "2026113000"),
    ],
)
def test_a_window_is_whole_months(text: str, months: str, count: int, start: str, end: str) -> None:
    window = parse_window(text, TODAY)
    assert (str(window), window.months, window.start, window.end) == (months, count, start, end)


def test_a_month_whose_numbers_are_still_coming_in_is_not_full() -> None:
    assert str(parse_window("1m", date(2026, 12, 2))) == "2026-10"
    assert str(parse_window("1m", date(2026, 12, 5))) == "2026-11"


@pytest.mark.parametrize(
    "text", ["", "2021", "2021-13", "october", "2021-10:", "2021-10:2021-09", "2015-06", "2026-12", "0m", "2021-1"]
)
def test_a_window_that_cannot_be_is_refused_with_what_can(text: str) -> None:
    if text == "2021-10:":
        assert str(parse_window(text, TODAY)) == "2021-10"
        return
    with pytest.raises(EstimatorError, match="Expected: 12m"):
        parse_window(text, TODAY)


@given(st.integers(2015, 2026), st.integers(1, 12), st.integers(1, 130))
def test_a_window_parses_back_from_its_name(year: int, month: int, count: int) -> None:
    first = max(12 * 2015 + 6, 12 * year + month - 1)
    last = min(first + count - 1, 12 * 2026 + 9)
    if first <= last:
        name = f"{first // 12}-{first % 12 + 1:02d}:{last // 12}-{last % 12 + 1:02d}"
        window = parse_window(name, TODAY)
        assert window.months == last - first + 1
        assert parse_window(str(window), TODAY) == window
