"""What an example is about: from a title, a Wikidata item, a subject column, or the question itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from curate.datasets.answers import answer_text
from curate.errors import EstimatorError
from curate.records import Example
from curate.wikipedia.titles import qid

TITLE_COLUMNS = ("s_wiki_title",)
QID_COLUMNS = ("s_uri", "wikidata_id")
BLANK = "[X]"

# The relation templates of EntityQuestions (Sciavolino et al. 2021, MIT licence), which also ask some PopQA relations.
ENTITY_QUESTIONS = (
    "Which country is [X] located in?",
    "Where was [X] born?",
    "Where did [X] die?",
    "Who is [X] married to?",
    "Which continent is [X] located?",
    "What is the capital of [X]?",
    "Who is [X]'s child?",
    "Who is the author of [X]?",
    "Where was [X] educated?",
    "What kind of work does [X] do?",
    "Who founded [X]?",
    "Who owns [X]?",
    "Where is [X] located?",
    "What type of music does [X] play?",
    "Where is the headquarter of [X]?",
    "Who was [X] created by?",
    "Who performed [X]?",
    "Which company is [X] produced by?",
    "What music label is [X] represented by?",
    "Which language was [X] written in?",
    "What position does [X] play?",
    "Which country was [X] created in?",
    "Where was [X] founded?",
    "What is [X] famous for?",
    "What is the birthplace of [X]?",
    "Where is [X] headquartered?",
    "Who is the creator of [X]?",
)


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


def split_templates(templates: Iterable[str]) -> list[tuple[str, str]]:
    """What stands before and after the blank of each template; those that say most come first.

    Raises EstimatorError for a template without exactly one [X], or with nothing but it.
    """
    parts = []
    for template in templates:
        before, blank, after = " ".join(template.split()).partition(BLANK)
        if not blank or BLANK in after or not (before or after):
            raise EstimatorError(
                f"The subject template {template!r} does not say where the subject stands.",
                expected=f"a question with {BLANK} once in it",
                try_next=f'--subject-template "Who wrote {BLANK}?"',
            )
        parts.append((before, after))
    return sorted(parts, key=lambda part: -len(part[0]) - len(part[1]))


def subject_in(question: str, parts: Sequence[tuple[str, str]]) -> str | None:
    """The subject in a question made from one of the templates, however its blanks are doubled.

    >>> subject_in("Which country is  Darreh Sib located in? ", split_templates(ENTITY_QUESTIONS))
    'Darreh Sib'
    """
    text = " ".join(question.split())
    for before, after in parts:
        if text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after):
            subject = text[len(before) : len(text) - len(after)].strip()
            if subject:
                return subject
    return None


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
