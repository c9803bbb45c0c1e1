"""The lines of the page-view dumps, in both formats. Pure functions on blocks of whole lines."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import pyarrow as pa

ALL_ACCESS = "all-access"

# How the hourly files abbreviate the projects: `en` is en.wikipedia, `en.d` en.wiktionary, `en.m.d` its mobile site.
_HOURLY_FAMILIES = {
    "wikipedia": "",
    "wikibooks": ".b",
    "wiktionary": ".d",
    "wikimedia": ".m",
    "wikinews": ".n",
    "wikiquote": ".q",
    "wikisource": ".s",
    "wikiversity": ".v",
    "wikivoyage": ".voy",
    "mediawiki": ".w",
    "wikidata": ".wd",
}
_MONTH_IN_NAME = re.compile(r"(?<!\d)(20\d\d)-?(0[1-9]|1[0-2])(?!\d(?!\d))")


@dataclass(frozen=True)
class Layout:
    """The fields of a line, which spaces separate."""

    name: Literal["complete", "hourly"]
    fields: tuple[str, ...]


COMPLETE = Layout("complete", ("project", "title", "page_id", "access", "views", "days"))
"""`pageview_complete`: en.wikipedia Zürich 34196 mobile-web 41235 A1330B1411…"""

HOURLY = Layout("hourly", ("project", "title", "views", "bytes"))
"""`pageviews`: en.m Zürich 57 0"""


@dataclass(frozen=True)
class Wanted:
    """Which lines count: those of a project and an access method; with `titles`, of these articles only."""

    project: str
    access: str = ALL_ACCESS
    titles: frozenset[str] | None = None

    def project_codes(self, layout: Layout) -> list[str]:
        """What the first field of such a line may be."""
        if layout is COMPLETE:
            return [self.project]
        language, _, family = self.project.partition(".")
        suffix = _HOURLY_FAMILIES.get(family, f".{family}")
        mobile = [f"{language}.m{suffix}", f"{language}.zero{suffix}"]
        return {"desktop": [f"{language}{suffix}"], "mobile-web": mobile, "mobile-app": []}.get(
            self.access, [f"{language}{suffix}", *mobile]
        )


@dataclass(frozen=True)
class Parsed:
    """What a block held: `table` (title as in the dump, views) of the wanted lines, and how many lines were what."""

    table: pa.Table
    lines: int
    malformed: int


def layout_of(lines: bytes) -> Layout | None:
    """The layout of the first line that has one; None if no line looks like a dump's."""
    for line in lines.split(b"\n", 1000)[:1000]:
        fields = line.split(b" ")
        for layout, views in ((COMPLETE, 4), (HOURLY, 2)):
            if len(fields) == len(layout.fields) and fields[views].isdigit():
                return layout
    return None


def month_in(path: Path) -> str | None:
    """The month a dump's name tells: 2021-10 for pageviews-202110-user.bz2 and pageviews-20211001-000000.gz."""
    match = _MONTH_IN_NAME.search(path.name)
    return f"{match[1]}-{match[2]}" if match else None


def parse_block(block: bytes, layout: Layout, wanted: Wanted) -> Parsed:
    """The wanted lines of a block of whole lines.

    A line is malformed if it has another number of fields, or if it is one of the project and its views are not a
    number or its title is not UTF-8.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    from pyarrow import csv

    odd: list[int] = []

    def skip(row: csv.InvalidRow) -> str:
        odd.append(row.actual_columns)
        return "skip"

    columns = [name for name in ("project", "title", "access", "views") if name in layout.fields]
    rows = csv.read_csv(
        pa.BufferReader(block),
        csv.ReadOptions(column_names=list(layout.fields), block_size=1 << 20),
        csv.ParseOptions(delimiter=" ", quote_char=False, invalid_row_handler=skip),
        csv.ConvertOptions(
            include_columns=columns,
            column_types=dict.fromkeys(columns, pa.string()),
            strings_can_be_null=False,
            check_utf8=False,
        ),
    )
    lines = rows.num_rows + len(odd)
    rows = rows.filter(_is_one_of(rows["project"], wanted.project_codes(layout)))
    if layout is COMPLETE and wanted.access != ALL_ACCESS:
        rows = rows.filter(pc.equal(rows["access"], wanted.access))
    if wanted.titles is not None:
        rows = rows.filter(_is_one_of(rows["title"], wanted.titles))
    found = rows.num_rows
    # 18 digits fit 64 bits; the few real counts have ten.
    number = pc.and_(pc.ascii_is_decimal(rows["views"]), pc.less_equal(pc.binary_length(rows["views"]), 18))
    rows = _with_readable_titles(rows.filter(number).select(["title", "views"]))
    table = rows.set_column(1, "views", rows["views"].cast(pa.int64()))
    return Parsed(table, lines, len(odd) + found - table.num_rows)


def total_by_title(table: pa.Table) -> pa.Table:
    """One row a title, its views summed."""
    totals = table.group_by("title").aggregate([("views", "sum")])
    return totals.rename_columns(["title", "views"])


def _is_one_of(column: pa.ChunkedArray, values: Collection[str]) -> pa.ChunkedArray:
    import pyarrow as pa
    import pyarrow.compute as pc

    return pc.is_in(column, value_set=pa.array(sorted(values), pa.string()))


def _with_readable_titles(rows: pa.Table) -> pa.Table:
    import pyarrow as pa

    try:
        rows["title"].validate(full=True)
        return rows
    except pa.ArrowInvalid:
        titles = rows["title"].cast(pa.binary()).to_pylist()
        return rows.filter(pa.array([_is_utf8(title) for title in titles], pa.bool_()))


def _is_utf8(title: bytes) -> bool:
    try:
        title.decode()
    except UnicodeDecodeError:
        return False
    return True
