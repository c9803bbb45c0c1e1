"""One way to write a title, and a URL that says exactly that title."""

from __future__ import annotations

import unicodedata

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.wikipedia.titles import encode, has_capitals, normalise, qid, site_id
from tests.wikimedia_server import Article, WikimediaServer, World, article_in

HARD = [
    "AC/DC", "What's Up?", "100% Arabica", "C++", "Who's Who", "😀", "Œuvre", "אסתר", "محمد", "東京",
    "A & B", "50 Cent", "Tom & Jerry: The Movie", "Se7en (1995 film)", "~", "M*A*S*H", "Alien³", "P!nk", "$9.99",
    '"Heroes"', "…And Justice for All", "...",
]  # fmt: skip


@pytest.mark.parametrize(
    ("written", "title"),
    [
        ("george_Rankin", "George Rankin"),
        ("  Two   blanks  ", "Two blanks"),
        ("trailing_", "Trailing"),
        (":Colon first", "Colon first"),
        ("élan vital", "Élan vital"),
        ("e\u0301lan", "Élan"),
        ("ß", "ß"),
        ("no\u00a0break", "No break"),
        ("\u200emarked", "Marked"),
        ("iPod", "IPod"),
    ],
)
def test_a_title_is_written_as_mediawiki_writes_it(written: str, title: str) -> None:
    assert normalise(written) == title


@pytest.mark.parametrize(
    "text", ["", " _ ", "C#", "a|b", "[X]", "{{x}}", "a<b", ".", "../x", "%41", "&amp;", "x" * 256]
)
def test_what_no_article_can_be_called_has_no_title(text: str) -> None:
    assert normalise(text) is None


def test_wiktionaries_keep_a_small_first_letter() -> None:
    assert normalise("house", has_capitals("en.wiktionary")) == "house"
    assert normalise("house", has_capitals("en.wikipedia")) == "House"


@given(st.text(max_size=60))
def test_normalising_twice_is_normalising_once(text: str) -> None:
    title = normalise(text)
    if title is not None:
        assert normalise(title) == title
        assert title == unicodedata.normalize("NFC", title)
        assert "_" not in title and "  " not in title


@pytest.fixture(scope="module")
def server():  # type: ignore[no-untyped-def]
    with WikimediaServer(World()) as running:
        yield running


def arrives_as(server: WikimediaServer, title: str) -> str:
    """The title that the server reads from the bytes it was sent."""
    server.world.articles[title] = Article({"2021-10": 1})
    path = f"/metrics/pageviews/per-article/en.wikipedia/all-access/user/{encode(title)}/monthly/2021100100/2021103100"
    assert httpx.get(server.url + path).status_code == 200
    return article_in(server.log[-1].path)


@pytest.mark.parametrize("title", HARD)
def test_a_hard_title_reaches_the_server_as_it_is(server: WikimediaServer, title: str) -> None:
    assert arrives_as(server, title) == title


@settings(max_examples=60, deadline=None)
@given(st.text(min_size=1, max_size=30))
def test_any_title_reaches_the_server_as_it_is(server: WikimediaServer, text: str) -> None:
    title = normalise(text)
    if title is not None:
        assert arrives_as(server, title) == title


@pytest.mark.parametrize(
    ("cell", "item"),
    [
        ("Q42", "Q42"),
        ("q42", "Q42"),
        ("http://www.wikidata.org/entity/Q5543720", "Q5543720"),
        ("wd:Q7", "Q7"),
        ("Queen", None),
        ("", None),
        ("Q0", None),
        ("P31", None),
    ],
)
def test_an_item_is_an_id_or_a_link_to_one(cell: str, item: str | None) -> None:
    assert qid(cell) == item


def test_wikidata_has_its_own_names_for_the_wikis() -> None:
    assert [site_id(p) for p in ("en.wikipedia", "pt-br.wikipedia", "de.wiktionary")] == [
        "enwiki",
        "pt_brwiki",
        "dewiktionary",
    ]
