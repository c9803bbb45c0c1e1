"""The pageviews REST API: the views of one article in a window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from curate.wikipedia.polite import GaveUpError, PoliteClient
from curate.wikipedia.titles import encode
from curate.wikipedia.windows import Window


@dataclass(frozen=True)
class ArticleViews:
    """Asks how often articles of a project were viewed; `base` is what `/metrics/pageviews/…` hangs from."""

    client: PoliteClient
    base: str
    project: str
    access: str
    agent: str

    def ask(self, title: str, window: Window) -> int | None:
        """The article's views over the window (their sum); None when there is no data (404).

        Raises GaveUpError when the server does not come up with an answer that can be read.
        """
        answer = self.client.get(self.url(title, window))
        return None if answer is None else total_views(answer, window)

    def url(self, title: str, window: Window) -> str:
        """Where the monthly views of an article stand."""
        path = (self.project, self.access, self.agent, encode(title), "monthly", window.start, window.end)
        return f"{self.base}/metrics/pageviews/per-article/{'/'.join(path)}"


def total_views(answer: Any, window: Window) -> int:
    """The sum of the months of an answer that lie in the window; a month it leaves out had no views.

    Raises GaveUpError when it is not an answer of this API.
    """
    try:
        return sum(int(item["views"] or 0) for item in answer["items"] if window.holds(item["timestamp"]))
    except (KeyError, TypeError, ValueError) as error:
        raise GaveUpError("an answer without a list of views") from error
