"""What became of what the model knew: planted models whose values are known beforehand, and a run recomputed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import curate
from curate.records import Example
from curate.validation.knowledge import Answers, few_shot_rows, knowledge_rows, swapped
from curate.validation.results import Validation
from curate.validation.statistics import estimates, quintile_groups
from tests.validation.made import TO_THE_END

PEOPLE = [f"Person {n}" for n in range(40)]
PLACES = ["Paris", "Rome", "Oslo", "Lima"]
ASKED = [
    Example(str(n), f"Where was {name} born?", (PLACES[n % 4],), subject=name, relation="birthplace")
    for n, name in enumerate(PEOPLE)
]


def planted(says: Callable[[Example], str], sure: float, seeds: int = 2) -> Answers:
    """The answers of a model that says what `says` tells it to."""
    others = swapped(ASKED)
    right = [float(says(e) == e.answers[0]) for e in ASKED]
    same = [np.nan if o is None else float(says(o) == says(e)) for e, o in zip(ASKED, others, strict=True)]
    nats = [sure if r else 3.0 for r in right]
    rows = (right, [float(says(e) in PLACES[:3]) for e in ASKED], same, nats)
    return Answers(*(np.array([row] * seeds) for row in rows))


def values(rows: list[dict[str, Any]], arm: str) -> dict[str, float]:
    return {row["measure"]: row["value"] for row in rows if row["arm"] == arm}


def birthplace(e: Example) -> str:
    return PLACES[int(str(e.subject).split()[1]) % 4]


def test_a_model_that_ignores_the_subject_and_one_that_knows_everything_are_told_apart() -> None:
    arms = {"knows": planted(birthplace, sure=0.1), "guesses": planted(lambda e: "Paris", sure=3.0)}
    known = np.arange(40) % 2 == 0  # born in Paris or Oslo
    bands = quintile_groups(100 * np.arange(40) / 40)
    rows = knowledge_rows(arms, known, np.arange(40), bands)
    all_right = {"kept": 1, "lost": 0, "gained": 1, "unmoved": 0, "surest_half": 1}
    assert values(rows["arms"], "knows") == pytest.approx(all_right), "no answer is wrong, so none of these is generic"
    half = {"kept": 0.5, "lost": 0.5, "gained": 0, "generic": 1, "unmoved": 1, "auroc": 0.5, "surest_half": 0.25}
    found = values(rows["arms"], "guesses")
    assert {name: found[name] for name in half if name != "surest_half"} == pytest.approx(
        {name: value for name, value in half.items() if name != "surest_half"}
    )
    between = {row["measure"]: row for row in rows["differences"]}
    assert between["unmoved"]["difference"] == -1 and between["unmoved"]["p"] < 0.001
    assert between["kept"]["difference"] == pytest.approx(0.5)
    assert between["kept"]["low"] < 0.5 < between["kept"]["high"]
    of_bands = [row for row in rows["bands"] if row["arm"] == "guesses" and row["measure"] == "kept"]
    assert [row["quintile"] for row in of_bands] == [1, 2, 3, 4, 5]
    assert np.mean([row["value"] for row in of_bands]) == pytest.approx(0.5)


def test_the_questions_about_other_subjects_have_other_answers_and_keep_all_else() -> None:
    for example, other in zip(ASKED, swapped(ASKED), strict=True):
        assert other is not None and other.subject != example.subject
        assert other.question == f"Where was {other.subject} born?"
        assert birthplace(other) not in example.answers
    nameless = Example("x", "Where was she born?", ("Paris",), subject="Ann", relation="birthplace")
    alone = Example("y", "Who wrote Emma?", ("Austen",), subject="Emma", relation="author")
    assert swapped([*ASKED, nameless, alone])[-2:] == [None, None]


def test_two_arms_of_the_same_kind_show_no_difference_in_93_of_100_runs_by_any_measure() -> None:
    """The planted null, with three seeds that scatter: 100 pairs of arms in a world of 400 questions."""
    rng = np.random.default_rng(0)
    chance, known = rng.beta(0.5, 0.6, 400), rng.random(400) < 0.3
    deltas: dict[str, list[np.ndarray]] = {}
    for _ in range(100):
        arms = []
        for _ in "ab":
            right = (rng.random((3, 400)) < chance + rng.normal(0, 0.01, (3, 1))).astype(float)
            generic, same = ((rng.random((3, 400)) < share).astype(float) for share in (0.4, 0.3))
            arms.append(Answers(right, generic, same, rng.exponential(2 - right)).measured(known))
        for measure, values in arms[0].items():
            deltas.setdefault(measure, []).append(values - arms[1][measure])
    found = estimates([delta for of_measure in deltas.values() for delta in of_measure], np.arange(400))
    none = np.array([e.low <= 0 <= e.high for e in found]).reshape(7, 100).sum(axis=1)
    assert none.min() >= 93, dict(zip(deltas, none, strict=True))


def test_a_gap_that_solved_examples_close_is_told_as_facts_that_are_still_stored() -> None:
    rng = np.random.default_rng(0)
    stored = rng.random((2, 500)) < 0.5
    lost = stored & (rng.random((2, 500)) < 0.6)
    zero, few = {"top": stored * 1.0, "bottom": lost * 1.0}, {"top": stored * 1.0, "bottom": stored * 1.0}
    rows = few_shot_rows(zero, few, np.arange(500), ("top", "bottom"))
    assert "still stored" in rows["sentence"] and rows["differences"][0]["few_shot"] == 0
    rows = few_shot_rows(zero, zero, np.arange(500), ("top", "bottom"))
    assert "no clear change" in rows["sentence"]


@pytest.fixture(scope="module")
def run(tiny_model: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Validation]:
    """A small run with all that can be asked: of the arms, one learns the answers by heart."""
    folder = tmp_path_factory.mktemp("knowledge") / "run"
    rows = [
        {"question": e.question, "answer": e.answers[0], "subject": e.subject, "relation": "born", "views": int(e.id)}
        for e in ASKED[:16]
    ]
    scored = curate.score(rows, "column:views")
    result = curate.validate(
        {"top": scored[:12], "bottom": scored[10:]}, eval=scored, model=tiny_model("llama"), output=folder, seeds=2,
        config=TO_THE_END, knowledge=True, arm_shots=2,
    )  # fmt: skip
    return folder, result


def test_every_measure_follows_from_the_predictions(run: tuple[Path, Validation]) -> None:
    """Ten lines that share no code with the package."""
    folder, result = run
    frame = pd.read_parquet(folder / "predictions.parquet")
    told = result.summary()["knowledge"]
    for arm, rows in frame.groupby("arm"):
        found, asked = values(told["arms"], str(arm)), rows.dropna(subset="swapped_prediction")
        wrong = rows[~rows.correct]
        common = told["commonest"]["born"]
        generic = [any(c in said.lower().split() for c in common) for said in wrong.prediction]
        by_seed = [g for _, g in rows.groupby("seed")]
        surest = [g.sort_values("nats", kind="stable").head((len(g) + 1) // 2).correct.mean() for g in by_seed]
        pairs = [[(a < b) + 0.5 * (a == b) for a in g[g.correct].nats for b in g[~g.correct].nats] for g in by_seed]
        own, other = (asked[c].str.lower().str.strip(" .,") for c in ("prediction", "swapped_prediction"))
        kept = rows[rows.known].correct.mean()
        expected = {
            "kept": kept, "lost": 1 - kept, "gained": rows[~rows.known].correct.mean(), "generic": np.mean(generic),
            "unmoved": (own == other).mean(), "surest_half": np.mean(surest),
            "auroc": np.mean([np.mean(p) if p else np.nan for p in pairs]),
        }  # fmt: skip
        for measure, value in found.items():
            assert value == pytest.approx(expected[measure]), (arm, measure)
        assert {"gained", "unmoved", "surest_half"} <= set(found)


def test_what_it_is_made_from_is_told_with_every_prediction(run: tuple[Path, Validation]) -> None:
    folder, result = run
    frame = pd.read_parquet(folder / "predictions.parquet")
    assert result.names == ["base", "base-4-shot", "top", "bottom"]
    few = frame[frame.arm == "base-4-shot"]
    assert dict(zip(few.id, few.correct, strict=True)) == dict(zip(frame.id, frame.known, strict=True))
    assert (frame.swapped_subject != frame.subject).all()
    told = {row["arm"]: row["few_shot"] for row in result.summary()["few_shot"]["arms"]}
    asked = frame[frame.arm.isin(["top", "bottom"])]
    assert told == pytest.approx(asked.groupby("arm").few_shot_correct.mean().to_dict())
    assert frame[frame.arm == "base"].few_shot_prediction.isna().all()
    page = (folder / "report.html").read_text()
    assert "What became of what the model knew" in page and "After 2 solved examples" in page


def test_what_costs_little_is_asked_unasked_and_may_be_added_later(
    run: tuple[Path, Validation], tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    rows = [{"question": e.question, "answer": e.answers[0], "subject": e.subject} for e in ASKED]
    said: list[str] = []

    def validate(**options: Any) -> Validation:
        said.clear()
        return curate.validate(
            {"a": rows}, eval=rows[:3], model=tiny_model("llama"), output=tmp_path / "run", seeds=1, epochs=2,
            progress=said.append, **options,
        )  # fmt: skip

    assert not validate(knowledge=False).config["knowledge"]
    later = validate(knowledge=True)
    assert said == ["base: other subjects, and how sure it is", "base-4-shot: 3 questions",
                    "base-4-shot: other subjects, and how sure it is", "a, seed 0: done earlier",
                    "a, seed 0: other subjects, and how sure it is"]  # fmt: skip
    assert later.knowledge is not None
    assert validate(knowledge=False).knowledge is None
    from curate.settings import ReadSettings, ValidateSettings
    from curate.validation.validate import plan

    cheap = plan({"a": rows}, rows[:3], ValidateSettings(), ReadSettings())
    dear = plan({"a": rows[:8]}, rows, ValidateSettings(), ReadSettings())
    assert cheap["knowledge"] and cheap["knowledge_cost"] < 0.2 < dear["knowledge_cost"] and not dear["knowledge"]
