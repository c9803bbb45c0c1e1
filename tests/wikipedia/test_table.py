"""Looking subjects up in a table, with no network."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from curate.errors import PageViewsError
from curate.wikipedia.dumps import build_table
from curate.wikipedia.options import BuildSettings
from curate.wikipedia.titles import Reference
from curate.wikipedia.views import TableViews


def table_of(path: Path, **columns: list[object]) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def answers(views: TableViews, *subjects: str) -> dict[str, tuple[str, float | None]]:
    references = [Reference("title", subject) for subject in subjects]
    found = views.look_up(references)
    return {r.text: (found[r].status, found[r].views) for r in references}


def test_a_title_is_found_however_it_is_written(tmp_path: Path) -> None:
    path = table_of(tmp_path / "v.parquet", title=["AC/DC", "George_Rankin", "Unread"], views=[7, 142, 0])
    assert answers(TableViews(path), "aC/DC", "george  Rankin", "Unread", "Nobody", "C#") == {
        "aC/DC": ("ok", 7.0),
        "george  Rankin": ("ok", 142.0),
        "Unread": ("zero_views", 0.0),
        "Nobody": ("not_in_table", None),
        "C#": ("no_article", None),
    }


def test_a_table_of_several_months_gives_the_mean(tmp_path: Path) -> None:
    for month, views in (("202110", 10), ("202111", 31)):
        (tmp_path / f"pageviews-{month}-user").write_text(f"en.wikipedia AC/DC 5 desktop {views} A{views}\n")
    build_table(list(tmp_path.glob("pageviews*")), tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
    assert answers(TableViews(tmp_path / "v.parquet"), "AC/DC") == {"AC/DC": ("ok", 20.5)}


def test_the_fingerprint_changes_with_the_table(tmp_path: Path) -> None:
    first = TableViews(table_of(tmp_path / "v.parquet", title=["A"], views=[1])).fingerprint()
    second = TableViews(table_of(tmp_path / "v.parquet", title=["A"], views=[2])).fingerprint()
    assert first != second


@pytest.mark.parametrize(
    "columns", [{"title": ["A"]}, {"views": [1]}, {"title": [1], "views": [1]}, {"title": ["A"], "views": ["many"]}]
)
def test_a_table_without_title_and_views_is_refused(tmp_path: Path, columns: dict[str, list[object]]) -> None:
    with pytest.raises(PageViewsError, match=r"Expected: title \(text\) and views \(a number\)"):
        TableViews(table_of(tmp_path / "v.parquet", **columns))


def test_a_table_that_is_not_there_is_told_how_to_make(tmp_path: Path) -> None:
    with pytest.raises(PageViewsError, match=r"There is no table of views(.|\n)*curate views build"):
        TableViews(tmp_path / "v.parquet")
