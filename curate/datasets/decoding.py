"""The bytes of a text file as text: UTF-8, UTF-16 with its mark, or what Windows and old Unix wrote."""

from __future__ import annotations

import codecs
import logging
from pathlib import PurePath

from curate.errors import DataError

log = logging.getLogger(__name__)

MARKS = {codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}


def decode(content: bytes, where: PurePath | str) -> str:
    """The text, without a byte order mark; bytes that are not UTF-8 are read as Windows-1252, and that is logged.

    Windows-1252 is latin-1 with quotation marks and the euro where latin-1 has control characters. Raises DataError
    for a binary file. A zero byte may be in a cell of UTF-8, but not in the first line, where UTF-16 without its mark
    would have one too.
    """
    encoding = MARKS.get(content[:2], "utf-8-sig")
    if encoding == "utf-8-sig" and b"\x00" in content[:4096].partition(b"\n")[0]:
        raise _binary(where)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding == "utf-16" or b"\x00" in content[:4096]:
            raise _binary(where) from error
        line = content[: error.start].count(b"\n") + 1
        log.warning(
            "%s, line %d: byte 0x%02x is not UTF-8; the file is read as Windows-1252 (latin-1). "
            "If that is wrong: iconv -f ENCODING -t utf-8",
            where,
            line,
            content[error.start],
        )
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _binary(where: PurePath | str) -> DataError:
    return DataError(
        f"{where} is a binary file, not text.",
        expected="what its name says: rows of text",
        try_next="rename it after what it holds (.parquet, .json, …)",
    )
