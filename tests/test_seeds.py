from __future__ import annotations

from collections.abc import Sequence

import pytest

from curate.errors import SettingError
from curate.records import as_seeds


def test_seeds_are_those_given() -> None:
    assert as_seeds((7, 3)) == [7, 3]


@pytest.mark.parametrize("seeds", [0, -1, [], [1, 2, 1]])
def test_no_seed_or_one_twice_is_refused(seeds: int | Sequence[int]) -> None:
    with pytest.raises(SettingError, match="at least one, each once"):
        as_seeds(seeds)
