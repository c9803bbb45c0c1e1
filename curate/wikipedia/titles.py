"""Article titles: the one way each is written, and how it stands in a URL. Pure functions."""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

LONGEST_TITLE = 255
"""Bytes of UTF-8 that MediaWiki allows in a title."""

# What MediaWiki takes for a blank, and the marks of writing direction that it drops.
_BLANKS = re.compile("[ _\t\n\r\u00a0\u1680\u180e\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
_DIRECTION_MARKS = re.compile("[\u200e\u200f\u202a-\u202e]")
# "#" would cut "C#" down to the letter C, and "%41" or "&amp;" would be read as something else than written.
_IMPOSSIBLE = re.compile(
    "[\x00-\x1f\x7f<>\\[\\]{}|#\ufffd\ud800-\udfff]|%[0-9A-Fa-f]{2}|&[0-9A-Za-z]+;|&#[0-9A-Za-z]+;|~~~"
)
_QID = re.compile(r"(?:^|[/:])([Qq][1-9]\d*)$")


def normalise(title: str, capital: bool = True) -> str | None:
    """The title as MediaWiki writes it: single spaces, NFC, the first letter large where `capital` holds.

    None if no article can have this title. `normalise` of a normalised title changes nothing.
    """
    text = unicodedata.normalize("NFC", _DIRECTION_MARKS.sub("", title))
    text = _BLANKS.sub(" ", text).strip(" :")
    if not text or _IMPOSSIBLE.search(text) or text in (".", "..") or text.startswith(("./", "../")):
        return None
    if len(text.encode()) > LONGEST_TITLE:
        return None
    first = text[0].upper()
    return first + text[1:] if capital and len(first) == 1 else text


def has_capitals(project: str) -> bool:
    """Whether the first letter of a title is always large in a project: everywhere but in the Wiktionaries."""
    return not project.endswith("wiktionary")


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
