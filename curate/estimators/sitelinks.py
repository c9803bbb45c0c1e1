"""`sitelinks`: how many wikis have an article about the subject, as Wikidata counts them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from curate.estimators.base import Estimator
from curate.estimators.pageviews import SubjectEstimator
from curate.records import Score
from curate.wikipedia.cache import Item
from curate.wikipedia.client import BATCH
from curate.wikipedia.options import WikiSettings
from curate.wikipedia.titles import Reference
from curate.wikipedia.views import make_finder, open_sitelinks


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
