"""The MediaWiki and Wikidata APIs: from titles and items, fifty at a time, to articles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from urllib.parse import quote

from curate.errors import PageViewsError
from curate.records import OK
from curate.wikipedia.cache import Page
from curate.wikipedia.polite import GaveUpError, PoliteClient
from curate.wikipedia.titles import site_id

BATCH = 50
LONGEST_QUERY = 6000
"""Bytes of encoded titles in one request: servers refuse much longer URLs."""

AMBIGUOUS = "ambiguous"
NO_ARTICLE = "no_article"

# Trouble that passes, reported inside an answer with HTTP status 200.
_PASSING = ("maxlag", "ratelimited", "readonly", "internal_api_error")


@dataclass(frozen=True)
class MediaWiki:
    """Asks a wiki what titles lead to, and Wikidata which title an item has there.

    `base` and `wikidata` are what `/w/api.php` hangs from. Without `redirects` a redirect page stands for itself.
    """

    client: PoliteClient
    base: str
    wikidata: str
    project: str
    redirects: bool = True

    def resolve(self, titles: Sequence[str]) -> dict[str, Page]:
        """What each title leads to, those left out that the answer does not mention; at most one batch of titles."""
        params = {"action": "query", "prop": "pageprops", "ppprop": "disambiguation", "titles": "|".join(titles)}
        if self.redirects:
            params["redirects"] = "1"
        return parse_query(titles, list(self._ask(self.base, params)))

    def sitelinks(self, items: Sequence[str]) -> dict[str, str | None]:
        """The title each item has in the project, None where it has none; at most one batch of items."""
        site = site_id(self.project)
        params = {"action": "wbgetentities", "props": "sitelinks", "sitefilter": site, "ids": "|".join(items)}
        try:
            return parse_entities(items, list(self._ask(self.wikidata, params)), site)
        except _ApiError:
            if len(items) == 1:
                return {items[0]: None}
            middle = len(items) // 2  # one impossible item (Q99999999999) makes the whole batch an error
            return self.sitelinks(items[:middle]) | self.sitelinks(items[middle:])

    def created(self, title: str) -> date | None:
        """The day an article was first written; None if the wiki does not say."""
        params = {"action": "query", "prop": "revisions", "rvprop": "timestamp", "rvdir": "newer", "rvlimit": "1"}
        return parse_created(list(self._ask(self.base, params | {"titles": title}, follow=False)))

    def _ask(self, base: str, params: Mapping[str, str], follow: bool = True) -> Iterator[Any]:
        fixed = {"format": "json", "formatversion": "2", "maxlag": "5", **params}
        more: Mapping[str, str] | None = {}
        while more is not None:
            answer = self.client.get(f"{base}/w/api.php", {**fixed, **more}, trouble_in)
            if answer is None:
                raise PageViewsError(
                    f"There is no MediaWiki at {base} (no /w/api.php).",
                    expected="a base that /w/api.php hangs from, such as https://en.wikipedia.org",
                    try_next="--mediawiki-url URL, or another --project",
                )
            if "error" in answer:
                raise _ApiError(str(answer["error"]))
            yield answer
            more = answer.get("continue") if follow else None


class _ApiError(GaveUpError):
    """The API understood the request and refused it."""


def batches(titles: Iterable[str]) -> Iterator[list[str]]:
    """The titles in groups that fit one request each."""
    batch: list[str] = []
    size = 0
    for title in titles:
        cost = len(quote(title)) + 3
        if batch and (len(batch) == BATCH or size + cost > LONGEST_QUERY):
            yield batch
            batch, size = [], 0
        batch.append(title)
        size += cost
    if batch:
        yield batch


def trouble_in(answer: Any) -> str | None:
    """Why an answer of the API should be asked for again; None for one that can be used."""
    if not isinstance(answer, dict):
        return "an answer that is not an object"
    error = answer.get("error")
    code = str(error.get("code", "error")) if isinstance(error, dict) else None
    return code if code is not None and code.startswith(_PASSING) else None


def parse_query(titles: Sequence[str], answers: Sequence[Any]) -> dict[str, Page]:
    """What each title leads to, by the `query` of one or more answers (of format version 1 or 2).

    A title is followed through normalisation, conversion and every redirect of a chain. A title that the answers
    do not mention is left out.
    """
    steps: dict[str, str] = {}
    pages: dict[str, Mapping[str, Any]] = {}
    for answer in answers:
        query = answer.get("query", {})
        for kind in ("normalized", "converted", "redirects"):
            steps |= {step["from"]: step["to"] for step in query.get(kind, [])}
        found = query.get("pages", [])
        for page in found.values() if isinstance(found, dict) else found:
            pages[page["title"]] = {**pages.get(page["title"], {}), **page}
        pages |= {elsewhere["title"]: {"missing": True} for elsewhere in query.get("interwiki", [])}
    ends = {title: _follow(title, steps) for title in titles}
    return {
        title: Page(NO_ARTICLE) if end is None else _page(pages[end])
        for title, end in ends.items()
        if end is None or end in pages
    }


def parse_entities(items: Sequence[str], answers: Sequence[Any], site: str) -> dict[str, str | None]:
    """The title of each item in a site, None where it has none, is deleted or was never there."""
    entities: dict[str, Any] = {}
    for answer in answers:
        for key, entity in answer.get("entities", {}).items():
            entities[key] = entity
            entities[entity.get("redirects", {}).get("from", key)] = entity  # an item merged into another
    links = {item: entities.get(item, {}).get("sitelinks") or {} for item in items}
    return {item: link[site]["title"] if site in link else None for item, link in links.items()}


def parse_created(answers: Sequence[Any]) -> date | None:
    """The day of the first revision that an answer gives."""
    for answer in answers:
        found = answer.get("query", {}).get("pages", [])
        for page in found.values() if isinstance(found, dict) else found:
            for revision in page.get("revisions", []):
                return date.fromisoformat(revision["timestamp"][:10])
    return None


def _follow(title: str, steps: Mapping[str, str]) -> str | None:
    """Where a title leads; None if its redirects lead back to where they began."""
    seen = {title}
    while title in steps:
        title = steps[title]
        if title in seen:
            return None
        seen.add(title)
    return title


def _page(page: Mapping[str, Any]) -> Page:
    if _says(page, "missing") or _says(page, "invalid") or _says(page, "special"):
        return Page(NO_ARTICLE)
    ambiguous = "disambiguation" in page.get("pageprops", {})
    return Page(AMBIGUOUS if ambiguous else OK, page["title"])


def _says(page: Mapping[str, Any], flag: str) -> bool:
    """Format version 1 says `"missing": ""`, version 2 `"missing": true`."""
    return page.get(flag, False) is not False
