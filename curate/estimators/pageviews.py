"""How known a subject is on Wikipedia.

`pageviews`: how often its article is read (Ghosal et al. 2024, Mallen et al. 2023). `sitelinks`: how many wikis have an
article about it, as Wikidata counts them.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from curate.errors import EstimatorError, setting
from curate.estimators.base import ColumnEstimator, Estimator
from curate.records import OK, Example, Score
from curate.wikipedia.client import BATCH
from curate.wikipedia.options import PageviewSettings, WikiSettings
from curate.wikipedia.pages import Item
from curate.wikipedia.views import (
    ZERO_VIEWS,
    Reference,
    Source,
    SubjectFinder,
    Views,
    make_finder,
    open_sitelinks,
    open_source,
)

NO_SUBJECT = "no_subject"
SHOWN_MISSING = 5
EVIDENCE = {"views": "float64", "title": "string", "subject": "string"}


class SubjectEstimator(Estimator):
    """Scores an example by what a source knows about its subject, which is looked up once."""

    resumable = False  # the cache is

    def __init__(self, source: Source[Any], finder: SubjectFinder) -> None:
        self.source = source
        self.finder = finder
        self.columns = finder.columns

    def fingerprint(self) -> Mapping[str, Any]:
        subjects = {
            "title_columns": list(self.finder.title_columns),
            "qid_columns": list(self.finder.qid_columns),
            "templates": list(self.finder.templates),
        }
        return {"estimator": self.name, **self.source.fingerprint(), "subjects": subjects}

    def prepare(self, examples: Iterable[Example]) -> None:
        """Look all subjects up at once where that is cheaper than chunk by chunk."""
        if self.source.in_bulk:
            self.source.look_up(reference for reference in map(self.finder.find, examples) if reference)

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        references = [self.finder.find(example) for example in examples]
        found = self.source.look_up(reference for reference in references if reference)
        for reference in references:
            yield Score(None, NO_SUBJECT) if reference is None else self.score_of(found[reference], reference)

    @abstractmethod
    def score_of(self, found: Any, reference: Reference) -> Score:
        """The score of a subject, out of what the source found."""

    def reasons(self) -> Mapping[str, int]:
        return self.source.stats.reasons

    def notes(self) -> Sequence[str]:
        """How the lookups went: how many, how fast, what is missing."""
        stats = self.source.stats
        if not stats.subjects:
            return ()
        speed = stats.subjects / max(stats.seconds, 1e-9)
        asked = f"; {stats.requests} requests, {stats.retries} of them again" if stats.requests else ""
        kept = f"; {stats.kept} from the cache" if stats.kept else ""
        lines = [f"{stats.subjects} subjects looked up in {stats.seconds:.1f} s ({speed:,.0f} lookups/s){kept}{asked}"]
        if stats.missing:
            shown, more = ", ".join(stats.missing[:SHOWN_MISSING]), len(stats.missing) - SHOWN_MISSING
            others = f" and {more} more" if more > 0 else ""
            lines.append(f"{len(stats.missing)} subjects got no answer: {shown}{others}")
        return lines

    def cost(self, chunks: Iterable[Sequence[Example]]) -> tuple[dict[str, Any], str]:
        """The subjects, and the requests at most."""
        found = Counter(self.finder.find(example) for chunk in chunks for example in chunk)
        without = found.pop(None, 0)
        content = {"subjects": len(found), "without_subject": without}
        line = f"{self.name}: {len(found)} subjects, {without} examples without one"
        if not self.source.in_bulk:
            content["requests_at_most"] = requests = self.requests_of([*filter(None, found)])
            line += f"; at most about {requests} requests, fewer by what is in the cache"
        return content, line

    def requests_of(self, subjects: Sequence[Reference]) -> int:
        """How many requests so many subjects take, about, if none is in the cache."""
        return len(subjects) + -(-len(subjects) // BATCH)


class PageViewsEstimator(SubjectEstimator):
    """Scores an example by the views of its subject's article.

    The value is log10(1 + views), views being the monthly mean over the window, so higher means better known.
    Evidence: `views`, the `title` of the article, and the `subject` (a name or a Wikidata item) it was found by.
    A status other than `ok` and `zero_views` comes without a value.
    """

    usage = "pageviews"
    Settings = PageviewSettings
    name = "pageviews"
    evidence = EVIDENCE

    @classmethod
    def make(cls, argument: str, settings: PageviewSettings, columns: Sequence[str]) -> Estimator:
        kind, _, column = settings.views_from.partition(":")
        if kind == "column" and column:
            return ViewsColumnEstimator(column)
        source = open_source(settings)
        return cls(source, make_finder(settings, columns, source))

    def score_of(self, found: Views, reference: Reference) -> Score:
        """log10(1 + views)."""
        return score_of_views(found, reference)


class ViewsColumnEstimator(ColumnEstimator):
    """Scores an example by the views that a column of the data already holds: log10(1 + views)."""

    evidence = EVIDENCE

    def __init__(self, column: str) -> None:
        self.name, self.columns = "pageviews", (column,)

    def fingerprint(self) -> Mapping[str, Any]:
        return {"estimator": "pageviews", "views_from": f"column:{self.columns[0]}"}

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        for number in super().score(examples):
            if number.value is None:
                yield number
            elif number.value < 0 or math.isinf(number.value):
                raise EstimatorError(
                    f"The column {self.columns[0]!r} does not hold views: one of them is {number.value:g}.",
                    expected="counts of 0 and above, or empty cells",
                    try_next=f"{setting('by', 'column:NAME')}, for a number that is already a score",
                )
            else:
                status = OK if number.value > 0 else ZERO_VIEWS
                yield score_of_views(Views(status, None, number.value), None)

    def score_table(self, table: pa.Table) -> list[pa.Array] | None:
        return None


def score_of_views(views: Views, reference: Reference | None) -> Score:
    """The score of one article: log10(1 + views). An article that nobody read scores 0; an unknown one nothing."""
    value = None if views.views is None else math.log10(1 + views.views)
    subject = reference.text if reference else None
    return Score(value, views.status, {"views": views.views, "title": views.title, "subject": subject})


class SitelinksEstimator(SubjectEstimator):
    """Scores an example by how many wikis, in any language, have an article about its subject.

    The value is log10(1 + sitelinks), so higher means better known. Evidence: their `count`, and the `qid` of the item.
    There is no month to choose, and no news that lifts a subject. A status other than `ok` comes without a value.
    """

    usage = "sitelinks"
    Settings = WikiSettings
    name = "sitelinks"
    evidence: Mapping[str, str] = {"count": "int64", "qid": "string"}

    @classmethod
    def make(cls, argument: str, settings: WikiSettings, columns: Sequence[str]) -> Estimator:
        source = open_sitelinks(settings)
        return cls(source, make_finder(settings, columns, source))

    def score_of(self, found: Item, reference: Reference) -> Score:
        """log10(1 + sitelinks)."""
        value = None if found.sitelinks is None else math.log10(1 + found.sitelinks)
        return Score(value, found.status, {"count": found.sitelinks, "qid": found.item})

    def requests_of(self, subjects: Sequence[Reference]) -> int:
        """50 items a request; a title is resolved first."""
        titles = sum(reference.kind == "title" for reference in subjects)
        return 2 * -(-titles // BATCH) + -(-(len(subjects) - titles) // BATCH)
