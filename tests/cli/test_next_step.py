"""What one step knows, the next knows: columns, choices, and the template that questions were asked with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import curate as library
from curate.errors import DataError
from curate.settings import ReadSettings, ValidateSettings
from curate.validation.arms import read_inputs

Curate = Callable[..., Any]

ARC = [
    {"id": "x1", "question": "Which bird cannot fly?", "choices": ["kiwi", "swift"], "answerKey": "A"},
    {"id": "x2", "question": "Which stone floats?", "choices": ["flint", "pumice"], "answerKey": "B"},
    {"id": "x3", "question": "Which metal melts in a hand?", "choices": ["gallium", "iron"], "answerKey": "A"},
    {"id": "x4", "question": "Which planet has rings?", "choices": ["Mars", "Saturn"], "answerKey": "B"},
]
FLASHRAG = [
    {
        "id": "t1",
        "question": "Which bird cannot fly?",
        "golden_answers": ["kiwi", "apteryx"],
        "metadata": {"subj": "kiwi", "s_pop": 12},
    },
    {
        "id": "t2",
        "question": "Which stone floats?",
        "golden_answers": ["pumice"],
        "metadata": {"subj": "pumice", "s_pop": 7},
    },
]


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def arc(tmp_path: Path) -> Path:
    """Choices and their labels inside an object, as in allenai/ai2_arc."""
    rows = [{**row, "choices": {"text": row["choices"], "label": ["A", "B"]}} for row in ARC]
    return write(rows, tmp_path / "data.jsonl")


@pytest.fixture
def flashrag(tmp_path: Path) -> Path:
    return write(FLASHRAG, tmp_path / "data.jsonl")


def test_dotted_choices_are_known_to_every_later_step(curate: Curate, arc: Path, stories: Path, tmp_path: Path) -> None:
    columns = ("--answer-column", "answerKey", "--choices-column", "choices.text")
    curate("score", arc, *columns, "--by", "loss", "--model", stories, "-o", "out.parquet")
    shown = json.loads(curate("show", "out.parquet", "--json").stdout)
    assert shown["columns"]["choices"] == ["choices.text"]
    assert [e["answers"] for e in shown["examples"]] == [["kiwi"], ["pumice"], ["gallium"]]
    assert curate("select", "out.parquet", "--top", "0.5", "-o", "top.parquet").exit_code == 0
    assert curate("select", "out.parquet", "--top", "0.5", "--answer-column", "answerKey", "-o", "a/").exit_code == 0
    options = ("--eval", "out.parquet", "--model", stories, "--dry-run", "-o", "run")
    assert curate("validate", "top.parquet", "out.parquet", *options).exit_code == 0
    curate("select", "out.parquet", "--whole", "--format", "prompt-completion", "-o", "out.jsonl")
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written[1]["prompt"].endswith("Which stone floats?\nA. flint\nB. pumice\nAnswer:")
    assert [row["completion"] for row in written] == [" A", " B", " A", " B"]


@pytest.mark.parametrize("to", ["parquet", "jsonl", "csv"])
def test_a_split_remembers_its_columns_in_every_kind_of_file(curate: Curate, arc: Path, to: str) -> None:
    columns = ("--answer-column", "answerKey", "--choices-column", "choices.text")
    rows = [{**json.loads(line), "views": n} for n, line in enumerate(arc.read_text().splitlines())]
    write(rows, arc)
    curate("score", arc, *columns, "--by", "column:views", "-o", "out.parquet")
    curate("select", "out.parquet", "--top", "0.5", "--bottom", "0.5", "--to", to, "-o", "splits/")
    found = library.read(f"splits/top.{to}")
    assert [(e.answers, e.choices) for e in found.examples()] == [
        (("gallium",), ("gallium", "iron")),
        (("Saturn",), ("Mars", "Saturn")),
    ]


def test_show_select_and_validate_take_the_columns_they_ask_for(
    curate: Curate, flashrag: Path, stories: Path, tmp_path: Path
) -> None:
    answers = ("--answer-column", "golden_answers")
    assert "Which stone floats?" in curate("show", flashrag, *answers).stdout
    by = ("--by", "column:metadata.s_pop")
    assert curate("score", flashrag, *answers, *by, "-o", "out.parquet").exit_code == 0
    table = pq.read_table(tmp_path / "out.parquet")
    assert table["score_metadata.s_pop"].to_pylist() == [12, 7]
    assert curate("select", flashrag, *by, *answers, "--top", "0.5", "-o", "top.parquet").exit_code == 0
    assert pq.read_table(tmp_path / "top.parquet")["id"].to_pylist() == ["t1"]
    options = ("--eval", flashrag, "--model", stories, *answers, "--dry-run", "--json", "-o", "run")
    planned = json.loads(curate("validate", flashrag, *options, *by).stdout)
    assert planned["popularity"] == "metadata.s_pop"
    assert curate("show", "--compare", flashrag, "top.parquet", *answers).exit_code == 0


def test_a_dotted_path_that_is_no_number_is_refused(curate: Curate, flashrag: Path) -> None:
    answers = ("--answer-column", "golden_answers", "-o", "x.parquet")
    for command, by in (("score", "column:metadata.subj"), ("select", "column:metadata.subj"), ("select", "column:no")):
        more = ("--top", "0.5") if command == "select" else ()
        assert curate(command, flashrag, "--by", by, *answers, *more).exit_code == 1
    refused = curate("score", flashrag, "--by", "column:metadata", *answers)
    assert refused.exit_code == 1
    assert "Try: --by column:metadata.s_pop" in refused.stderr


def test_options_are_for_the_splits_that_do_not_remember_their_columns(films: list[dict[str, Any]]) -> None:
    scored = library.score(films, "column:views")
    table = library.read(scored)
    asked = [{"q": film["question"], "a": film["answers"]} for film in films]
    reading = ReadSettings(question_column="q", answer_column="a")
    found = read_inputs({"top": table, "bottom": asked}, asked, ValidateSettings(), reading)
    assert [arm.examples[0].question for arm in found.arms] == [films[0]["question"]] * 2


@pytest.fixture
def plain(curate: Curate, films: list[dict[str, Any]], stories: Path, tmp_path: Path) -> Path:
    """Films scored with the template `plain`."""
    write(films, tmp_path / "films.jsonl")
    curate(
        "score",
        "films.jsonl",
        "--by",
        "loss",
        "--model",
        stories,
        "--template",
        "plain",
        "--shots",
        1,
        "-o",
        "s.parquet",
    )
    return tmp_path / "s.parquet"


def test_the_template_of_the_scores_is_that_of_the_next_steps(curate: Curate, plain: Path, tmp_path: Path) -> None:
    shown = json.loads(curate("show", plain, "--json").stdout)
    assert shown["examples"][0]["prompt"] == "Who directed Alien?"
    assert shown["asked"] == {"template": "plain", "shots": 1}
    curate("select", plain, "--whole", "--format", "prompt-completion", "-o", "whole.jsonl")
    curate("select", plain, "--whole", "-o", "whole.parquet")
    assert json.loads((tmp_path / "whole.jsonl").read_text().splitlines()[0])["prompt"] == "Who directed Alien?"
    for split in ("whole.parquet", "whole.jsonl"):
        found = read_inputs(str(tmp_path / split), str(tmp_path / "films.jsonl"))
        assert found.template.name == "plain", split
        assert found.arms[0].examples[0].question == "Who directed Alien?", split


def test_another_template_than_that_of_the_scores_is_refused(curate: Curate, plain: Path, stories: Path) -> None:
    options = ("--eval", "films.jsonl", "--model", stories, "--dry-run", "-o", "run", "--template")
    refused = curate("validate", plain, *options, "qa")
    assert refused.exit_code == 1
    assert "'qa' (--template qa) and 'plain' (the manifest of s)" in refused.stderr
    assert curate("validate", plain, *options, "plain").exit_code == 0


@pytest.mark.parametrize("to", ["parquet", "jsonl"])
@pytest.mark.parametrize("format", ["prompt-completion", "messages", "alpaca"])
def test_a_split_for_a_trainer_trains_on_what_it_says(
    films: list[dict[str, Any]], tmp_path: Path, format: str, to: str
) -> None:
    scored = library.score(films, "column:views")
    library.select(scored, top=0.5, whole=True, format=format, to=to, output=tmp_path / "splits")
    found = read_inputs(str(tmp_path / "splits"), films)
    assert found.template.name == "qa"
    assert found.template.ask(found.arms[1].examples[0]) == "Question: Who directed Alien?\nAnswer:"
    assert found.leakage["whole"]["question"] == 5
    again = library.read(tmp_path / "splits" / f"whole.{to}")
    if format == "prompt-completion":
        assert again.template().ask(again.examples()[0]) == "Question: Who directed Alien?\nAnswer:"


def test_whole_prompts_of_unknown_make_are_not_asked_a_second_time(films: list[dict[str, Any]]) -> None:
    prompts = [{"prompt": f"Question: {f['question']}\nAnswer:", "completion": f" {f['answers'][0]}"} for f in films]
    with pytest.raises(DataError, match=r"two templates: 'plain' \(the layout of top\) and 'qa'"):
        read_inputs({"top": prompts}, films)


def test_a_split_for_a_trainer_with_choices_no_longer_tells_them(tmp_path: Path) -> None:
    rows = [{**row, "score_x": n} for n, row in enumerate(ARC)]
    library.select(
        rows,
        whole=True,
        answer_column="answerKey",
        choices_column="choices",
        format="alpaca",
        output=tmp_path / "whole.parquet",
    )
    with pytest.raises(DataError, match="format='alpaca'"):
        read_inputs(str(tmp_path / "whole.parquet"), str(tmp_path / "whole.parquet"))
