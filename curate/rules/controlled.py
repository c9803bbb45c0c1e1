"""PopQA-Controlled (Ghosal et al. 2024, Section 5): one answer a relation, so that only popularity differs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def most_frequent(groups: NDArray[np.int32], answers: NDArray[np.int32], pool: NDArray[np.bool_]) -> dict[int, int]:
    """Group to the answer that most of its pool rows have; of equally frequent answers, the lowest number.

    `groups` and `answers` are codes, (N,) each; a row whose answer is -1 has none and does not count.
    """
    import numpy as np

    rows = pool & (answers >= 0) & (groups >= 0)
    pairs, counts = np.unique(np.stack([groups[rows], answers[rows]]), axis=1, return_counts=True)
    best: dict[int, int] = {}
    # np.unique sorts by group, then answer; a stable sort by count keeps the lowest answer of equals first.
    for at in np.argsort(-counts, kind="stable"):
        best.setdefault(int(pairs[0, at]), int(pairs[1, at]))
    return best


def with_frequent_answer(
    groups: NDArray[np.int32], answers: NDArray[np.int32], frequent: dict[int, int]
) -> NDArray[np.bool_]:
    """The rows whose answer is the most frequent one of their group: (N,), (N,) -> (N,)"""
    import numpy as np

    wanted = np.full(int(groups.max(initial=-1)) + 2, -2)  # the last place is where group -1, no group, looks
    wanted[list(frequent)] = list(frequent.values())
    return np.asarray(answers == wanted[groups])


def other_answers(
    cells: NDArray[np.int32], accepted: Sequence[tuple[str, ...]], kept: Sequence[str]
) -> NDArray[np.bool_]:
    """The rows that have answers, none of which, alternative ones included, is one of the `kept` answers.

    `cells` (N,) are numbers into `accepted`. Without the alternative answers a model that gives a kept answer to
    every question would be right on part of the test set.
    """
    import numpy as np

    forbidden = {answer.casefold() for answer in kept}
    other = [bool(a) and not any(answer.casefold() in forbidden for answer in a) for a in accepted]
    return np.array(other, dtype=bool)[cells]
