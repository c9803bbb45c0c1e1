"""What `curate score` takes and says for the pageviews estimator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from curate.cli.console import Output, make_table

if TYPE_CHECKING:
    from curate.estimators.pageviews import PageViewsEstimator
    from curate.records import Example

ViewsFrom = Annotated[
    str, typer.Option(help="For pageviews: api, a TABLE.parquet of curate views build, or column:NAME.")
]
Window = Annotated[
    str, typer.Option(help="For pageviews: 12m (the last 12 full months), 2021-10, 2020-10:2021-09, or popqa.")
]
Project = Annotated[str | None, typer.Option(help="For pageviews: the wiki.  [default: en.wikipedia]")]
Access = Annotated[
    str | None, typer.Option(help="For pageviews: all-access, desktop, mobile-web, mobile-app.  [default: all-access]")
]
Agent = Annotated[str | None, typer.Option(help="For pageviews: user, all-agents, spider, automated.  [default: user]")]
Contact = Annotated[
    str | None, typer.Option(help="For pageviews: your e-mail address or page, which Wikimedia asks clients for.")
]
PageviewsUrl = Annotated[str | None, typer.Option(help="For pageviews: another server with /metrics/pageviews/….")]
MediawikiUrl = Annotated[
    str | None,
    typer.Option(help="For pageviews: another server with /w/api.php. With a table: resolve titles there first."),
]
TitleColumn = Annotated[str | None, typer.Option(help="For pageviews: the column that holds the article's title.")]
QidColumn = Annotated[str | None, typer.Option(help="For pageviews: the column that holds the Wikidata item.")]
SubjectTemplate = Annotated[
    list[str] | None,
    typer.Option(help='For pageviews: "Who wrote [X]?" finds the subject in the question; or a file with one a line.'),
]
Refresh = Annotated[bool, typer.Option("--refresh", help="For pageviews: ask again for what is in the cache.")]
Offline = Annotated[bool, typer.Option("--offline", help="For pageviews: use the cache only.")]
Rate = Annotated[
    float | None,
    typer.Option(help="For pageviews: requests a second; 0: no limit.  [default: 50 at Wikimedia, else no limit]"),
]

SHOWN_MISSING = 5


def note_lookups(out: Output, estimators: Sequence[Any]) -> None:
    """Say how the lookups of a pageviews estimator went: how many, how fast, what is missing."""
    for estimator in estimators:
        stats = getattr(estimator, "stats", None)
        if stats is None or not stats.subjects:
            continue
        speed = stats.subjects / max(stats.seconds, 1e-9)
        asked = f"; {stats.requests} requests, {stats.retries} of them again" if stats.requests else ""
        kept = f"; {stats.kept} from the cache" if stats.kept else ""
        out.note(f"{stats.subjects} subjects looked up in {stats.seconds:.1f} s ({speed:,.0f} lookups/s){kept}{asked}")
        if stats.missing:
            shown = ", ".join(stats.missing[:SHOWN_MISSING])
            more = f" and {len(stats.missing) - SHOWN_MISSING} more" if len(stats.missing) > SHOWN_MISSING else ""
            out.note(f"{len(stats.missing)} subjects got no answer: {shown}{more}")


def plan_lookups(estimator: PageViewsEstimator, examples: Iterable[Example]) -> tuple[dict[str, Any], str]:
    """What a dry run tells: the subjects, and the requests at most, as values and as a line."""
    from curate.wikipedia.client import BATCH

    found = Counter(estimator.finder.find(example) for example in examples)
    without = found.pop(None, 0)
    subjects = len(found)
    content: dict[str, Any] = {"subjects": subjects, "without_subject": without}
    line = f"pageviews: {subjects} subjects, {without} examples without one"
    if not estimator.source.in_bulk:
        content["requests_at_most"] = requests = subjects + -(-subjects // BATCH)
        line += f"; at most about {requests} requests, fewer by what is in the cache"
    return content, line


def report_tables(report: dict[str, Any] | None) -> list[Any]:
    """The pageviews part of `curate show`."""
    if report is None:
        return []
    total = sum(report["statuses"].values())
    coverage = [[status, n, f"{100 * n / total:.1f}%"] for status, n in report["statuses"].items()]
    tables: list[Any] = [make_table("Page views: coverage", ["status", "examples", "share"], coverage)]
    if report["quantiles"]:
        row = [f"{views:,.0f}" for views in report["quantiles"].values()]
        headers = [f"{100 * float(q):g}%" for q in report["quantiles"]]
        tables.append(make_table("Monthly views", headers, [row]))
    for which in ("most", "least"):
        rows = [[subject, f"{views:,.0f}"] for subject, views in report[which]]
        tables.append(make_table(f"{which.capitalize()} viewed", ["subject", "views a month"], rows))
    if report["agreement"]:
        found = report["agreement"]
        number = found["rank_correlation"]
        tables.append(
            f"rank correlation with {found['column']}: {number:.3f} over {found['examples']} examples"
            if number is not None
            else f"rank correlation with {found['column']}: not defined over {found['examples']} examples"
        )
    for status, subjects in report["unanswered"].items():
        tables.append(f"{status}: {'; '.join(subjects)}{'; …' if len(subjects) == 20 else ''}")
    return tables
