"""Titles of articles as MediaWiki writes them; the subject of an example."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

from curate.data.answers import answer_text
from curate.data.columns import BLANK, ENTITY_QUESTIONS, match_template, split_templates
from curate.records import Example

LONGEST_TITLE = 255
"""Bytes of UTF-8 that MediaWiki allows in a title."""

# What MediaWiki takes for a blank, and the marks of writing direction that it drops.
_BLANKS = re.compile("[ _\t\n\r\u00a0\u1680\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_DIRECTION_MARKS = re.compile("[\u200e\u200f\u202a-\u202e]")
# "#" would cut "C#" down to the letter C, and "%41" or "&amp;" would be read as something else than written.
_IMPOSSIBLE = re.compile(
    "[\x00-\x1f\x7f<>\\[\\]{}|#\ufffd\ud800-\udfff]|%[0-9A-Fa-f]{2}|&[0-9A-Za-z]+;|&#[0-9A-Za-z]+;|~~~"
)
_PLAIN = re.compile("[A-Z0-9][A-Za-z0-9'(),.-]*(?: [A-Za-z0-9'(),.-]+)*")

DOTTED = ("tr", "az", "kaa")
"""Languages whose small i has a large one with a dot."""

_QID = re.compile(r"(?:^|[/:])([Qq][1-9]\d*)$")


def normalise(title: str, project: str = "en.wikipedia") -> str | None:
    """The title as MediaWiki writes it in a project: single spaces, NFC, the first letter as there is the rule.

    None if no article can have this title. `normalise` of a normalised title changes nothing.
    """
    if _PLAIN.fullmatch(title) and len(title) <= LONGEST_TITLE:
        return title  # most titles of a table of millions
    text = unicodedata.normalize("NFC", _DIRECTION_MARKS.sub("", title))
    text = _BLANKS.sub(" ", text).strip(" ").removeprefix(":").strip(" ")  # one colon in front says: an article
    if not text or _IMPOSSIBLE.search(text) or text in (".", "..") or text.startswith(("./", "../", ":")):
        return None
    if len(text.encode()) > LONGEST_TITLE:
        return None
    return first_letter(text[0], project) + text[1:]


@cache
def first_letter(letter: str, project: str) -> str:
    """The letter as a title of the project begins with it: large, except in the Wiktionaries and in Lojban.

    Only a small letter that has a large one in its own alphabet changes: not ß, nor the Georgian ones, nor ⅷ.

    >>> first_letter("é", "fr.wikipedia"), first_letter("ა", "ka.wikipedia"), first_letter("i", "tr.wikipedia")
    ('É', 'ა', 'İ')
    """
    language, _, family = project.partition(".")
    if family == "wiktionary" or language == "jbo" or unicodedata.category(letter) != "Ll":
        return letter
    if letter == "i" and language in DOTTED:
        return "İ"
    large = letter.title()  # which is how Georgian stays as it is, and ǆ becomes ǅ
    return large if len(large) == 1 else letter


def encode(title: str) -> str:
    """The title as one segment of a URL path: underscores for spaces, every reserved character escaped.

    >>> encode("AC/DC: Who's 100%?")
    'AC%2FDC%3A_Who%27s_100%25%3F'
    """
    return quote(title.replace(" ", "_"), safe="")


def qid(text: str) -> str | None:
    """The Wikidata item that a cell names, as an id or a URL; None for anything else.

    >>> qid("http://www.wikidata.org/entity/Q42")
    'Q42'
    """
    match = _QID.search(text.strip())
    return match[1].upper() if match else None


def site_id(project: str) -> str:
    """What Wikidata calls a project in its sitelinks.

    >>> site_id("en.wikipedia"), site_id("zh-min-nan.wikipedia"), site_id("de.wiktionary")
    ('enwiki', 'zh_min_nanwiki', 'dewiktionary')
    """
    language, _, family = project.partition(".")
    return language.replace("-", "_") + ("wiki" if family in ("wikipedia", "wikimedia") else family)


TITLE_COLUMNS = ("s_wiki_title",)
QID_COLUMNS = ("s_uri", "wikidata_id")


class Reference(NamedTuple):  # a tuple, since a million of them are keys of dictionaries
    """What names the article of a subject: a title (or a name that may be one), or a Wikidata item."""

    kind: Literal["title", "qid"]
    text: str


class SubjectFinder:
    """Finds the reference of each example; the first of these that the row has decides.

    A title column, a QID column (before it if `items_first`), the subject column, the subject that a template recovers
    from the question.
    """

    def __init__(
        self,
        title_columns: Sequence[str] = (),
        qid_columns: Sequence[str] = (),
        templates: Iterable[str] = ENTITY_QUESTIONS,
        items_first: bool = False,
    ) -> None:
        self.title_columns = tuple(title_columns)
        self.qid_columns = tuple(qid_columns)
        self.templates = tuple(templates)
        self._finders = (self._item, self._title) if items_first else (self._title, self._item)
        self._parts = split_templates(self.templates)

    @property
    def columns(self) -> tuple[str, ...]:
        """The input columns it reads."""
        return (*self.title_columns, *self.qid_columns)

    def find(self, example: Example) -> Reference | None:
        """The reference of one example; None when nothing in it names a subject."""
        for find in self._finders:
            if reference := find(example):
                return reference
        subject = example.subject or match_template(example.question, self._parts)[1]
        return Reference("title", subject) if subject else None

    def _title(self, example: Example) -> Reference | None:
        texts = (answer_text(example.extra[column]) for column in self.title_columns)
        return next((Reference("title", text) for text in texts if text), None)

    def _item(self, example: Example) -> Reference | None:
        items = (qid(answer_text(example.extra[column])) for column in self.qid_columns)
        return next((Reference("qid", item) for item in items if item), None)


def read_templates(given: str | Sequence[str]) -> list[str]:
    """Templates as typed after `--subject-template`: each a template, or the name of a file with one a line."""
    templates: list[str] = []
    for text in [given] if isinstance(given, str) else given:
        if BLANK not in text and Path(text).is_file():
            lines = Path(text).read_text(encoding="utf-8").splitlines()
            templates += [line for line in lines if line.strip() and not line.startswith("#")]
        else:
            templates.append(text)
    split_templates(templates)
    return templates
