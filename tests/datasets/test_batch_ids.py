"""The ids made a batch at a time are the ones made an example at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from curate.data.answers import answer_text, parse_answers
from curate.data.columns import Columns
from curate.data.ids import (
    ANSWER_END,
    Repeats,
    cell_texts,
    check_key_column,
    content_hashes,
    content_ids,
    hex_ids,
    in_utf8,
    joined_answers,
    number_ids,
    number_repeats,
)
from curate.errors import ColumnError

TEXTS = st.text(max_size=6) | st.sampled_from(
    [" a ", "\x1c\u3000x\u00a0", "['a', 'b']", ' ["a", "a", ""]', "[", "[1.5]", "7"]
)
CELLS = st.one_of(
    st.lists(st.none() | TEXTS, min_size=1, max_size=6),
    st.lists(st.none() | st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6),
    st.lists(st.none() | st.floats(), min_size=1, max_size=6),
    st.lists(st.none() | st.booleans(), min_size=1, max_size=6),
    st.lists(st.none() | st.lists(st.none() | TEXTS, max_size=3), min_size=1, max_size=6),
    st.lists(st.lists(TEXTS, min_size=1, max_size=1), min_size=1, max_size=6),
    st.lists(st.none() | st.lists(st.none() | st.integers(0, 9), max_size=3), min_size=1, max_size=6),
)


@given(CELLS, st.integers(0, 2))
def test_texts_and_answers_of_a_column_are_those_of_its_cells(cells: list[Any], skipped: int) -> None:
    column = pa.chunked_array([pa.array(cells)])[min(skipped, len(cells) - 1) :]
    values = column.to_pylist()
    assert cell_texts(column).to_pylist() == [in_utf8(answer_text(value)) for value in values]
    assert joined_answers(column).to_pylist() == [in_utf8(ANSWER_END.join(parse_answers(v))) for v in values]


def test_an_answer_that_is_no_unicode_still_has_an_id() -> None:
    batch = pa.table({"q": ["?"], "a": ['["\\ud800"]']})
    hashes = content_hashes(batch, Columns("q", "a"), list)
    assert hex_ids(hashes).to_pylist() == content_ids([("?", ["\ud800"], None)])


@given(st.lists(st.tuples(TEXTS, TEXTS, st.none() | TEXTS), min_size=1, max_size=8))
@example([("Which?", "a|b", None), ("Which?", "P(A|B)", None), ("Which?", "|", None)])
def test_ids_of_a_table_are_those_of_its_examples(rows: list[tuple[str, str, str | None]]) -> None:
    questions, answers, subjects = (list(column) for column in zip(*rows, strict=True))
    batch = pa.table({"q": questions, "a": answers, "s": pa.array(subjects, pa.string())})
    made = hex_ids(content_hashes(batch, Columns("q", "a", "s"), list)).to_pylist()
    assert made == content_ids((answer_text(q), parse_answers(a), answer_text(s) or None) for q, a, s in rows)


# The first bits decide what is looked up, so some hashes share them and are not equal.
HASHES = st.sampled_from([0, 1, 2, 2**62, 2**62 + 1, 2**64 - 1])


@given(st.lists(st.lists(HASHES, min_size=1, max_size=8), max_size=6))
def test_repeats_are_numbered_as_they_come_in_whatever_batches(batches: list[list[int]]) -> None:
    repeats = Repeats(sum(map(len, batches)))
    ids = []
    for batch in batches:
        numbers = repeats.add(np.array(batch, dtype=np.uint64))
        ids += number_ids(pa.array([str(h) for h in batch], pa.string()), *numbers).to_pylist()
    assert ids == number_repeats(str(h) for batch in batches for h in batch)


@pytest.mark.parametrize("values", [["a", "a"], ["a", ""], ["a", None], [1, 1], [1.5, 1.5], [True, True]])
def test_a_key_with_gaps_or_repeats_is_refused(values: list[Any]) -> None:
    with pytest.raises(ColumnError):
        check_key_column(pa.chunked_array([pa.array(values)]), "key", "table")


def test_a_complete_and_unique_key_is_taken() -> None:
    for values in (["a", "b"], [1, 2], [1.5, 2.5]):
        check_key_column(pa.chunked_array([pa.array(values)]), "key", "table")
