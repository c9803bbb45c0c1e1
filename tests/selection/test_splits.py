"""Classes, mixes, bands and ladders, in all of a pool and inside strata."""

from __future__ import annotations

import json
from collections import Counter
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

import curate
from curate.errors import ColumnError, CurateError, SelectionError
from curate.selection.groups import portions
from tests.selection.rows import Rows

CLASSES = ["HighlyKnown", "MaybeKnown", "WeaklyKnown", "Unknown", None]
MIX = "maybe=0.7,highly=0.3"
TITLES = (
    "Emma",
    "Dune",
    "It",
    "Ulysses",
    "Walden",
    "Kim",
    "Persuasion",
    "Nana",
    "Carrie",
    "Cujo",
    "Germinal",
    "Rebecca",
)


def known_rows(groups: list[int], classes: list[int], scores: list[int]) -> Rows:
    return [
        {
            "question": f"q{i}",
            "answer": f"a{i % 3}",
            "relation": f"r{group}",
            "curate_id": f"id-{i}",
            "score_x": None if score == 9 else float(score),
            "known_class": CLASSES[which],
        }
        for i, (group, which, score) in enumerate(zip(groups, classes, scores, strict=True))
    ]


CELLS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4), st.integers(0, 9)), min_size=4, max_size=60)
POOLS = CELLS.filter(lambda cells: any(score != 9 for *_, score in cells)).map(
    lambda cells: known_rows(*map(list, zip(*cells, strict=True)))
)
STRATA = st.sampled_from([None, "relation", "relation,answer-frequency", ["relation", "answer"]])


def taken(chosen: Any) -> dict[str, set[str]]:
    return {name: {row["curate_id"] for row in chosen[name]} for name in chosen}


def measured(rows: Rows) -> Rows:
    return [row for row in rows if row["score_x"] is not None]


@given(weights=st.lists(st.integers(0, 40), min_size=1, max_size=30).filter(any), data=st.data())
def test_portions_are_exact_in_sum_within_one_row_in_each_and_nested(weights: list[int], data: st.DataObject) -> None:
    total = sum(weights)
    before = np.zeros(len(weights), dtype=int)
    for k in sorted(data.draw(st.lists(st.integers(0, total), max_size=5))):
        counts = portions(weights, k)
        assert counts.sum() == k
        assert (counts >= before).all()
        assert (counts <= weights).all()
        before = counts
    assert (portions(weights, total) == weights).all()


@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=200), share=st.integers(0, 100))
def test_no_group_takes_the_part_of_others(sizes: list[int], share: int) -> None:
    k = round(sum(sizes) * share / 100)
    counts = portions(sizes, k)
    assert (np.abs(counts - np.array(sizes) * k / sum(sizes)) < 1 + max(sizes) * 2 / sum(sizes) ** 0.5).all()


@given(rows=POOLS, strata=STRATA, cuts=st.lists(st.integers(0, 100), max_size=3))
def test_bands_that_meet_part_the_pool_and_have_their_exact_size(rows: Rows, strata: Any, cuts: list[int]) -> None:
    pool = measured(rows)
    edges = sorted({0, *cuts, 100})
    found: list[str] = []
    for low, high in pairwise(edges):
        size = int(high * len(pool) / 100 + 0.5) - int(low * len(pool) / 100 + 0.5)
        if size:
            band = curate.select(rows, band=f"{low}:{high}", stratify_by=strata).kept
            assert len(band) == size
            found += [row["curate_id"] for row in band]
    assert sorted(found) == sorted(row["curate_id"] for row in pool)


