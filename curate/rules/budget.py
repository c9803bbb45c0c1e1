"""A budget of tokens: the best known examples first, until the next one no longer fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from curate.datasets.answers import answer_text, parse_answers
from curate.datasets.fields import cells_of
from curate.errors import SelectionError
from curate.prompts import DEFAULT

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

CHUNK = 10_000


def rows_within(
    budget: int, order: NDArray[np.int64], tokens_of: Callable[[NDArray[np.int64]], NDArray[np.int64]]
) -> tuple[int, int]:
    """How many rows from the head of `order` fit a budget, and the tokens they take.

    `tokens_of` is asked for the tokens of CHUNK rows at a time, and no further than the budget reaches.
    SelectionError when not even the first row fits.
    """
    import numpy as np

    rows = spent = 0
    for start in range(0, len(order), CHUNK):
        total = spent + np.cumsum(tokens_of(order[start : start + CHUNK]))
        fits = int(np.searchsorted(total, budget, side="right"))
        if fits:
            rows, spent = start + fits, int(total[fits - 1])
        if fits < len(total):
            break
    if not rows:
        raise SelectionError(f"{budget} tokens do not hold the best known example.", expected="a larger budget")
    return rows, spent


def token_counter(
    table: pa.Table, question: str, answers: str, tokenizer: Any
) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
    """Counts the tokens of rows as the default prompt and completion (first answer), end-of-text not included."""
    import numpy as np

    from curate.lm.load import load_tokenizer

    tokenize = load_tokenizer(tokenizer) if isinstance(tokenizer, str) or hasattr(tokenizer, "joinpath") else tokenizer

    def texts(rows: NDArray[np.int64]) -> Iterator[str]:
        part = table.take(rows)
        for q, a in zip(cells_of(part, question), cells_of(part, answers), strict=True):
            accepted = parse_answers(a)
            completion = DEFAULT.render_completion(accepted[0]) if accepted else ""
            yield DEFAULT.render_prompt(answer_text(q)) + completion

    def count(rows: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([len(ids) for ids in tokenize(list(texts(rows)))["input_ids"]], dtype=np.int64)

    return count
