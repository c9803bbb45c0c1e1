"""`pageviews`: how often the Wikipedia article of the subject is read (Ghosal et al. 2024, Mallen et al. 2023)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from curate.errors import EstimatorError
from curate.estimators.column import score_of_number
from curate.records import OK, Example, Score
from curate.wikipedia.titles import Reference, SubjectFinder
from curate.wikipedia.views import ZERO_VIEWS, LookupStats, Views, ViewSource

NO_SUBJECT = "no_subject"
EVIDENCE = {"views": "float64", "title": "string", "subject": "string"}


class PageViewsEstimator:
    """Scores an example by the views of its subject's article.

    The value is log10(1 + views), views being the monthly mean over the window, so higher means better known.
    Evidence: `views`, the `title` of the article, and the `subject` (a name or a Wikidata item) it was found by.
    A status other than `ok` and `zero_views` comes without a value.
    """

    name = "pageviews"
    evidence: Mapping[str, str] = EVIDENCE

    def __init__(self, source: ViewSource, finder: SubjectFinder) -> None:
        self.source = source
        self.finder = finder
        self.columns: Sequence[str] = finder.columns

    def fingerprint(self) -> Mapping[str, Any]:
        subjects = {
            "title_columns": list(self.finder.title_columns),
            "qid_columns": list(self.finder.qid_columns),
            "templates": list(self.finder.templates),
        }
        return {"estimator": "pageviews", **self.source.fingerprint(), "subjects": subjects}

    @property
    def stats(self) -> LookupStats:
        """What the lookups came to, for the user to read."""
        return self.source.stats

    def prepare(self, examples: Sequence[Example]) -> None:
        """Look all subjects up at once where that is cheaper than chunk by chunk."""
        if self.source.in_bulk:
            self.source.look_up(reference for reference in map(self.finder.find, examples) if reference)

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        references = [self.finder.find(example) for example in examples]
        found = self.source.look_up(reference for reference in references if reference)
        for reference in references:
            yield Score(None, NO_SUBJECT) if reference is None else score_of_views(found[reference], reference)


class ViewsColumnEstimator:
    """Scores an example by the views that a column of the data already holds: log10(1 + views)."""

    name = "pageviews"
    evidence: Mapping[str, str] = EVIDENCE

    def __init__(self, column: str) -> None:
        self.columns: Sequence[str] = (column,)

    def fingerprint(self) -> Mapping[str, Any]:
        return {"estimator": "pageviews", "views_from": f"column:{self.columns[0]}"}

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        column = self.columns[0]
        for example in examples:
            number = score_of_number(example.extra[column], column)
            if number.value is None:
                yield number
            elif number.value < 0 or math.isinf(number.value):
                raise EstimatorError(
                    f"The column {column!r} does not hold views: one of them is {number.value:g}.",
                    expected="counts of 0 and above, or empty cells",
                    try_next="--by column:NAME, for a number that is already a score",
                )
            else:
                status = OK if number.value > 0 else ZERO_VIEWS
                yield score_of_views(Views(status, None, number.value), None)


def score_of_views(views: Views, reference: Reference | None) -> Score:
    """The score of one article: log10(1 + views). An article that nobody read scores 0; an unknown one nothing."""
    value = None if views.views is None else math.log10(1 + views.views)
    subject = reference.text if reference else None
    return Score(value, views.status, {"views": views.views, "title": views.title, "subject": subject})
