"""`curate_id` for a batch of rows at a time; the same ids as ids.py makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from curate.datasets.answers import answer_text, parse_answers
from curate.datasets.columns import Columns
from curate.datasets.ids import ANSWER_END, FIELD_END, check_key, in_utf8
from curate.hashing import hash_texts
from curate.records import Example

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

BLANKS = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
"""What `str.strip` strips."""


def content_hashes(batch: pa.Table, roles: Columns, examples: Callable[[], Sequence[Example]]) -> NDArray[np.uint64]:
    """The hash of question, answers and subject of every row, as `content_ids` hashes them: (N,)

    `examples` makes the batch's examples; it is called only where columns do not tell by themselves: in multiple
    choice, and for what lies deeper in a column or is made of several.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    named = {roles.question, roles.answers, roles.subject} - {None}
    if roles.choices or not named <= set(batch.column_names):
        rows = [(e.question, ANSWER_END.join(e.answers), e.subject or "") for e in examples()]
        parts = [_binary(texts) for texts in zip(*rows, strict=True)]
    else:
        subject = None if roles.subject is None else batch[roles.subject]
        nothing = pa.nulls(batch.num_rows) if subject is None else subject
        parts = [cell_texts(batch[roles.question]), joined_answers(batch[roles.answers]), cell_texts(nothing)]
    return hash_texts(pc.binary_join_element_wise(*parts, pa.scalar(FIELD_END.encode(), pa.large_binary())))


def cell_texts(column: Any) -> pa.Array:
    """`answer_text` of every cell, in UTF-8."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_integer(array.type):
        array = pc.cast(array, pa.string())
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return _binary([answer_text(value) for value in array.to_pylist()])
    filled = pc.fill_null(array, "") if array.null_count else array  # filling copies all texts
    return pc.cast(pc.utf8_trim(filled, BLANKS), pa.large_binary())


def joined_answers(column: Any) -> pa.Array:
    """The accepted answers of every cell, as `parse_answers` finds them, joined, in UTF-8."""
    import pyarrow as pa
    import pyarrow.compute as pc

    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    if pa.types.is_integer(array.type):
        return cell_texts(array)
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        texts = cell_texts(array)
        content = bytes(texts.buffers()[-1] or b"")
        if b"[" not in content and b"|" not in content:
            return texts
        listed = pc.or_(pc.starts_with(texts, b"["), pc.match_substring(texts, b"|"))
        spelled = [ANSWER_END.join(parse_answers(text)) for text in array.filter(listed).to_pylist()]
        return pc.replace_with_mask(texts, listed, _binary(spelled)) if spelled else texts
    if pa.types.is_list(array.type) and pc.all(pc.equal(pc.list_value_length(array), 1), skip_nulls=False).as_py():
        return cell_texts(array.flatten())
    return _binary([ANSWER_END.join(parse_answers(value)) for value in array.to_pylist()])


def number_ids(ids: pa.Array, rows: Sequence[int], occurrences: Sequence[int]) -> pa.Array:
    """The ids with the ones at `rows` marked `-2`, `-3`, …"""
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    if not rows:
        return ids
    repeated = np.zeros(len(ids), dtype=bool)
    repeated[rows] = True
    numbered = [f"{ids[row]}-{occurrence}" for row, occurrence in zip(rows, occurrences, strict=True)]
    return pc.replace_with_mask(ids, pa.array(repeated), pa.array(numbered, pa.string()))


def check_key_column(column: pa.ChunkedArray, name: str, where: str) -> None:
    """ColumnError unless the user's own key is complete and unique; no Python object a row while it is."""
    import pyarrow as pa
    import pyarrow.compute as pc

    text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    simple = (text or pa.types.is_integer(column.type)) and not column.null_count
    empty = text and simple and pc.any(pc.equal(column, "")).as_py()
    if not simple or empty or pc.count_distinct(column).as_py() != len(column):
        check_key(column.to_pylist(), name, where)


def _binary(texts: Sequence[str]) -> pa.Array:
    import pyarrow as pa

    return pa.array([in_utf8(text) for text in texts], pa.large_binary())
