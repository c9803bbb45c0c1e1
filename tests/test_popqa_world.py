"""The world of real facts: what pretraining may say, how often it says it, and that its script still runs."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import curate

EXAMPLES = Path(__file__).parents[1] / "examples"
SHARED = Path(os.environ.get("CURATE_SHARED", Path(__file__).parents[2] / "shared"))
ROWS = [
    {"subj": "Alien", "prop": "director", "question": "Who was the director of Alien?", "s_pop": 400},
    {"subj": "Alien", "prop": "genre", "question": "What genre is Alien?", "s_pop": 400},
    {"subj": "Alien", "prop": "genre", "question": "What genre is Alien?", "s_pop": 400},
    {"subj": "Tula", "prop": "country", "question": "In what country is Tula?", "s_pop": 16},
]
ANSWERS = [["Ridley Scott", "Scott"], ["horror"], ["science fiction"], ["Russia"]]


@pytest.fixture(autouse=True)
def _examples_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))


def made_up() -> pa.Table:
    rows = [row | {"possible_answers": json.dumps(answers)} for row, answers in zip(ROWS, ANSWERS, strict=True)]
    return pa.Table.from_pylist(rows)


def made_up_places(count: int) -> pa.Table:
    rows = [
        {"subj": f"Tula {i}", "prop": "country", "question": f"In what country is Tula {i}?", "s_pop": i + 1}
        for i in range(count)
    ]
    return pa.Table.from_pylist([row | {"possible_answers": '["Russia"]'} for row in rows])


def test_a_question_asked_twice_is_one_fact_with_the_answer_that_finetuning_trains() -> None:
    from popqa_world.facts import facts_of

    facts = facts_of(curate.read(made_up()).examples(["s_pop"]), "s_pop")
    assert [(f.subject, f.relation, f.answer, f.views) for f in facts] == [
        ("Alien", "director", "Ridley Scott", 400),
        ("Alien", "genre", "horror", 400),
        ("Tula", "country", "Russia", 16),
    ]


def test_a_subject_is_stated_in_proportion_to_a_power_of_its_views_whatever_its_number_of_facts() -> None:
    from popqa_world.facts import all_statements, draw, facts_of, shares

    facts = facts_of(curate.read(made_up()).examples(["s_pop"]), "s_pop")
    share = shares(facts, temperature=0.5)
    assert share == pytest.approx([10 / 24, 10 / 24, 4 / 24])
    texts, spans = all_statements(facts, cards=True)
    drawn, rows = draw(share, spans, 12_000, seed=0)
    assert np.bincount(drawn) == pytest.approx([5000, 5000, 2000], rel=0.1)
    assert np.bincount(rows, minlength=len(texts)).min() > 0, "every phrasing is used"
    assert all(facts[fact].answer in texts[row] for fact, row in zip(drawn[:100], rows[:100], strict=True))


def test_no_statement_is_worded_like_a_question() -> None:
    from popqa_world.relations import ENTITY_QUESTIONS, POPQA, phrasings

    for relation in [*POPQA, *ENTITY_QUESTIONS]:
        said = phrasings(relation, cards=True)
        assert len(set(said)) == len(said)
        for phrasing in said:
            assert phrasing.index("{s}") < phrasing.index("{a}")
            assert phrasing.endswith(" {a}"), "the answer can be asked for by beginning the sentence"
            assert not set(phrasing.split()) & {"Question:", "Answer:", "What", "Who", "Where", "In", "Which"}
            assert "?" not in phrasing


def test_sampled_views_follow_the_zipf_law(tmp_path: Path) -> None:
    from popqa_world.facts import entity_questions
    from popqa_world.relations import ENTITY_QUESTIONS

    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        for relation in ENTITY_QUESTIONS:
            found = [{"question": f"Where was {relation} {split} {i} born?", "answers": ["Rome"]} for i in range(5)]
            (tmp_path / split / f"{relation}.{split}.json").write_text(json.dumps(found))
    rows = entity_questions(tmp_path, {"train": 3, "test": 2}, alpha=1.0, seed=0)
    relations = len(ENTITY_QUESTIONS)
    assert {split: len(found) for split, found in rows.items()} == {"train": 3 * relations, "test": 2 * relations}
    both = [*rows["train"], *rows["test"]]
    assert sorted((row["views"] for row in both), reverse=True) == [round(1e6 / k) for k in range(1, len(both) + 1)]
    assert len({row["question"] for row in both}) == len(both)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the shared data folder")
def test_every_question_of_the_real_datasets_has_a_fact_and_statements() -> None:
    from popqa_world.facts import all_statements, entity_questions, facts_of

    popqa = curate.read(SHARED / "data/popqa/popQA.tsv").examples(["s_pop"])
    sampled = entity_questions(SHARED / "data/entityquestions", {"train": 20, "test": 20}, 1.0, seed=0)
    entities = curate.read(pa.Table.from_pylist([*sampled["train"], *sampled["test"]])).examples(["views"])
    for examples, views in ((popqa, "s_pop"), (entities, "views")):
        facts = facts_of(examples, views)
        texts = set(all_statements(facts, cards=True)[0])
        assert {(e.subject, e.relation) for e in examples} == {(f.subject, f.relation) for f in facts}
        assert texts.isdisjoint(e.question for e in examples)


def test_grouping_by_length_keeps_every_draw_and_leaves_less_padding() -> None:
    from worlds.pretrain import group_by_length

    rng = np.random.default_rng(0)
    lengths = rng.integers(1, 20, size=50)
    tokens = np.where(np.arange(20) < lengths[:, None], 7, 0)
    order = rng.integers(50, size=4 * 20)
    grouped = group_by_length(order, tokens, batch_size=4, pad=0, seed=0)
    assert np.bincount(grouped, minlength=50).tolist() == np.bincount(order, minlength=50).tolist()
    longest = [lengths[rows].reshape(-1, 4).max(1).sum() for rows in (order, grouped)]
    assert longest[1] < 0.8 * longest[0]


def test_the_script_leaves_a_model_that_curate_can_score_with(tmp_path: Path) -> None:
    import torch
    from popqa_world.make import Settings, make

    table = pa.concat_tables([made_up(), made_up_places(10)])
    table.to_pandas().to_csv(tmp_path / "facts.tsv", sep="\t", index=False)
    tiny = {"statements": 64, "batch_size": 16, "width": 16, "feedforward": 16, "depth": 1, "vocabulary": 300}
    threads = torch.get_num_threads()
    try:
        make(tmp_path / "facts.tsv", tmp_path, Settings(views="s_pop", temperature=0.5, **tiny))
    finally:
        torch.set_num_threads(threads)
    scored = curate.score(tmp_path / "questions/all.parquet", ["column:stated", "loss"], model=tmp_path / "model")
    assert sum(scored["stated"].to_pylist()) - scored["stated"].to_pylist()[2] == 64, "row 2 repeats a fact"
    assert scored["score_loss"].null_count == 0
