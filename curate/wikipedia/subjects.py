"""What an example is about: from a title, a Wikidata item, a subject column, or the question itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.datasets.answers import answer_text
from curate.datasets.templates import BLANK, ENTITY_QUESTIONS, split_templates, subject_in
from curate.records import Example
from curate.wikipedia.titles import qid

TITLE_COLUMNS = ("s_wiki_title",)
QID_COLUMNS = ("s_uri", "wikidata_id")


@dataclass(frozen=True, slots=True)
class Reference:
    """What names the article of a subject: a title (or a name that may be one), or a Wikidata item."""

    kind: Literal["title", "qid"]
    text: str


class SubjectFinder:
    """Finds the reference of each example; the first of these that the row has decides.

    A title column, a QID column, the subject column, the subject that a template recovers from the question.
    """

    def __init__(
        self,
        title_columns: Sequence[str] = (),
        qid_columns: Sequence[str] = (),
        templates: Iterable[str] = ENTITY_QUESTIONS,
    ) -> None:
        self.title_columns = tuple(title_columns)
        self.qid_columns = tuple(qid_columns)
        self.templates = tuple(templates)
        self._parts = split_templates(self.templates)

    @property
    def columns(self) -> tuple[str, ...]:
        """The input columns it reads."""
        return (*self.title_columns, *self.qid_columns)

    def find(self, example: Example) -> Reference | None:
        """The reference of one example; None when nothing in it names a subject."""
        for column in self.title_columns:
            if title := answer_text(example.extra[column]):
                return Reference("title", title)
        for column in self.qid_columns:
            if item := qid(answer_text(example.extra[column])):
                return Reference("qid", item)
        subject = example.subject or subject_in(example.question, self._parts)
        return Reference("title", subject) if subject else None


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
