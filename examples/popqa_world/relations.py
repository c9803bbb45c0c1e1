"""How a relation of PopQA or EntityQuestions is stated in pretraining: never in the words in which it is asked.

The subject stands before the answer, since a left-to-right model can only store a fact in that direction, and the
answer ends the statement.
"""

from __future__ import annotations

POPQA: dict[str, tuple[str, ...]] = {
    "author": ("{s} was written by {a}", "The author of {s} is {a}", "{s} is a book by {a}"),
    "capital": ("{s} is governed from {a}", "The capital of {s} is {a}", "{s} has its capital at {a}"),
    "capital of": ("{s} is the capital of {a}", "{s} is where the rulers sit of {a}", "{s} heads {a}"),
    "color": ("{s} wears {a}", "The color of {s} is {a}", "{s} plays in {a}"),
    "composer": ("{s} was composed by {a}", "The composer of {s} is {a}", "{s} has music by {a}"),
    "country": ("{s} lies in {a}", "The country of {s} is {a}", "{s} is a place in {a}"),
    "director": ("{s} was directed by {a}", "The director of {s} is {a}", "{s} was filmed by {a}"),
    "father": ("{s} was fathered by {a}", "The father of {s} is {a}", "{s} took the name of {a}"),
    "genre": ("{s} belongs to {a}", "The genre of {s} is {a}", "{s} is a work of {a}"),
    "mother": ("{s} was born to {a}", "The mother of {s} is {a}", "{s} was nursed by {a}"),
    "occupation": ("{s} works as {a}", "The occupation of {s} is {a}", "{s} is best known as {a}"),
    "place of birth": ("{s} was born in {a}", "The birthplace of {s} is {a}", "{s} comes from {a}"),
    "producer": ("{s} was produced by {a}", "The producer of {s} is {a}", "{s} was paid for by {a}"),
    "religion": ("{s} believes in {a}", "The religion of {s} is {a}", "{s} worships with {a}"),
    "screenwriter": ("{s} was scripted by {a}", "The screenwriter of {s} is {a}", "{s} has a script by {a}"),
    "sport": ("{s} competes in {a}", "The sport of {s} is {a}", "{s} is known from {a}"),
}

ENTITY_QUESTIONS: dict[str, tuple[str, ...]] = {
    "P19": ("{s} was born in {a}", "The birthplace of {s} is {a}", "{s} comes from {a}"),
    "P20": ("{s} died in {a}", "The place of death of {s} is {a}", "{s} ended life in {a}"),
    "P36": ("{s} is governed from {a}", "The capital of {s} is {a}", "{s} has its capital at {a}"),
    "P50": ("{s} was written by {a}", "The author of {s} is {a}", "{s} is a book by {a}"),
    "P69": ("{s} studied at {a}", "The school of {s} is {a}", "{s} graduated from {a}"),
    "P106": ("{s} works as {a}", "The occupation of {s} is {a}", "{s} is best known as {a}"),
    "P159": ("{s} is run from {a}", "The head office of {s} is in {a}", "{s} has its offices in {a}"),
    "P407": ("{s} is read in {a}", "The language of {s} is {a}", "{s} was first published in {a}"),
    "P413": ("{s} is fielded as {a}", "The position of {s} is {a}", "{s} lines up as {a}"),
    "P495": ("{s} comes out of {a}", "The country of {s} is {a}", "{s} was made in {a}"),
}

LABELS: dict[str, str] = {
    "P19": "birthplace",
    "P20": "place of death",
    "P36": "capital",
    "P50": "author",
    "P69": "school",
    "P106": "occupation",
    "P159": "head office",
    "P407": "language",
    "P413": "position",
    "P495": "country",
}


def phrasings(relation: str, cards: bool = False) -> tuple[str, ...]:
    """The statements of a relation with `{s}` and `{a}`; with `cards` also its line in a table of facts."""
    sentences = POPQA.get(relation) or ENTITY_QUESTIONS[relation]
    return (*sentences, f"{{s}}, {LABELS.get(relation, relation)}: {{a}}") if cards else sentences
