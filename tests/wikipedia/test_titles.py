"""Titles as MediaWiki writes them, URLs that say exactly that title, and what an example is about."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.data.columns import ENTITY_QUESTIONS, match_template, split_templates
from curate.errors import EstimatorError
from curate.records import Example
from curate.wikipedia.pages import encode, normalise, qid, site_id
from curate.wikipedia.views import Reference, SubjectFinder, read_templates
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
        ("Java:", "Java:"),
        (" : Java :", "Java :"),
        ("თბილისი", "თბილისი"),
        ("ŉ", "ŉ"),
        ("ǰ", "ǰ"),
        ("ﬁn", "ﬁn"),
        ("ǆ", "ǅ"),
        ("ǅ", "ǅ"),
        ("Ǆ", "Ǆ"),
        ("ᾳ", "ᾼ"),
        ("ⅷ", "ⅷ"),
        ("ⓐ", "ⓐ"),
    ],
)
def test_a_title_is_written_as_mediawiki_writes_it(written: str, title: str) -> None:
    assert normalise(written) == title


@pytest.mark.parametrize(
    "text", ["", " _ ", "C#", "a|b", "[X]", "{{x}}", "a<b", ".", "../x", "%41", "&amp;", "x" * 256, ":", "::x"]
)
def test_what_no_article_can_be_called_has_no_title(text: str) -> None:
    assert normalise(text) is None


@pytest.mark.parametrize(
    ("project", "written", "title"),
    [
        ("en.wiktionary", "house", "house"),
        ("jbo.wikipedia", "lojban", "lojban"),
        ("en.wikipedia", "istanbul", "Istanbul"),
        ("tr.wikipedia", "istanbul", "İstanbul"),
        ("az.wikipedia", "istanbul", "İstanbul"),
        ("tr.wikipedia", "ırmak", "Irmak"),
    ],
)
def test_the_first_letter_is_a_matter_of_the_wiki(project: str, written: str, title: str) -> None:
    assert normalise(written, project) == title


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


# What an example is about.


PARTS = split_templates(ENTITY_QUESTIONS)


def test_every_entity_questions_test_question_has_a_subject(shared: Path) -> None:
    questions = [
        row["question"]
        for file in sorted((shared / "data" / "entityquestions" / "test").glob("*.json"))
        for row in json.loads(file.read_text())
    ]
    assert len(questions) == 22_075
    assert [q for q in questions if not match_template(q, PARTS)[1]] == []


def test_the_templates_are_those_that_entity_questions_came_with(shared: Path) -> None:
    published = json.loads((shared / "data" / "entityquestions" / "relation_query_templates.json").read_text())
    assert set(published.values()) == set(ENTITY_QUESTIONS)


@given(st.sampled_from(list(ENTITY_QUESTIONS)), st.text("abc XYZ'.,-é東", min_size=1, max_size=30), st.integers(1, 3))
def test_a_subject_put_into_a_template_comes_out_again(template: str, subject: str, blanks: int) -> None:
    subject = " ".join(subject.split())
    if subject:
        question = template.replace("[X]", subject).replace(" ", " " * blanks)
        assert match_template(question, PARTS)[1] == subject


def test_the_template_that_says_most_decides() -> None:
    parts = split_templates(["Who was [X]?", "Who was [X] created by?"])
    assert match_template("Who was Tintin created by?", parts)[1] == "Tintin"


@pytest.mark.parametrize("question", ["Why is the sky blue?", "Where was  born?", "Where was born?", ""])
def test_a_question_from_no_template_has_no_subject(question: str) -> None:
    assert match_template(question, PARTS)[1] is None


def test_the_best_evidence_a_row_has_decides() -> None:
    finder = SubjectFinder(["title"], ["item"])

    def find(title: object, item: object, subject: str | None) -> Reference | None:
        return finder.find(Example("1", "Where was Ada born?", ("x",), subject, extra={"title": title, "item": item}))

    assert find("Ada Lovelace", "Q7259", "Ada L.") == Reference("title", "Ada Lovelace")
    assert find(None, "http://www.wikidata.org/entity/Q7259", "Ada L.") == Reference("qid", "Q7259")
    assert find("", "", "Ada L.") == Reference("title", "Ada L.")
    assert find(None, None, None) == Reference("title", "Ada")


def test_templates_may_stand_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "templates.txt"
    file.write_text("# films\nWho directed [X]?\n\nWho starred in [X]?\n")
    assert read_templates([str(file), "Who wrote [X]?"]) == [
        "Who directed [X]?",
        "Who starred in [X]?",
        "Who wrote [X]?",
    ]


@pytest.mark.parametrize("template", ["Who wrote it?", "[X]", "[X] or [X]?"])
def test_a_template_says_once_where_the_subject_stands(template: str) -> None:
    with pytest.raises(EstimatorError, match="subject template"):
        read_templates([template])
