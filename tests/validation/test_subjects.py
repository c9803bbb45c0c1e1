from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from curate.lm.model import load_model
from curate.records import Example
from curate.validation.attention import subject_prompts, subject_spans


@pytest.mark.parametrize(
    ("question", "subject", "mentions"),
    [
        ("What is George Rankin's occupation?", "George Rankin", ["George Rankin"]),
        ("In what city was It filmed?", "It", ["It"]),
        ("Is it true that It is long?", "It", ["It"]),
        ("Who wrote the waste  land?", "The Waste Land", ["the waste  land"]),
        ("Is Ran, by the director of Ran, in colour?", "Ran", ["Ran", "Ran"]),
        ("羅生門の監督は誰ですか?", "羅生門", ["羅生門"]),
        ("Who directed C++ (film)?", "C++ (film)", ["C++ (film)"]),
        ("Who directed Alien?", "Heat", []),
        ("Who directed Alien?", " ", []),
    ],
)
def test_a_subject_is_found_as_whole_words_first(question: str, subject: str, mentions: list[str]) -> None:
    assert [question[start:end] for start, end in subject_spans(question, subject)] == mentions


def asked(tiny_model: Callable[[str], Path], kind: str, *examples: Example, before: str = "") -> list[str | None]:
    """What the subject's tokens of each prompt say, decoded."""
    loaded = load_model(tiny_model(kind))
    prompts = [f"{before}Question: {e.question}\nAnswer:" for e in examples]
    return [
        None if found is None else loaded.tokenizer.decode([found.ids[t] for t in found.subject])
        for found in subject_prompts(loaded, examples, prompts)
    ]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "byte-fallback", "qwen", "gemma"])
def test_the_tokens_of_a_subject_say_its_name(kind: str, tiny_model: Callable[[str], Path]) -> None:
    example = Example("1", "In what city was Zoë Müller born?", ("Zürich",), "Zoë Müller")
    (said,) = asked(tiny_model, kind, example)
    assert said is not None
    assert said.strip() == "Zoë Müller"


def test_solved_examples_before_the_question_do_not_count(tiny_model: Callable[[str], Path]) -> None:
    example = Example("1", "Who directed Alien?", ("Ridley Scott",), "Alien")
    shot = "Question: What genre is Alien?\nAnswer: horror\n\n"
    assert asked(tiny_model, "gpt2", example, before=shot) == [" Alien"]


def test_what_has_no_subject_to_look_at_is_left_out(tiny_model: Callable[[str], Path]) -> None:
    assert asked(
        tiny_model,
        "gpt2",
        Example("none", "Who directed Alien?", ("Ridley Scott",)),
        Example("unnamed", "Who directed it?", ("Ridley Scott",), "Alien"),
        Example("field of study", "In anatomy, what is A?", ("B",), "anatomy", choices=("A", "B")),
        Example("too long", "Who directed Alien? " * 40, ("Ridley Scott",), "Alien"),
    ) == [None, None, None, None]
