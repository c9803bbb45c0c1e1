"""Templates: what the model reads, and what of it is the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from curate.errors import EstimatorError
from curate.prompts import TEMPLATES, Patterns, Shots, find_template, parse_template
from curate.records import Example

ALIEN = Example("1", "Who directed Alien?", ("Ridley Scott",), "Alien", "director")
COLOURS = Example("2", "Which is a colour?", ("red",), "basic_colours", None, ("one", "red", "dog"))


@pytest.mark.parametrize(
    ("name", "prompt"), [("qa", "Question: Who directed Alien?\nAnswer:"), ("plain", "Who directed Alien?")]
)
def test_the_completion_owns_the_space(name: str, prompt: str) -> None:
    template = TEMPLATES[name]
    assert template.ask(ALIEN) == prompt
    assert template.render_completion("Ridley Scott") == " Ridley Scott"


def test_multiple_choice_reads_as_in_kang_et_al() -> None:
    template = TEMPLATES["mmlu"]
    assert Shots(template).prefix(COLOURS) + template.ask(COLOURS) == (
        "The following are multiple choice questions (with answers) about basic colours.\n\n"
        "Which is a colour?\nA. one\nB. red\nC. dog\nAnswer:"
    )


@pytest.mark.parametrize(
    ("change", "beginning"),
    [
        ({"subject": None, "relation": "logic"}, "(with answers) about logic."),
        ({"subject": None}, "(with answers)."),
    ],
)
def test_the_header_names_the_school_subject_where_it_is_known(change: dict[str, Any], beginning: str) -> None:
    assert beginning in TEMPLATES["mmlu"].head(replace(COLOURS, **change))


def test_a_question_is_text_and_never_a_template() -> None:
    assert TEMPLATES["plain"].render_prompt("What is {{ answer }} or {question}?") == (
        "What is {{ answer }} or {question}?"
    )


@pytest.mark.parametrize(
    ("text", "prompt", "completion"),
    [
        ("Q: {{ question }} A:  {{answer}}\n", "Q: {{ question }} A:", "  {{answer}}"),
        ("{{ subject }}: {{ question }}\n", "{{ subject }}: {{ question }}", " {{ answer }}"),
        ("{{ question }}\n{{ answer }}", "{{ question }}\n", "{{ answer }}"),
    ],
)
def test_a_file_is_split_where_the_answer_begins(text: str, prompt: str, completion: str) -> None:
    template = parse_template("own", text)
    assert (template.prompt, template.completion) == (prompt, completion)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no such thing", "cannot be used"),
        ("{{ answer }} is the answer to {{ question }}", "cannot be used"),
        ("{{ question }} {% if %}", "not Jinja"),
        ("{{ question }} {{ colour }}", "'colour' is undefined"),
        ("{{ question.__class__.__mro__[1].__subclasses__() }}", "unsafe"),
    ],
)
def test_a_file_that_cannot_be_a_template_says_why(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "own.j2"
    file.write_text(text)
    with pytest.raises(EstimatorError, match=message):
        find_template(str(file))


def test_a_template_that_is_nowhere() -> None:
    with pytest.raises(EstimatorError, match="no template 'no-such'"):
        find_template("no-such")


def test_patterns_of_questions_are_their_relations(popqa: Path) -> None:
    rows = pd.read_csv(popqa, sep="\t")
    patterns = Patterns(rows["question"])
    found = rows["question"].map(patterns.of)
    assert found.notna().mean() > 0.99
    assert (rows["prop"].groupby(found).nunique() == 1).all(), "no pattern holds two relations"
    assert rows[found.notna()].groupby("prop").apply(lambda group: found[group.index].nunique()).max() == 1


def test_a_name_makes_no_pattern_of_its_own_and_few_questions_make_none() -> None:
    titles = [f"The {word}" for word in ("Trial", "Castle", "Waves", "Idiot", "Plague", "Stranger")]
    patterns = Patterns([f"Who wrote {title}?" for title in titles] + [f"Is {n} even" for n in ("a", "b", "c", "d")])
    assert patterns.of("Who wrote The Bell Jar?") == "Who wrote …"
    assert patterns.of("Is e even") is None
    assert patterns.of("") is None