@given(rows=POOLS, strata=STRATA, rule=st.sampled_from(["top", "bottom", "random", "known", "band"]), data=st.data())
def test_a_ladder_is_nested_and_of_its_sizes(rows: Rows, strata: Any, rule: str, data: st.DataObject) -> None:
    asked = {"known": "highly,maybe,weakly,unknown", "band": "20:80"}.get(rule, len(measured(rows)) or 1)
    if asked == 1:
        asked = 1.0
    try:
        most = len(curate.select(rows, **{rule: asked}, stratify_by=strata).kept)
    except SelectionError:  # no such class, no row of the band
        return
    sizes = sorted(data.draw(st.sets(st.integers(1, max(1, most)), min_size=1, max_size=4)))
    if not most:
        return
    chosen = curate.select(rows, **{rule: asked}, sizes=sizes, stratify_by=strata, seed=3)
    found = [*taken(chosen).values()]
    assert list(chosen)[:-1] == [f"{list(chosen)[-1]}-{k}" for k in sizes]
    assert [len(ids) for ids in found] == [*sizes, most]
    assert all(less <= more for less, more in pairwise(found))
    again = curate.select(rows[::-1], **{rule: asked}, sizes=sizes, stratify_by=strata, seed=3)
    assert taken(again) == taken(chosen), "whatever the order of the rows"


def test_a_ladder_alone_is_one_of_the_best_known(scored: Rows) -> None:
    chosen = curate.select(scored, sizes=[2, 4, 6])
    assert list(chosen) == ["top-2", "top-4", "top-6"]
    alone = curate.select(scored, top=4)
    assert taken(chosen)["top-4"] == taken(alone)["top"]
    assert list(curate.select(scored, sizes=[2], whole=True)) == ["top-2", "whole"]


@given(rows=POOLS, words=st.sets(st.sampled_from(["highly", "Maybe", "WeaklyKnown", "unknown"]), min_size=1))
def test_classes_are_those_rows_of_the_pool(rows: Rows, words: set[str]) -> None:
    wanted = {word.lower().removesuffix("known") or "un" for word in words}
    wanted = {"unknown" if word == "un" else word for word in wanted}
    expected = {
        row["curate_id"]
        for row in measured(rows)
        if row["known_class"]
        and (row["known_class"].lower().removesuffix("known") or "un")
        in {"un" if word == "unknown" else word for word in wanted}
    }
    try:
        chosen = curate.select(rows, known=",".join(words))
    except SelectionError as error:
        assert "has the class" in str(error)
        assert not expected
        return
    assert taken(chosen) == {
        "-".join(["known", *(w for w in ("highly", "maybe", "weakly", "unknown") if w in wanted)]): expected
    }


