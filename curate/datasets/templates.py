"""Questions made from templates: what relation a question asks for, and about which subject."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from curate.errors import EstimatorError

BLANK = "[X]"

# The relation templates of EntityQuestions (Sciavolino et al. 2021, MIT licence), which also ask some PopQA relations.
# P131 and P276 are asked in the same words.
ENTITY_QUESTIONS = {
    "Which country is [X] located in?": "P17",
    "Where was [X] born?": "P19",
    "Where did [X] die?": "P20",
    "Who is [X] married to?": "P26",
    "Which continent is [X] located?": "P30",
    "What is the capital of [X]?": "P36",
    "Who is [X]'s child?": "P40",
    "Who is the author of [X]?": "P50",
    "Where was [X] educated?": "P69",
    "What kind of work does [X] do?": "P106",
    "Who founded [X]?": "P112",
    "Who owns [X]?": "P127",
    "Where is [X] located?": None,
    "What type of music does [X] play?": "P136",
    "Where is the headquarter of [X]?": "P159",
    "Who was [X] created by?": "P170",
    "Who performed [X]?": "P175",
    "Which company is [X] produced by?": "P176",
    "What music label is [X] represented by?": "P264",
    "Which language was [X] written in?": "P407",
    "What position does [X] play?": "P413",
    "Which country was [X] created in?": "P495",
    "Where was [X] founded?": "P740",
    "What is [X] famous for?": "P800",
    "What is the birthplace of [X]?": "P19",
    "Where is [X] headquartered?": "P159",
    "Who is the creator of [X]?": "P170",
}

# The relation templates of PopQA (Mallen et al. 2023, MIT licence).
POPQA = {
    "What is [X]'s occupation?": "occupation",
    "In what city was [X] born?": "place of birth",
    "What genre is [X]?": "genre",
    "Who is the father of [X]?": "father",
    "In what country is [X]?": "country",
    "Who was the producer of [X]?": "producer",
    "Who was the director of [X]?": "director",
    "What is [X] the capital of?": "capital of",
    "Who was the screenwriter for [X]?": "screenwriter",
    "Who was the composer of [X]?": "composer",
    "What color is [X]?": "color",
    "What is the religion of [X]?": "religion",
    "What sport does [X] play?": "sport",
    "Who is the author of [X]?": "author",
    "Who is the mother of [X]?": "mother",
    "What is the capital of [X]?": "capital",
}

Parts = Sequence[tuple[str, str]]
"""What stands before and after the blank of each template."""


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


def match_template(question: str, parts: Parts) -> tuple[str, str] | None:
    """The template a question was made from and its subject, however its blanks are doubled.

    >>> match_template("Which country is  Darreh Sib located in? ", split_templates(ENTITY_QUESTIONS))
    ('Which country is [X] located in?', 'Darreh Sib')
    """
    text = " ".join(question.split())
    for before, after in parts:
        if text.startswith(before) and text.endswith(after) and len(text) > len(before) + len(after):
            subject = text[len(before) : len(text) - len(after)].strip()
            if subject:
                return f"{before}{BLANK}{after}", subject
    return None


def subject_in(question: str, parts: Parts) -> str | None:
    """The subject in a question made from one of the templates."""
    matched = match_template(question, parts)
    return matched[1] if matched else None
