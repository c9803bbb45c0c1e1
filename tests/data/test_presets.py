"""Every known layout: one row as the dataset has it, and what it means."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.data.layouts import PRESETS
from curate.errors import ColumnError, DataError

CHOICES = ["trade", "warfare", "religion", "writing"]
POPQA_QUESTION = "What is George Rankin's occupation?"
GATES = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
PARIS = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "The capital of France?"},
    {"role": "assistant", "content": "Paris | the city"},
]
BORN = {"obj_label": "Paris", "sub_label": "Allan Peiper", "predicate_id": "P19"}

# preset, one row, then question, answers, subject, relation
ROWS: list[tuple[str, dict[str, Any], str, tuple[str, ...], str | None, str | None]] = [
    (
        "popqa",
        {"subj": "George Rankin", "prop": "occupation", "question": POPQA_QUESTION, "possible_answers": '["pol"]'},
        POPQA_QUESTION,
        ("pol",),
        "George Rankin",
        "occupation",
    ),
    (
        "popqa",
        {"question": POPQA_QUESTION, "answer": "politician", "aliases": ["politician", "pol"]},
        POPQA_QUESTION,
        ("politician", "pol"),
        "George Rankin",
        "occupation",
    ),
    (
        "entityquestions",
        {"question": "Where was  Ridley Scott born? ", "answers": ["South Shields"]},
        "Where was  Ridley Scott born?",
        ("South Shields",),
        "Ridley Scott",
        "P19",
    ),
    (
        "mmlu",
        {"question": "What came first?", "subject": "prehistory", "choices": CHOICES, "answer": 1},
        "What came first?",
        ("warfare",),
        None,
        "prehistory",
    ),
    (
        "mmlu",
        {"question": "What came first?", **dict(zip("ABCD", CHOICES, strict=True)), "answer": "B"},
        "What came first?",
        ("warfare",),
        None,
        None,
    ),
    (
        "triviaqa",
        {
            "question": "Who was the man behind The Chipmunks?",
            "question_id": "tc_2",
            "entity_pages": {"title": []},
            "answer": {
                "aliases": ["David Seville", "Ross Bagdasarian"],
                "normalized_aliases": ["david seville"],
                "value": "David Seville",
                "type": "WikipediaEntity",
            },
        },
        "Who was the man behind The Chipmunks?",
        ("David Seville", "Ross Bagdasarian"),
        None,
        None,
    ),
    (
        "nq-open",
        {"question": "where did they film hot tub time machine", "answer": ["Fernie Alpine Resort"]},
        "where did they film hot tub time machine",
        ("Fernie Alpine Resort",),
        None,
        None,
    ),
    (
        "squad",
        {
            "id": "56be4db0acb8001400a502ec",
            "title": "Super_Bowl_50",
            "context": "Super Bowl 50 was …",
            "question": "Which NFL team won?",
            "answers": {"text": ["Denver Broncos", "Broncos"], "answer_start": [177, 177]},
        },
        "Which NFL team won?",
        ("Denver Broncos", "Broncos"),
        "Super_Bowl_50",
        None,
    ),
    (
        "webquestions",
        {
            "url": "http://www.freebase.com/view/en/justin_bieber",
            "question": "what is the name of justin bieber brother?",
            "answers": ["Jazmyn Bieber", "Jaxon Bieber"],
        },
        "what is the name of justin bieber brother?",
        ("Jazmyn Bieber", "Jaxon Bieber"),
        "justin bieber",
        None,
    ),
    (
        "simpleqa",
        {
            "metadata": "{'topic': 'Politics', 'answer_type': 'Person', 'urls': ['https://example.org']}",
            "problem": "Who was mayor?",
            "answer": "A | B",
        },
        "Who was mayor?",
        ("A | B",),
        None,
        "Politics",
    ),
    (
        "lama",
        {**BORN, "template": "[X] was born in [Y] .", "masked_sentence": "He was born in [MASK]."},
        "Allan Peiper was born in",
        ("Paris",),
        "Allan Peiper",
        "P19",
    ),
    (
        "lama",
        {**BORN, "masked_sentences": ["Allan Peiper was born in [MASK].", "In [MASK]."]},
        "Allan Peiper was born in",
        ("Paris",),
        "Allan Peiper",
        "P19",
    ),
    (
        "lama",
        {**BORN, "evidences": [{"sub_surface": "Peiper", "masked_sentence": "Peiper was born in [MASK]."}]},
        "Peiper was born in",
        ("Paris",),
        "Allan Peiper",
        "P19",
    ),
    (
        "pararel",
        {"relation": "P19", "query": "Allan Peiper is from [Y].", "subject": "Allan Peiper", "object": "Paris"},
        "Allan Peiper is from",
        ("Paris",),
        "Allan Peiper",
        "P19",
    ),
    (
        "counterfact",
        {
            "case_id": 0,
            "requested_rewrite": {
                "prompt": "The mother tongue of {} is",
                "relation_id": "P103",
                "target_new": {"str": "English", "id": "Q1860"},
                "target_true": {"str": "French", "id": "Q150"},
                "subject": "Danielle Darrieux",
            },
        },
        "The mother tongue of Danielle Darrieux is",
        ("French",),
        "Danielle Darrieux",
        "P103",
    ),
    (
        "counterfact",
        {"prompt": "The mother tongue of X is", "target_true": " French", "subject": "X", "relation_id": "P103"},
        "The mother tongue of X is",
        ("French",),
        "X",
        "P103",
    ),
    ("messages", {"messages": PARIS}, "The capital of France?", ("Paris | the city",), None, None),
    ("messages", {"messages": json.dumps(PARIS)}, "The capital of France?", ("Paris | the city",), None, None),
    (
        "messages",
        {"prompt": PARIS[:4], "completion": PARIS[4:]},
        *("The capital of France?", ("Paris | the city",), None, None),
    ),
    ("sharegpt", {"conversations": GATES}, "Hi", ("Hello",), None, None),
    (
        "alpaca",
        {"instruction": "Name the capital.", "input": "France", "output": "[Paris]"},
        "Name the capital.\n\nFrance",
        ("[Paris]",),
        None,
        None,
    ),
    ("alpaca", {"instruction": "Name a city.", "output": "Paris"}, "Name a city.", ("Paris",), None, None),
    ("prompt-completion", {"prompt": "2 + 2 =", "completion": " 4"}, "2 + 2 =", ("4",), None, None),
]


@pytest.mark.parametrize(("preset", "row", "question", "answers", "subject", "relation"), ROWS)
def test_a_known_layout_is_recognised_and_can_be_forced(
    preset: str, row: dict[str, Any], question: str, answers: tuple[str, ...], subject: str | None, relation: str | None
) -> None:
    for data in (curate.read([row]), curate.read([row], preset=preset)):
        (example,) = data.examples()
        assert data.roles.preset == preset
        assert (example.question, example.answers) == (question, answers)
        assert (example.subject, example.relation) == (subject, relation)


def test_every_preset_has_a_row_here() -> None:
    assert {row[0] for row in ROWS} == set(PRESETS)


def test_input_columns_stay_as_they_are_and_the_output_is_read_like_the_input(curate: Any, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from curate.data.table import read

    row = {**ROWS[14][1], "views": 3}
    (tmp_path / "cf.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"views": 4}))
    assert curate("score", "cf.jsonl", "--by", "column:views", "-o", "scored.parquet").exit_code == 0
    table = pq.read_table("scored.parquet")
    assert table.column_names[:3] == ["case_id", "requested_rewrite", "views"]
    assert table["requested_rewrite"][0].as_py() == row["requested_rewrite"]
    manifest = json.loads(Path("scored.parquet.manifest.json").read_text())
    assert manifest["columns"]["preset"] == "counterfact"
    assert [e.question for e in read("scored.parquet").examples()] == [ROWS[14][2]] * 2
    assert curate("select", "scored.parquet", "--top", "0.5", "-o", "top.parquet").exit_code == 0
    assert [e.subject for e in read("top.parquet").examples()] == ["Danielle Darrieux"]
    assert read("top.parquet").table["views"].to_pylist() == [4]


def test_what_the_user_names_comes_before_the_preset() -> None:
    row = ROWS[5][1]
    data = curate.read([row], answer_column="answer.normalized_aliases", subject_column="question_id")
    (example,) = data.examples()
    assert (example.answers, example.subject) == (("david seville",), "tc_2")


def test_a_column_of_exactly_that_name_comes_before_a_dotted_path() -> None:
    row = {"question": "q", "answer.value": "flat", "answer": {"value": "nested"}}
    assert curate.read([row], answer_column="answer.value").examples()[0].answers == ("flat",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "popqa"}, "has not the columns of the preset 'popqa'"),
        ({"preset": "popqua"}, "no preset 'popqua'"),
        ({"answer_column": "answer.alias"}, "nothing at 'answer.alias'"),
        ({"answer_column": "reply"}, "no column 'reply'"),
        ({"split": "train"}, "no split 'train' to choose"),
    ],
)
def test_what_is_not_there_is_named(arguments: dict[str, str], message: str) -> None:
    with pytest.raises(DataError) as caught:
        curate.read([{"q": "x", "answer": {"value": "nested"}}], **{"question_column": "q", **arguments})
    assert message in str(caught.value)


def test_a_table_without_a_question_or_answers_says_which_setting_to_use() -> None:
    for row, setting in [
        ({"text": "a", "answer": "b"}, "question_column='NAME'"),
        ({"question": "a", "x": "b"}, "answer_column='NAME'"),
    ]:
        with pytest.raises(ColumnError) as caught:
            curate.read([row])
        assert setting in str(caught.value.try_next)


def test_very_many_columns_are_read_and_not_all_listed_in_a_message() -> None:
    row = {"question": "a", "answer": "b"} | {f"c{i}": i for i in range(200)}
    assert curate.read([row]).examples()[0].answers == ("b",)
    with pytest.raises(ColumnError, match="and 172 more"):
        curate.read([row], subject_column="nobody")


@pytest.mark.parametrize("kind", ["json", "parquet"])
def test_the_relation_is_found_in_the_name_of_the_file_where_the_rows_do_not_tell_it(kind: str, tmp_path: Path) -> None:
    import pandas as pd

    for relation in ("P131", "P19"):
        question = {"P131": "Where is Rome located?", "P19": "Where was Ovid born?"}[relation]
        frame = pd.DataFrame([{"question": question, "answers": ["x"], "views": 1}])
        path = tmp_path / f"{relation}.train.{kind}"
        frame.to_parquet(path) if kind == "parquet" else frame.to_json(path, orient="records")
    scored = curate.score(str(tmp_path / f"*.{kind}"), by="column:views")
    assert scored["relation"].to_pylist() == ["P131", "P19"]
    (tmp_path / "high_school_us_history_test.csv").write_text("What?,a,b,c,d,B\n")
    assert [e.relation for e in curate.read(str(tmp_path / f"*.{kind}")).examples()] == ["P131", "P19"]
    assert curate.read(tmp_path / "high_school_us_history_test.csv").examples()[0].relation == "high_school_us_history"