@pytest.fixture
def facts() -> Rows:
    """1,000 rows of 4 relations, a quarter of each class in three of them; the last has none that is known."""
    groups = [i % 4 for i in range(1000)]
    return known_rows(groups, [3 if i % 4 == 3 else (i // 4) % 4 for i in range(1000)], [i % 9 for i in range(1000)])


def test_a_mix_has_its_shares_exactly(facts: Rows) -> None:
    chosen = curate.select(facts, mix=MIX, size=100, seed=1)
    assert Counter(row["known_class"] for row in chosen["mix"]) == {"MaybeKnown": 70, "HighlyKnown": 30}
    assert taken(curate.select(facts[::-1], mix={"highly": 0.3, "maybe": 0.7}, size=100, seed=1)) == taken(chosen)
    assert taken(curate.select(facts, mix=MIX, size=100, seed=2)) != taken(chosen)


def test_a_ladder_of_a_mix_keeps_its_shares(facts: Rows) -> None:
    chosen = curate.select(facts, mix=MIX, sizes=[10, 50, 200])
    assert list(chosen) == ["mix-10", "mix-50", "mix-200"]
    for k in (10, 50, 200):
        assert Counter(row["known_class"] for row in chosen[f"mix-{k}"])["MaybeKnown"] == 0.7 * k
    assert all(less <= more for less, more in pairwise(taken(chosen).values()))


def test_what_a_stratum_lacks_of_a_mix_is_said_and_not_filled(facts: Rows) -> None:
    chosen = curate.select(facts, mix=MIX, size=40, stratify_by="relation")
    kept = Counter((row["relation"], row["known_class"]) for row in chosen["mix"])
    assert kept == {(f"r{g}", c): n for g in range(3) for c, n in (("MaybeKnown", 7), ("HighlyKnown", 3))}
    (split,) = chosen.summary()["splits"]
    assert split["lacks"] == {"maybe of r3": 7, "highly of r3": 3}
    assert split["rows"] == 30


def test_the_mix_of_answers_is_held_fixed() -> None:
    rows = [
        {"question": str(i), "answer": answer, "relation": relation, "score_x": float(i)}
        for i, (relation, answer) in enumerate(
            [("a", "common")] * 40 + [("a", f"rare {i}") for i in range(20)] + [("b", "common")] + [("b", "few")] * 3
        )
    ]
    chosen = curate.select(rows, top=0.5, bottom=0.5, stratify_by="relation,answer-frequency")
    for name in chosen:
        found = Counter((row["relation"], row["answer"].split()[0]) for row in chosen[name])
        assert found["a", "common"] == 20
        assert found["a", "rare"] == 10
    only = curate.select(rows, whole=True, where="answer-frequency=2-4")
    assert [row["answer"] for row in only.kept] == ["few"] * 3


def test_patterns_of_questions_stand_for_relations() -> None:
    rows = [
        {
            "question": f"Who wrote {name}?" if i % 2 else f"Where was {name} born?",
            "answer": "x",
            "score_x": float(i % 2),
        }
        for i, name in enumerate(TITLES)
    ]
    kept = curate.select(rows, top=0.5, stratify_by="pattern").kept
    assert Counter(row["question"][:4] for row in kept) == {"Who ": 3, "Wher": 3}


@given(
    rows=POOLS,
    rule=st.sampled_from([{"top": 0.5}, {"bottom": 0.3}, {"random": 0.5}, {"band": "20:70"}]),
    data=st.data(),
)
def test_every_group_keeps_its_share_of_known_rows(rows: Rows, rule: dict[str, Any], data: st.DataObject) -> None:
    share = data.draw(st.sampled_from(["0.1", "0.2", "1/3", "0.5", "0.75"]))
    try:
        plain = taken(curate.select(rows, **rule))
        chosen = curate.select(rows, **rule, min_known=f"relation={share}")
    except SelectionError as error:
        assert "cannot be met" in str(error) or "no row" in str(error)
        return
    (name,) = chosen
    pool = {row["curate_id"]: row for row in measured(rows)}
    known = {id for id, row in pool.items() if row["known_class"] in CLASSES[:2]}
    kept = taken(chosen)[name]
    assert plain[name] <= kept
    added = kept - plain[name]
    for relation in {row["relation"] for row in pool.values()}:
        own = {id for id in kept if pool[id]["relation"] == relation}
        assert len(own & known) >= Fraction(share) * len(own)
        more = {id for id in added if pool[id]["relation"] == relation}
        left = {id for id in known - kept if pool[id]["relation"] == relation}
        assert more <= known
        assert not more or len(own & known) - 1 < Fraction(share) * (len(own) - 1), "no more than needed"
        assert all(pool[a]["score_x"] >= pool[b]["score_x"] for a in more for b in left), "the best known are added"


def test_a_guarded_ladder_is_nested_and_whole_is_left_whole(facts: Rows) -> None:
    rows = [row for row in facts if row["relation"] != "r3"]
    chosen = curate.select(rows, bottom=300, whole=True, sizes=[30, 100], min_known="relation=0.6")
    found = taken(chosen)
    assert found["bottom-30"] < found["bottom-100"] < found["bottom"]
    assert len(found["whole"]) == len(rows)
    added = {split["split"]: split.get("added", 0) for split in chosen.summary()["splits"]}
    assert added["bottom-30"] > 0
    assert added["whole"] == 0


def test_obscure_first_puts_the_known_rows_of_a_guard_last(facts: Rows) -> None:
    rows = [row for row in facts if row["relation"] != "r3"]
    kept = curate.select(rows, bottom=100, min_known="relation=0.6", order="obscure-first").kept
    known = [row["known_class"] in CLASSES[:2] for row in kept]
    assert known == sorted(known)
    scores = [row["score_x"] for row in kept]
    assert scores[known.index(True) :] == sorted(scores[known.index(True) :])


def test_several_mixes_are_called_by_their_shares(facts: Rows) -> None:
    chosen = curate.select(facts, mix=["maybe=1", MIX], size=20)
    assert [*chosen] == ["mix-maybe-100", "mix-maybe-70-highly-30"]


def test_all_but_some_values(facts: Rows) -> None:
    chosen = curate.select(facts, where="relation!=r3,r1")
    assert {row["relation"] for row in chosen.kept} == {"r0", "r2"}
    assert chosen.summary()["left_out"] == {"relation=r3,r1": 500}


def test_all_arms_of_a_comparison_in_one_folder(facts: Rows, tmp_path: Path) -> None:
    from datasets import load_dataset

    options: dict[str, Any] = {
        "top": 0.3, "bottom": 0.3, "random": 0.3, "whole": True, "band": ["20:70", "0:70"],
        "known": ["maybe", "highly"], "mix": MIX, "size": 100, "sizes": [20, 60],
    }  # fmt: skip
    chosen = curate.select(facts, **options, stratify_by="relation,answer-frequency", output=tmp_path / "arms")
    assert {path.stem for path in (tmp_path / "arms").glob("*.parquet")} == set(chosen)
    arms = ["top", "bottom", "random", "band-20-70", "band-0-70", "known-maybe", "known-highly", "mix"]
    assert list(chosen) == [name for arm in arms for name in (f"{arm}-20", f"{arm}-60", arm)] + ["whole"]
    assert pq.read_metadata(tmp_path / "arms" / "band-20-70.parquet").num_rows == 500
    loaded = load_dataset(str(tmp_path / "arms"), cache_dir=str(tmp_path / "cache"))
    assert {name: split.num_rows for name, split in loaded.items()} == {
        name.replace("-", "_"): int(split.mask.sum()) for name, split in chosen.splits.items()
    }


def test_every_kind_of_file_and_frame_gives_the_same_splits(facts: Rows, tmp_path: Path) -> None:
    import datasets
    import pandas as pd
    import polars as pl

    rows = [row for row in facts if row["relation"] != "r3"]
    options: dict[str, Any] = {
        "top": 0.3, "band": "20:70", "known": "maybe", "mix": MIX, "size": 60, "sizes": [10, 30], "dedup": "exact",
        "min_known": "relation=0.6", "stratify_by": ["relation", "answer-frequency"], "order": "obscure-first",
    }  # fmt: skip

    def kept(data: Any) -> dict[str, list[str]]:
        chosen = curate.select(data, **options)
        return {name: list(pa.table(chosen.table(name))["curate_id"].to_pylist()) for name in chosen}

    expected = kept(rows)
    frame = pd.DataFrame(rows)
    frame.to_parquet(tmp_path / "rows.parquet", row_group_size=100)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    frame.to_json(tmp_path / "rows.jsonl", orient="records", lines=True)
    for file in ("rows.parquet", "rows.csv", "rows.jsonl"):
        assert kept(tmp_path / file) == expected
    for data in (frame, pl.DataFrame(rows), datasets.Dataset.from_list(rows), pa.Table.from_pylist(rows)):
        assert kept(data) == expected


@pytest.mark.parametrize(
    ("options", "message", "try_next"),
    [
        ({"known": "sure"}, "There is no class 'sure' (asked for with known).", "known='highly,maybe'"),
        ({"mix": "maybe=0.7,highly=0.4", "size": 9}, "is no mix of classes.", f"mix='{MIX}'"),
        ({"mix": "maybe=0.5,maybe=0.5", "size": 9}, "is no mix of classes.", f"mix='{MIX}'"),
        ({"mix": "maybe", "size": 9}, "is no mix of classes.", f"mix='{MIX}'"),
        ({"mix": "maybe=1,highly=0", "size": 9}, "is no mix of classes.", f"mix='{MIX}'"),
        ({"mix": MIX}, "mix does not say how many rows to draw.", f"mix='{MIX}' size=2000"),
        ({"mix": MIX, "size": 900}, "mix needs 630 rows of the class maybe, and there are 189.", "size=270"),
        ({"mix": MIX, "sizes": [9, 900]}, "mix-900 needs 630 rows of the class maybe, and there are 189.", "sizes=270"),
        ({"top": 3, "size": 9}, "size=9 is that of a mix, and none is asked for.", f"mix='{MIX}' size=9"),
        ({"sizes": [60, 20]}, "sizes='60,20' do not lie each within the next.", "sizes='20,60'"),
        ({"sizes": [60, 60]}, "sizes='60,60' do not lie each within the next.", "sizes=60"),
        ({"sizes": [2000]}, "2000 rows were asked for, and only 1000 can be ranked.", None),
        ({"top": 50, "sizes": [20, 60]}, "top-60 would be larger than top, which has 50 rows.", "sizes=20"),
        ({"known": "highly", "sizes": [20, 600]}, "known-highly-600 would have 600 rows, and there are 189", None),
        ({"sizes": [0]}, "sizes=0 is out of range.", None),
        (
            {"top": 0.5, "min_known": "relation=0.2"},
            "min_known='relation=0.2' cannot be met in top: r3 has 0 known rows in all.",
            "where='relation!=r3'",
        ),
        ({"top": 0.5, "min_known": "0.2"}, "min_known=0.2 is not a share of known rows.", "min_known='relation=0.2'"),
        ({"top": 0.5, "min_known": "relation=1.5"}, "is not a share of known rows.", "min_known='relation=0.2'"),
        ({"top": 0.5, "min_known": "town=0.5"}, "has no column 'town' (asked for with min_known).", None),
    ],
)
def test_what_cannot_be_meant_is_refused(
    options: dict[str, Any], message: str, try_next: str | None, facts: Rows
) -> None:
    with pytest.raises(CurateError) as error:
        curate.select(facts, **options)
    assert message in str(error.value)
    assert try_next is None or error.value.try_next == try_next


def test_classes_need_a_file_that_tells_them(scored: Rows) -> None:
    with pytest.raises(ColumnError, match="no column 'known_class'"):
        curate.select(scored, known="highly")


def test_a_class_that_no_row_has_is_said() -> None:
    with pytest.raises(SelectionError, match="No row of the pool has the class weakly") as error:
        curate.select(known_rows([0] * 4, [0, 0, 1, 3], [1, 2, 3, 4]), known="weakly")
    assert error.value.expected == "one of highly 2, maybe 1, unknown 1"


def test_popqa_by_class_and_strata_is_what_pandas_computes(popqa: Path, tmp_path: Path) -> None:
    import pandas as pd

    frame = pd.read_csv(popqa, sep="\t")
    frame["row"] = range(len(frame))
    frame["score_known"] = frame["row"] * 7919 % 100_003 / 1e5 + frame["prop_id"]
    frame["known_class"] = [CLASSES[row % 4] for row in frame["row"]]
    frame.to_parquet(tmp_path / "known.parquet")
    options: dict[str, Any] = {"known": "highly,maybe", "top": 0.3, "band": "20:70", "mix": MIX, "size": 300}
    strata = ["relation", "answer-frequency"]
    curate.select(tmp_path / "known.parquet", **options, stratify_by=strata, output=tmp_path / "arms")
    found = {path.stem: pd.read_parquet(path) for path in (tmp_path / "arms").glob("*.parquet")}

    first = frame["possible_answers"].map(lambda text: json.loads(text)[0])
    often = frame.assign(first=first).groupby(["prop", "first"])["row"].transform("size")
    group = frame["prop"] + pd.cut(often, [0, 1, 4, 20, np.inf]).astype(str)
    sizes, place = group.map(group.value_counts()), frame.groupby(group)["score_known"].rank(ascending=False)
    known = frame[frame["known_class"].isin(["HighlyKnown", "MaybeKnown"])]
    assert list(found["known-highly-maybe"]["row"]) == list(known["row"])
    kept = frame["row"].isin(found["top"]["row"])
    assert len(found["top"]) == round(0.3 * len(frame))
    assert not kept[place > 0.3 * sizes + 1].any()
    assert kept[place <= 0.3 * sizes - 1].all()
    kept = frame["row"].isin(found["band"]["row"])
    assert len(found["band"]) == round(0.7 * len(frame)) - round(0.2 * len(frame))
    assert kept[(place > 0.2 * sizes + 1) & (place <= 0.7 * sizes - 1)].all()
    lacks = json.loads((tmp_path / "arms" / "mix.parquet.manifest.json").read_text())["selection"].get("lacks", {})
    counts = found["mix"]["known_class"].value_counts()
    short = {word: sum(n for what, n in lacks.items() if what.startswith(word)) for word in ("maybe", "highly")}
    assert counts["MaybeKnown"] + short["maybe"] == pytest.approx(210, abs=10)
    assert counts.sum() + sum(short.values()) == 300
