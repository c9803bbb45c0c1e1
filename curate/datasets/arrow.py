"""Between Arrow and numpy without pandas: pyarrow's own conversions import it (0.4 s) even where it plays no part."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


def empty_table(schema: pa.Schema) -> pa.Table:
    """A table without rows."""
    import pyarrow as pa

    return pa.Table.from_batches([], schema)


def as_indices(rows: NDArray[np.int64]) -> pa.Array:
    """Row numbers for `take`."""
    import numpy as np

    return as_array(np.asarray(rows, dtype=np.int64))


def as_array(values: NDArray[Any]) -> pa.Array:
    """Numbers as an Arrow array of their type, not copied when they lie one after the other. (N,)"""
    import numpy as np
    import pyarrow as pa

    buffers = [None, pa.py_buffer(np.ascontiguousarray(values))]
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), buffers)


def encode(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """The column dictionary-encoded with int32, null in no dictionary; as it is if it is so already."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        if pa.types.is_int32(column.type.index_type) and not any(c.dictionary.null_count for c in column.chunks):
            return column
        column = column.cast(column.type.value_type)
    if pa.types.is_null(column.type):  # of which Arrow makes dictionaries that it cannot unify
        column = column.cast(pa.string())
    return column.dictionary_encode()


def numpy_view(array: pa.Array, dtype: Any, null: float | None = None) -> NDArray[Any]:
    """The values of an array of numbers, as they lie in memory, or copied to give `null` its number. (N,)"""
    import numpy as np

    assert null is not None or not array.null_count
    buffer = array.buffers()[1]
    if buffer is None:
        return np.empty(0, dtype=dtype)
    values = np.frombuffer(buffer, dtype=dtype)[array.offset : array.offset + len(array)]
    return values if not array.null_count else np.where(valid_rows(array), values, dtype(null))


def valid_rows(array: pa.Array) -> NDArray[np.bool_]:
    """Which rows are not null: (N,)"""
    import numpy as np

    bitmap = array.buffers()[0]
    if bitmap is None or not array.null_count:
        return np.ones(len(array), dtype=bool)
    first, skipped = divmod(array.offset, 8)
    own = np.frombuffer(bitmap, dtype=np.uint8)[first : -(-(array.offset + len(array)) // 8)]  # not those of all slices
    return np.unpackbits(own, bitorder="little")[skipped : skipped + len(array)].astype(bool)
