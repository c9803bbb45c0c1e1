"""Views from a Parquet table (title, views): all subjects looked up in one join, nothing asked over the network."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.datasets.read import METADATA_KEY
from curate.errors import PageViewsError
from curate.records import OK
from curate.wikipedia.lookup import NOT_IN_TABLE, LookupStats, Views, views_of_count
from curate.wikipedia.mediawiki import NO_ARTICLE
from curate.wikipedia.subjects import Reference
from curate.wikipedia.titles import normalise

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.wikipedia.api import Resolver

# Titles may be written with underscores, as in the dumps; a title found twice (both ways) counts once, summed.
_JOIN = """
SELECT wanted.title AS title, CAST(sum(views) AS BIGINT) AS views
FROM wanted JOIN read_parquet(?) AS known ON replace(known.title, '_', ' ') = wanted.title
WHERE views IS NOT NULL
GROUP BY wanted.title
"""


class TableViews:
    """Monthly views of articles from a table that `curate views build` made, or any Parquet with title and views.

    A table built from several months holds their sum, and gives the mean. A `resolver` follows redirects and turns
    items into titles first; without one, titles are taken as they stand. A title that the table lacks has the status
    `not_in_table`: it may have no views or no article.
    """

    in_bulk = True

    def __init__(self, path: Path, capital: bool = True, resolver: Resolver | None = None) -> None:
        self.path = path
        self.months = _months(path)
        self._capital, self._resolver = capital, resolver
        self._answers: dict[Reference, Views] = {}
        self.stats = LookupStats()

    def fingerprint(self) -> Mapping[str, Any]:
        with self.path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256") if hasattr(hashlib, "file_digest") else _digest(file)
        return {
            "views_from": self.path.name,
            "sha256": digest.hexdigest(),
            "months": self.months,
            "redirects": "followed" if self._resolver else "not followed",
        }

    def look_up(self, references: Iterable[Reference]) -> Mapping[Reference, Views]:
        """The views of every reference's title, in one join."""
        started = time.perf_counter()
        new = [r for r in dict.fromkeys(references) if r not in self._answers]
        if new:
            self._answers |= self._resolved(new) if self._resolver else self._as_written(new)
        self.stats.subjects += len(new)
        self.stats.seconds += time.perf_counter() - started
        return self._answers

    def _as_written(self, references: Sequence[Reference]) -> dict[Reference, Views]:
        titles = {r: normalise(r.text, self._capital) if r.kind == "title" else None for r in references}
        found = self._join([title for title in titles.values() if title is not None])
        return {r: self._views(title, found) if title else Views(NO_ARTICLE) for r, title in titles.items()}

    def _resolved(self, references: Sequence[Reference]) -> dict[Reference, Views]:
        assert self._resolver is not None
        pages = self._resolver.resolve(references)
        found = self._join([page.title for page in pages.values() if page.status == OK and page.title])
        return {
            r: self._views(page.title or "", found) if page.status == OK else Views(page.status, page.title)
            for r, page in pages.items()
        }

    def _views(self, title: str, found: Mapping[str, int]) -> Views:
        if title not in found:
            return Views(NOT_IN_TABLE, title)
        return views_of_count(title, found[title], max(1, len(self.months)))

    def _join(self, titles: Sequence[str]) -> dict[str, int]:
        import duckdb
        import pyarrow as pa

        wanted = pa.table({"title": pa.array(list(dict.fromkeys(titles)), pa.string())})
        with duckdb.connect() as db:
            db.sql("SET enable_progress_bar = false")  # it would be drawn on stdout, which is for results
            db.register("wanted", wanted)
            result: pa.Table = db.sql(_JOIN, params=[str(self.path)]).to_arrow_table()
        return dict(zip(result["title"].to_pylist(), result["views"].to_pylist(), strict=True))


def _months(path: Path) -> list[str]:
    """The months a table sums over, as its builder wrote them; none if nobody did. PageViewsError if it is no table."""
    import json

    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except FileNotFoundError as error:
        raise PageViewsError(
            f"There is no table of views {path}.",
            expected="--views-from api, column:NAME, or a Parquet file",
            try_next="curate views build dumps/*.bz2 -o views.parquet, to make one",
        ) from error
    except (pa.ArrowException, OSError) as error:
        raise PageViewsError(
            f"{path} is not a table of views ({str(error).splitlines()[0]}).",
            expected="a Parquet file with the columns title and views",
        ) from error
    types = {name: schema.field(name).type for name in ("title", "views") if name in schema.names}
    text = "title" in types and (pa.types.is_string(types["title"]) or pa.types.is_large_string(types["title"]))
    if not text or "views" not in types or not (pa.types.is_integer(t := types["views"]) or pa.types.is_floating(t)):
        raise PageViewsError(
            f"{path} is not a table of views: its columns are {', '.join(schema.names)}.",
            expected="title (text) and views (a number)",
            try_next="curate views build dumps/*.bz2 -o views.parquet, to make one",
        )
    months: list[str] = json.loads((schema.metadata or {}).get(METADATA_KEY, b"{}")).get("months", [])
    return months


def _digest(file: Any) -> Any:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest
