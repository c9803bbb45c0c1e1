"""Dumps of both formats become one sorted table, whatever they hold."""

from __future__ import annotations

import bz2
import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.errors import PageViewsError
from curate.wikipedia import dumps as building
from curate.wikipedia.dumps import COMPLETE, HOURLY, build_table, layout_of, month_in, parse_block
from curate.wikipedia.options import BuildSettings

Curate = Callable[..., Any]

COMPLETE_LINES = """\
de.wikipedia Zürich 9 desktop 50 A50
en.wikipedia "Heroes"_(song) 11 desktop 3 A1B2
en.wikipedia AC/DC 5 desktop 900 A400B500
en.wikipedia AC/DC 5 mobile-web 1100 A1100
en.wikipedia AC/DC 5 mobile-app 7 A7
en.wikipedia AC/DC null desktop 1 B1
en.wikipedia Zürich 34196 mobile-web 41235 A41235
en.wikipedia.beta Zürich 1 desktop 5 A5
en.wiktionary zebra 8 desktop 4 A4
"""
HOURLY_LINES = """\
de Zürich 7 0
de.m Zürich 3 0
en AC/DC 20 0
en.m AC/DC 30 0
en.zero AC/DC 1 0
en.d AC/DC 500 0
en.m.d AC/DC 500 0
en Main_Page 242332 4737756101
"""


def rows_of(table: Path) -> dict[str, int]:
    found = pq.read_table(table)
    assert found.column_names == ["title", "views"]
    titles = found["title"].to_pylist()
    assert titles == sorted(titles, key=str.encode)
    assert len(set(titles)) == len(titles)
    return dict(zip(titles, found["views"].to_pylist(), strict=True))


def dump(folder: Path, name: str, text: str | bytes) -> Path:
    content = text.encode() if isinstance(text, str) else text
    path = folder / name
    path.write_bytes({".bz2": bz2.compress, ".gz": gzip.compress}.get(path.suffix, bytes)(content))
    return path


def test_a_monthly_dump_is_summed_over_access_methods_and_pages(tmp_path: Path) -> None:
    path = dump(tmp_path, "pageviews-202110-user.bz2", COMPLETE_LINES)
    build_table([path], tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
    assert rows_of(tmp_path / "v.parquet") == {'"Heroes" (song)': 3, "AC/DC": 2008, "Zürich": 41235}


def test_an_hourly_dump_counts_the_mobile_site_too(tmp_path: Path) -> None:
    path = dump(tmp_path, "pageviews-20211001-000000.gz", HOURLY_LINES)
    build_table([path], tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
    assert rows_of(tmp_path / "v.parquet") == {"AC/DC": 51, "Main Page": 242332}


@pytest.mark.parametrize(
    ("project", "access", "views"),
    [
        ("en.wikipedia", "desktop", {"AC/DC": 901, '"Heroes" (song)': 3}),
        ("en.wikipedia", "mobile-app", {"AC/DC": 7}),
        ("de.wikipedia", "all-access", {"Zürich": 50}),
        ("en.wiktionary", "all-access", {"zebra": 4}),
    ],
)
def test_project_and_access_choose_lines(tmp_path: Path, project: str, access: str, views: dict[str, int]) -> None:
    path = dump(tmp_path, "pageviews-202110-user.bz2", COMPLETE_LINES)
    build_table([path], tmp_path / "v.parquet", BuildSettings(project, access))
    assert rows_of(tmp_path / "v.parquet") == views


def test_several_files_are_summed_and_their_months_remembered(tmp_path: Path, curate: Curate) -> None:
    dump(tmp_path, "pageviews-202110-user.bz2", COMPLETE_LINES)
    dump(tmp_path, "pageviews-202111-user.bz2", COMPLETE_LINES)
    dump(tmp_path, "pageviews-20211101-000000.gz", HOURLY_LINES)
    run = curate("views", "build", *tmp_path.glob("pageviews*"), "-o", "v.parquet", "--json")
    made = json.loads(run.stdout)
    assert run.exit_code == 0
    assert rows_of(tmp_path / "v.parquet")["AC/DC"] == 2 * 2008 + 51
    assert made["months"] == ["2021-10", "2021-11"]
    assert [d["lines"] for d in made["dumps"]] == [9, 8, 9] or sorted(d["lines"] for d in made["dumps"]) == [8, 9, 9]


def test_the_order_of_the_files_changes_nothing(tmp_path: Path) -> None:
    paths = [dump(tmp_path, f"pageviews-20211{n}-user.bz2", COMPLETE_LINES) for n in (0, 1, 2)]
    build_table(paths, tmp_path / "a.parquet", BuildSettings("en.wikipedia"))
    build_table(paths[::-1], tmp_path / "b.parquet", BuildSettings("en.wikipedia"))
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_titles_keep_a_subset(tmp_path: Path, curate: Curate) -> None:
    dump(tmp_path, "pageviews-202110-user.bz2", COMPLETE_LINES)
    (tmp_path / "titles.txt").write_text('AC/DC\n"Heroes" (song)\nNobody\n')
    assert curate("views", "build", *tmp_path.glob("*.bz2"), "-o", "v.parquet", "--titles", "titles.txt").exit_code == 0
    assert rows_of(tmp_path / "v.parquet") == {'"Heroes" (song)': 3, "AC/DC": 2008}


def test_malformed_lines_are_counted_and_do_no_harm() -> None:
    lines = [
        b"en.wikipedia Good 1 desktop 5 A5",
        b"en.wikipedia No_number 1 desktop many A5",
        b"en.wikipedia Minus 1 desktop -5 A5",
        b"en.wikipedia Too_large 1 desktop 99999999999999999999999 A5",
        b"en.wikipedia Too few",
        b"en.wikipedia One too many 1 desktop 5 A5",
        b"en.wikipedia Not_\xff_text 1 desktop 5 A5",
        b"de.wikipedia Good 1 desktop 5 A5",
    ]
    parsed = parse_block(b"\n".join(lines), COMPLETE, BuildSettings("en.wikipedia"))
    assert parsed.table.to_pylist() == [{"title": "Good", "views": 5}]
    assert (parsed.lines, parsed.malformed) == (8, 6)


TITLES = st.text(st.characters(exclude_characters=" \n\r", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["en.wikipedia", "de.wikipedia"]), TITLES, st.integers(0, 10**12))))
def test_whatever_the_titles_are_their_views_add_up(entries: list[tuple[str, str, int]]) -> None:
    text = "".join(f"{project} {title} null desktop {views} A{views}\n" for project, title, views in entries)
    expected: Counter[str] = Counter()
    for project, title, views in entries:
        expected[title] += views if project == "en.wikipedia" else 0
    parsed = parse_block(text.encode() or b"\n", COMPLETE, BuildSettings("en.wikipedia"))
    found: Counter[str] = Counter()
    for row in parsed.table.to_pylist():
        found[row["title"]] += row["views"]
    assert parsed.malformed == 0
    assert +found == +expected


def test_lines_longer_than_a_block_and_blocks_that_end_anywhere(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(building, "READ", 7)
    monkeypatch.setattr(building, "BLOCK", 64)
    path = dump(tmp_path, "pageviews-202110-user.bz2", COMPLETE_LINES + f"en.wikipedia {'x' * 300} 1 desktop 2 A2")
    made = build_table([path], tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
    assert rows_of(tmp_path / "v.parquet") == {'"Heroes" (song)': 3, "AC/DC": 2008, "Zürich": 41235, "x" * 300: 2}
    assert made["dumps"][0]["lines"] == 10


def test_a_file_of_several_streams_is_read_to_its_end(tmp_path: Path) -> None:
    first, second = COMPLETE_LINES[:100].encode(), COMPLETE_LINES[100:].encode()
    for name, compress in (("a-202110.bz2", bz2.compress), ("b-202110.gz", gzip.compress)):
        (tmp_path / name).write_bytes(compress(first) + compress(second))
        build_table([tmp_path / name], tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
        assert rows_of(tmp_path / "v.parquet")["AC/DC"] == 2008


@pytest.mark.parametrize("suffix", [".bz2", ".gz"])
def test_a_file_that_is_cut_off_is_refused_and_nothing_is_written(tmp_path: Path, suffix: str) -> None:
    path = dump(tmp_path, f"pageviews-202110-user{suffix}", COMPLETE_LINES * 50)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PageViewsError, match="is cut off"):
        build_table([path], tmp_path / "v.parquet", BuildSettings("en.wikipedia"))
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.bz2", b"not bzip2 at all", "cannot be read"),
        ("a.gz", b"not gzip at all", "cannot be read"),
        ("a.txt", b"id,question\n1,What?\n", "is not a page-view dump"),
        ("a.txt", b"en.wikipedia Zebra 1 desktop 5 A5\n", "no line of fr.wikipedia"),
    ],
)
def test_what_is_no_dump_is_said_to_be_none(
    tmp_path: Path, curate: Curate, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    run = curate("views", "build", tmp_path / name, "-o", "v.parquet", "--project", "fr.wikipedia")
    assert run.exit_code == 1
    assert message in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "v.parquet").exists()


def test_a_layout_shows_in_the_first_good_line() -> None:
    assert layout_of(b"garbage\nen.wikipedia A 1 desktop 5 A5\n") is COMPLETE
    assert layout_of(b"\nen A 5 0\n") is HOURLY
    assert layout_of(b"a b c d\n") is None


@pytest.mark.parametrize(
    ("name", "month"),
    [
        ("pageviews-202110-user.bz2", "2021-10"),
        ("pageviews-20211003-user.bz2", "2021-10"),
        ("pageviews-20211001-000000.gz", "2021-10"),
        ("views.bz2", None),
    ],
)
def test_the_month_stands_in_the_name(name: str, month: str | None) -> None:
    assert month_in(Path(name)) == month
