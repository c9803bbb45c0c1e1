"""`curate show --agreement`: which scores of a file agree, which tell what is known, what else explains them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import mannwhitneyu, spearmanr

import curate as library
from curate.cli.tables import shown_tables
from curate.errors import ColumnError, DataError
from curate.show import agreement

Curate = Callable[..., Any]


@pytest.fixture
def frame() -> pd.DataFrame:
    """120 questions of three relations; a good score, a poor one, and what is known."""
    random = np.random.default_rng(3)
    relations = random.choice(["sport", "author", "capital"], 120, p=[0.5, 0.3, 0.2])
    known = random.random(120) < np.where(relations == "sport", 0.6, 0.3)
    usual = {"sport": ["golf", "chess"], "author": ["Ann", "Bob", "Cy"], "capital": [f"C{n}" for n in range(30)]}
    return pd.DataFrame(
        {
            "question": [f"What is the {relation} of Subject {n}?" for n, relation in enumerate(relations)],
            "answers": [[str(random.choice(usual[relation])), "another"] for relation in relations],
            "subject": [f"Subject {n}" for n in range(120)],
            "relation": relations,
            "curate_id": [f"id-{n}" for n in range(120)],
            "score_good": known + random.normal(0, 0.7, 120) + (relations == "sport"),
            "score_poor": random.integers(0, 9, 120).astype(float),
            "known_greedy": np.where(known, random.choice([0.5, 1.0], 120), random.choice([0.0, 0.4], 120)),
        }
    )


@pytest.fixture
def file(frame: pd.DataFrame, tmp_path: Path) -> Path:
    frame.to_parquet(tmp_path / "s.parquet")
    return tmp_path / "s.parquet"


def of(frame: pd.DataFrame) -> dict[str, Any]:
    return agreement(library.read(frame))


def plain_auc(frame: pd.DataFrame, by: list[str]) -> float:
    """The AUC of the good score inside groups, by Mann and Whitney."""
    right, pairs = 0.0, 0
    for _, group in frame.groupby(by) if by else [("", frame)]:
        known = group["known_greedy"] >= 0.5
        if known.any() and not known.all():
            right += mannwhitneyu(group["score_good"][known], group["score_good"][~known]).statistic
            pairs += known.sum() * (~known).sum()
    return right / pairs


def test_the_numbers_are_those_of_a_plain_computation(frame: pd.DataFrame) -> None:
    found = of(frame)
    frame = frame.assign(first=frame["answers"].str[0])
    frame = frame.assign(times=frame.groupby("first")["first"].transform("size"))
    assert found["known"]["auc"]["good"] == pytest.approx(
        {
            "all": plain_auc(frame, []),
            "inside_relations": plain_auc(frame, ["relation"]),
            "rare_answers": plain_auc(frame[frame["times"] <= 4], []),
            "same_answer": plain_auc(frame, ["relation", "first"]),
        }
    )
    assert found["known"]["known"] == (frame["known_greedy"] >= 0.5).sum()
    groups = [(spearmanr(g["score_good"], g["score_poor"])[0], len(g)) for _, g in frame.groupby("relation")]
    assert found["pairs"][0]["correlation"] == pytest.approx(
        {
            "all": spearmanr(frame["score_good"], frame["score_poor"])[0],
            "inside_relations": np.average([rho for rho, _ in groups], weights=[n for _, n in groups]),
        }
    )
    ranks = frame["score_good"].rank()
    left = (ranks - ranks.groupby(frame["relation"]).transform("mean")).pow(2).sum() / (120 - 3)
    assert found["explained"]["good"]["relation"] == pytest.approx(1 - left / ranks.var())
    assert found["explained"]["good"]["pattern"] == pytest.approx(found["explained"]["good"]["relation"])


def test_the_halves_are_those_that_select_takes(frame: pd.DataFrame) -> None:
    found = of(frame)["pairs"][0]["overlap"]
    for way, options in (("all", {}), ("inside_relations", {"stratify_by": "relation"})):
        halves = [set(library.select(frame, by=by, top=0.5, **options).kept["curate_id"]) for by in ("good", "poor")]
        assert found[way] == len(halves[0] & halves[1]) / 60


def test_only_the_order_of_a_score_counts(frame: pd.DataFrame) -> None:
    assert of(frame.assign(score_good=np.exp(3 * frame["score_good"]))) == of(frame)
    backward = of(frame.assign(score_good=-frame["score_good"]))["known"]["auc"]["good"]
    assert backward["all"] == pytest.approx(1 - of(frame)["known"]["auc"]["good"]["all"])


def test_the_order_of_the_rows_does_not_count(frame: pd.DataFrame) -> None:
    def rounded(found: dict[str, Any]) -> Any:
        return json.loads(json.dumps(found), parse_float=lambda text: round(float(text), 6))

    assert rounded(of(frame.sample(frac=1, random_state=0))) == rounded(of(frame))


def test_a_score_agrees_with_itself(frame: pd.DataFrame) -> None:
    (pair,) = of(frame.assign(score_poor=frame["score_good"] * 2))["pairs"]
    assert pair["correlation"] == pytest.approx({"all": 1, "inside_relations": 1})
    assert pair["overlap"] == {"all": 1.0, "inside_relations": 1.0}


def test_rows_that_lack_a_score_are_left_out_of_all(frame: pd.DataFrame) -> None:
    holes = frame.assign(score_poor=frame["score_poor"].where(frame.index % 3 > 0))
    found = of(holes)
    assert (found["compared"], found["rows"]) == (80, 120)
    alone = of(holes[holes["score_poor"].notna()])
    assert found["known"]["auc"]["good"]["all"] == alone["known"]["auc"]["good"]["all"]
    assert found["pairs"] == alone["pairs"]


def test_question_patterns_stand_for_relations_that_are_not_known(frame: pd.DataFrame) -> None:
    known, unknown = of(frame), of(frame.drop(columns="relation"))
    assert unknown["relations"] == {"from": None, "count": 3}
    assert unknown["known"] == known["known"]
    assert "relation" not in unknown["explained"]["good"]
    assert "No relation is known; 3 question patterns stand for them" in [*shown_tables({"file": "", **unknown})]
    nothing = frame.drop(columns="relation").assign(question=[f"{chr(97 + n % 26)}{n}?" for n in range(120)])
    assert of(nothing)["pairs"][0]["correlation"]["inside_relations"] is None
    assert of(nothing)["known"]["auc"]["good"]["same_answer"] is None


def test_of_a_large_file_a_sample_tells_what_explains(frame: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = of(frame)
    monkeypatch.setattr("curate.show.EXPLAINED", 60)
    sampled = of(frame)
    assert sampled["explained"] == of(frame[::2])["explained"] != whole["explained"]
    assert sampled["known"] == whole["known"] and sampled["pairs"] == whole["pairs"]


def test_without_known_greedy_nothing_is_said_of_what_is_known(frame: pd.DataFrame) -> None:
    assert of(frame.drop(columns="known_greedy"))["known"] is None
    some = of(frame.assign(known_greedy=frame["known_greedy"].where(frame.index < 50)))["known"]
    assert some["known"] + some["unknown"] == 50


def test_a_score_that_the_relation_explains_is_warned_of(curate: Curate, frame: pd.DataFrame, file: Path) -> None:
    assert "Warning" not in curate("show", "--agreement", file).stderr
    codes = frame["relation"].map({"sport": 0, "author": 5, "capital": 9})
    frame.assign(score_poor=codes + frame["score_poor"] / 100).to_parquet(file)
    warned = curate("show", "--agreement", "s.parquet")
    assert "of the order by poor is explained by what kind of question it is (relation 8" in warned.stderr
    assert "curate select s.parquet --by poor --top 0.5 --stratify-by relation -o splits/" in warned.stderr
    assert warned.stderr.count("Warning") == 1
    advice = warned.stderr.split("held fixed: curate ")[1].split()
    assert curate(*advice).exit_code == 0
    assert len(json.loads(curate("show", "--agreement", "s.parquet", "--json").stdout)["warnings"]) == 1
    assert "--stratify-by pattern" in of(pd.read_parquet(file).drop(columns="relation"))["warnings"][0]
    lengths = frame["answers"].str[0].str.len()
    (line,) = of(frame.assign(score_poor=lengths))["warnings"]
    assert "length 100%" in line and "--stratify-by answer-length" in line


@pytest.mark.parametrize("name", ["good", "how_often_the_subject_is_cited"])
def test_a_terminal_of_80_columns_shows_all_of_it(
    curate: Curate, frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    frame = frame.rename(columns={"score_good": f"score_{name}"})
    frame.assign(score_known=frame["known_greedy"]).to_parquet(tmp_path / "s.parquet")
    shown = curate("show", "--agreement", "s.parquet").stdout
    assert max(map(len, shown.splitlines())) <= 80
    for text in (
        "Do they agree?",
        "AUC; 0.50 is chance",
        "Adjusted R²",
        name,
        "its AUC is no evidence",
        "3 relations (relation)",
    ):
        assert text in shown


def test_the_command_prints_what_python_gives(curate: Curate, frame: pd.DataFrame, file: Path) -> None:
    told = json.loads(curate("show", "--agreement", file, "--json").stdout)
    assert told == {"file": str(file), **agreement(library.read(file))}


def test_one_score_has_nothing_to_agree_with(curate: Curate, frame: pd.DataFrame, tmp_path: Path) -> None:
    frame.drop(columns="score_poor").to_parquet(tmp_path / "s.parquet")
    shown = curate("show", "--agreement", "s.parquet")
    assert "good is the only score. Another beside it: curate score s.parquet --by" in shown.stdout
    assert "AUC" in shown.stdout and shown.exit_code == 0


def test_what_has_no_scores_is_told_what_to_do(curate: Curate, films: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(ColumnError, match="has no score"):
        agreement(library.read(films))
    pq.write_table(pa.Table.from_pylist(films), tmp_path / "films.parquet")
    said = curate("show", "--agreement", "films.parquet")
    assert said.exit_code == 1
    assert "Try: curate score films.parquet --by column:NAME --by loss --model MODEL -o scored.parquet" in said.stderr
    both = [
        {**film, "score_a": None if n % 2 else 1.0, "score_b": 1.0 if n % 2 else None} for n, film in enumerate(films)
    ]
    with pytest.raises(DataError, match=r"No row .* has all of its scores \(rows with each: a 3, b 3\)"):
        agreement(library.read(both))


def test_one_file_is_asked_about_at_a_time(curate: Curate, file: Path) -> None:
    assert "2 files were named" in curate("show", "--agreement", file, file).stderr
    assert "--agreement about one" in curate("show", "--agreement", "--compare", file, file).stderr
    assert curate("show", "--agreement", "nowhere.parquet").exit_code == 1


def test_multiple_choice_and_constant_scores_are_no_trouble() -> None:
    rows = [
        {"question": f"{n}?", "choices": ["a", "b", "c"], "answer": "ABC"[n % 3], "score_x": 1.0, "score_y": float(n)}
        for n in range(12)
    ]
    found = agreement(library.read(rows))
    assert found["pairs"][0]["correlation"]["all"] is None
    assert found["explained"]["x"]["all"] is None
