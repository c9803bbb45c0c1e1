from __future__ import annotations

from typing import Any

import pytest

from curate.report.page import task_table


def values(*found: Any, stderr: Any = None) -> tuple[float, float | None]:
    same = {"arm": "top", "task": "wikitext", "metric": "perplexity", "n": 9, "higher_is_better": False}
    (row,) = task_table([{**same, "value": value, "stderr": stderr} for value in found], ["top"])
    result: tuple[float, float | None] = row["values"][0]
    return result


def test_the_error_is_that_over_seeds_or_that_of_the_task() -> None:
    assert values(1.0, 3.0) == (2.0, 1.0)
    assert values(1.0, stderr=0.5) == (1.0, 0.5)


@pytest.mark.parametrize("found", [("inf",), ("inf", 2.0), ("inf", "inf")])
def test_an_infinite_perplexity_is_read_back_from_the_summary(found: tuple[Any, ...]) -> None:
    assert values(*found)[0] == float("inf")
    assert f"{values(*found, stderr='nan')[1]:.4f}" == "nan"
