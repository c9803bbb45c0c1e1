"""`known`: how firmly a model knows a fact, by what it says after several sets of solved examples."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import curate
from curate.errors import EstimatorError, SettingError
from curate.estimators.known import KnownEstimator, KnownSettings
from curate.lm.generate import greedy_answers
from curate.lm.model import load_model
from curate.prompts import Shots, Template
from curate.records import Example

FACTS = [Example(str(n), f"Who is the friend of S{n}?", (f"F{n}", f"G{n}"), f"S{n}", "friend") for n in range(7)]


def known(model: Path, examples: list[Example], **settings: Any) -> KnownEstimator:
    estimator = KnownEstimator(KnownSettings(model=model, **settings))
    estimator.draw(lambda: examples)
    return estimator


def test_every_question_is_asked_after_each_set_and_never_after_itself_or_its_subject(
    tiny_model: Callable[[str], Path],
) -> None:
    estimator = known(tiny_model("llama"), FACTS, known_sets=3, known_shots=2)
    for example in FACTS:
        prompts = estimator.prompts(example)
        assert len(prompts) == 3
        for prompt in prompts:
            *solved, asked = prompt.split("Q: ")[1:]
            assert asked == f"{example.question}\nA:"
            assert len(solved) == 2
            assert not any(str(example.subject) in text.split("?")[0].split() for text in solved)
    assert len({estimator.prompts(FACTS[0])[0], *estimator.prompts(FACTS[0])}) > 1, "the sets differ"


def test_what_the_model_says_greedily_after_every_set_is_highly_known(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A story teller answers no questions: its "answer" is how it goes on, and its solved examples are other stories.
    monkeypatch.setattr(KnownEstimator, "template", Template("story", "{{ question }}", separator="\n"))
    model = shared / "models" / "stories260K"
    beginnings = [f"Once upon a time, there was a little {who} named" for who in ("girl", "boy", "cat", "dog")]
    stories = [Example(str(n), text, ("Max. He was big.",), None, "story") for n, text in enumerate(beginnings)]
    asked = known(model, stories, known_sets=1, known_shots=2)
    said = greedy_answers(load_model(model), [asked.prompts(story)[0] for story in stories], max_new_tokens=200)
    told = [replace(story, answers=(text,)) for story, text in zip(stories, said, strict=True) if text.isascii()]
    assert told
    scores = list(asked.score(told))
    assert {score.evidence["class"] for score in scores} == {"HighlyKnown"}
    assert all(score.value == (1 + score.evidence["sampled"]) / 2 for score in scores)
    wrong = [replace(story, answers=("Aaron the sparrow of brass",)) for story in stories]
    assert {score.evidence["class"] for score in asked.score(wrong)} == {"Unknown"}


@pytest.mark.parametrize(
    ("greedy", "chance", "weakly", "expected"),
    [
        ([True, True], 0.5, True, ("HighlyKnown", 0.75)),
        ([True, False], 0.25, True, ("MaybeKnown", 0.375)),
        ([False, False], 0.1, True, ("WeaklyKnown", 0.05)),
        ([False, False], 0.0, False, ("Unknown", 0.0)),
    ],
)
def test_the_classes_are_those_of_gekhman_et_al(
    greedy: list[bool], chance: float, weakly: bool, expected: tuple[str, float], tiny_model: Callable[[str], Path]
) -> None:
    score = KnownEstimator(KnownSettings(model=tiny_model("llama")))._score(greedy, chance, weakly)
    assert (score.evidence["class"], score.value) == expected


def test_sampled_mode_gives_the_same_greedy_share_and_the_same_numbers_each_time(
    tiny_model: Callable[[str], Path],
) -> None:
    exact = known(tiny_model("llama"), FACTS, known_sets=2, known_shots=2)
    sampled = known(tiny_model("llama"), FACTS, known_sets=2, known_shots=2, known_mode="sampled", known_samples=4)
    one, other = list(sampled.score(FACTS)), list(sampled.score(FACTS[::-1]))[::-1]
    assert one == other
    assert [s.evidence["greedy"] for s in one] == [s.evidence["greedy"] for s in exact.score(FACTS)]


def test_scores_do_not_depend_on_the_shard_and_the_manifest_names_the_exemplars(
    tiny_model: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import json

    monkeypatch.setattr("curate.scoring.CHUNK", 4)
    rows = [{"question": e.question, "answers": list(e.answers), "subject": e.subject} for e in FACTS]
    options: dict[str, Any] = {"model": tiny_model("llama"), "known_sets": 2, "known_shots": 2}
    curate.score(rows, "known", output=tmp_path / "whole.parquet", **options)
    for number in (1, 2):
        curate.score(rows, "known", shard=(number, 2), output=tmp_path / "shards" / f"{number}.parquet", **options)
    curate.merge(tmp_path / "shards" / "*.parquet", tmp_path / "merged.parquet")
    assert (tmp_path / "merged.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    manifest = json.loads((tmp_path / "whole.parquet.manifest.json").read_text())
    drawn = manifest["estimators"][0]["sets"][0]["drawn"]
    ids = {example.id for example in curate.read(rows).examples()}
    assert all(shot in ids for shots in drawn.values() for shot in shots)


def test_too_few_rows_and_a_mode_there_is_none_of_are_refused(tiny_model: Callable[[str], Path]) -> None:
    with pytest.raises(EstimatorError, match="There are 3 examples of different subjects"):
        known(tiny_model("llama"), FACTS[:3])
    with pytest.raises(SettingError, match="no known_mode='guess'"):
        KnownSettings(known_mode="guess")


def test_without_a_question_or_an_answer_there_is_a_reason(tiny_model: Callable[[str], Path]) -> None:
    estimator = known(tiny_model("llama"), FACTS, known_sets=1, known_shots=2)
    nothing = [Example("a", "", ("x",)), Example("b", "Who?", ())]
    assert [score.status for score in estimator.score(nothing)] == ["no_question", "no_answer"]
    assert isinstance(estimator.sets[0], Shots)
