"""Texts that repeat, read from Parquet as dictionaries: less to copy where most rows are not wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

READABLE = {"PLAIN", "RLE", "BIT_PACKED", "RLE_DICTIONARY", "PLAIN_DICTIONARY"}
"""Encodings of which Arrow can make dictionaries; a dictionary itself is plain, and levels are run lengths."""

PLAIN_TEXT = 4
"""Bytes that a text takes at least where it is written plainly, for its length."""


def dictionary_columns(files: Sequence[Any]) -> list[str]:
    """The columns of texts that lie as dictionaries in all row groups of these open Parquet files of one schema."""
    import pyarrow as pa

    kinds = files[0].schema_arrow
    found = {f.name for f in kinds if pa.types.is_string(f.type) or pa.types.is_large_string(f.type)}
    for footer in (file.metadata for file in files):
        for group in (footer.row_group(number) for number in range(footer.num_row_groups)):
            if not found:
                return []
            for column in (group.column(place) for place in range(group.num_columns)):
                if column.path_in_schema in found and not _is_dictionary(column):
                    found.remove(column.path_in_schema)
    return sorted(found)


def _is_dictionary(column: Any) -> bool:
    small = column.total_uncompressed_size < PLAIN_TEXT * column.num_values
    return small and set(column.encodings) <= READABLE


def in_types_of(schema: pa.Schema, table: pa.Table) -> pa.Table:
    """The table with dictionaries made texts again where the schema says so; a cast of all columns would check them."""
    for place, field in enumerate(schema):
        if table.field(place).type != field.type:
            table = table.set_column(place, field, table.column(place).cast(field.type))
    return table
