"""What is in a file, a split, a run or a simulation; how files differ, and how the scores of one agree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.checkpoint import PARTS, read_status
from curate.data.columns import column_list
from curate.data.ids import ID_COLUMN, hash_texts, keyed
from curate.data.sources import check_named
from curate.data.stores import as_arrow, open_parquet_file
from curate.data.table import QATable, asked_in, read_with
from curate.errors import ColumnError, DataError
from curate.estimators.base import score_of_number
from curate.prompts import Template, solution
from curate.records import Example
from curate.report.page import flat
from curate.selection.explain import EXPLAINED, grouped, mix
from curate.selection.groups import NONE, Groups, first_answers, groups_by, question_patterns, quotas, subjects_of
from curate.selection.ranking import SCORE_PREFIX, as_float, as_ranked, is_number, ordered
from curate.settings import ReadSettings
from curate.summary import (
    auc,
    bin_edges,
    correlation_within,
    explained,
    mean_ranks,
    pairs_within,
    quantiles,
    rank_correlation,
)
from curate.wikipedia.views import MEASURED

BINS = 12
SHOWN_EXAMPLES = 3
SHOWN_SUBJECTS = 20
LEFT_UNFINISHED = (PARTS, "steps.json")
"""What a run, a simulation or a recipe has in its folder from its beginning on."""

KINDS = {"score": "scored file", "select": "split"}
"""What a file is called, by the command that wrote it; others are datasets."""

KNOWN_VIEWS = "s_pop"
"""The column of page views that PopQA came with."""


def describe(file: str, **options: Any) -> dict[str, Any]:
    """What is in a scored file, a split, a folder of splits, any QA dataset, or the folder of a run or a simulation.

    The options are those of `curate.read`.
    """
    settings = ReadSettings.of(options)
    check_named(file)
    folder = Path(file)
    if summary := _summary_in(folder):
        return {"kind": "run" if "arms" in summary else "simulation", "file": file, **summary}
    if status := read_status(folder) or read_status(folder / "run"):  # of a recipe
        return {"kind": "going on", "file": file, **status}
    if any((folder / left).exists() for left in LEFT_UNFINISHED):
        raise DataError(
            f"What is made in the folder {file} is not finished.",
            expected="a folder with the summary.json of a run or a simulation",
            try_next="the command that began it, which goes on from where it was",
        )
    if folder.is_dir() and (manifests := sorted(folder.glob("*.manifest.json"))):
        splits = [manifest.with_name(manifest.name.removesuffix(".manifest.json")) for manifest in manifests]
        described = [{"split": path.stem, **describe_table(read_with(path, settings))} for path in splits]
        return {"kind": "splits", "file": file, "splits": described}
    data = read_with(file, settings)
    return {"kind": KINDS.get(data.manifest.get("command", ""), "dataset"), "file": file, **describe_table(data)}


def compare_files(files: list[str], **options: Any) -> dict[str, Any]:
    """Compare splits (or any QA files) by the ids, subjects, scores, relations and answers they hold.

    Mixes are told as shifts from the first file to each of the others. The options are those of `curate.read`;
    DataError for fewer than two files.
    """
    if len(files) < 2:
        raise DataError(
            f"There is nothing to compare {files[0]} with.",
            expected="two files or more",
            try_next=f"curate show --compare {files[0]} OTHER.parquet",
        )
    settings = ReadSettings.of(options)
    tables = {name: read_with(file, settings) for name, file in zip(_names(files), files, strict=True)}
    ids = {name: np.unique(data.id_hashes()) for name, data in tables.items()}
    subjects = {name: _subjects(data, data.roles.subject) for name, data in tables.items() if data.roles.subject}
    return {
        "kind": "comparison",
        "files": files,
        "splits": [
            {"split": name, "rows": len(data), "distinct_subjects": len(subjects.get(name, []))}
            for name, data in tables.items()
        ],
        "overlap": [
            {
                "a": a,
                "b": b,
                "rows": _in_common(ids[a], ids[b]),
                "subjects": _in_common(subjects[a], subjects[b]) if a in subjects and b in subjects else None,
            }
            for a, b in combinations(tables, 2)
        ],
        "scores": {column.removeprefix(SCORE_PREFIX): _scores(column, tables) for column in _common_scores(tables)},
        **dict(_mixes(tables)),
    }


def _names(files: list[str]) -> list[str]:
    """What to call the files: by their names, or their paths, or numbered, whatever tells them apart."""
    stems = [Path(file).name.removesuffix(".parquet") for file in files]
    names = stems if len(set(stems)) == len(stems) else files
    return list(names) if len(set(names)) == len(names) else [f"{name} ({i})" for i, name in enumerate(names, start=1)]


def _subjects(data: QATable, name: str) -> NDArray[np.uint64]:
    """Hashes of the distinct subjects, those that a holdout would call the same being one."""
    subjects = subjects_of(data, name)
    used = np.unique(subjects.codes[subjects.codes >= 0])  # a dictionary may have values that no row has
    return np.unique(hash_texts([subjects.labels[code] for code in used]))


def _in_common(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> int:
    return len(np.intersect1d(a, b, assume_unique=True))


def _common_scores(tables: Mapping[str, QATable]) -> list[str]:
    """The score columns that hold numbers in all files."""
    first, *others = (_scores_in(data.schema) for data in tables.values())
    return [name for name in first if all(name in names for names in others)]


def _scores(column: str, tables: Mapping[str, QATable]) -> dict[str, dict[str, Any]]:
    """How many rows of each file have this score, and its quantiles there."""
    values = {name: as_float(data.column(column)) for name, data in tables.items()}
    return {n: {"measured": int(np.count_nonzero(~np.isnan(v))), "quantiles": quantiles(v)} for n, v in values.items()}


def _mixes(tables: Mapping[str, QATable]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Of relations and of answers, where all files have them in columns of comparable types."""
    source = np.repeat(np.arange(len(tables)), [len(data) for data in tables.values()])
    masks = {name: source == number for number, name in enumerate(tables)}
    for role in ("relation", "answers"):
        columns = [data.roles.as_dict()[role] for data in tables.values()]
        if None in columns:
            continue
        parts = [data.column(str(name)) for data, name in zip(tables.values(), columns, strict=True)]
        if any(part.type != parts[0].type for part in parts):
            if any(pa.types.is_nested(part.type) for part in parts):
                continue
            parts = [part.cast(pa.string()) for part in parts]
        joined = pa.chunked_array([chunk for part in parts for chunk in part.chunks])
        yield role, mix(grouped(role, joined, role), next(iter(masks.values())), masks)


def compare_runs(files: Sequence[str]) -> dict[str, Any] | None:
    """Finished validations side by side, and the settings in which they differ; None where one of the files is none."""
    summaries = [_summary_in(Path(file)) for file in files]
    runs = [{"file": file, **found} for file, found in zip(files, summaries, strict=True) if found and "arms" in found]
    if len(runs) < len(files):
        return None
    told = [dict(flat(run.get("config", {}))) for run in runs]
    names = dict.fromkeys(name for settings in told for name in settings)
    differ = {name: [settings.get(name, "") for settings in told] for name in names}
    return {"runs": runs, "settings": {name: found for name, found in differ.items() if len(set(found)) > 1}}


def describe_agreement(file: str, **options: Any) -> dict[str, Any]:
    """How the scores of a file agree, what each tells of what is known, and what explains it: see `agreement`."""
    check_named(file)
    return {"file": file, **agreement(read_with(file, ReadSettings.of(options)))}


def _summary_in(folder: Path) -> dict[str, Any] | None:
    """The summary.json that curate left in a folder; None if there is none, or somebody else's."""
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    ours = isinstance(summary, dict) and "verdict" in summary and ("arms" in summary or "experiment" in summary)
    return summary if ours else None


def describe_table(data: QATable) -> dict[str, Any]:
    """Counts, scores, page views, how it was selected, and the first examples as the model sees them."""
    # The ids as they are: a file may have been put together, or changed by hand, since they were made.
    ids = map(str, data.table[ID_COLUMN].to_pylist()) if ID_COLUMN in data.schema.names else data.ids
    examples = list(data.examples_of(data.table, ids))
    template, told = data.template(), asked_in(data.manifest)
    return {
        "rows": len(data),
        "columns": data.roles.as_dict(),
        "subjects": len({example.subject for example in examples if example.subject}),
        "relations": len({example.relation for example in examples if example.relation}),
        "without_answer": sum(not example.answers for example in examples),
        "blank_answers": data.blank_answers(),
        **({"chats": chats} if (chats := data.chats()) else {}),
        "scores": score_summaries(data.table),
        **({name: data.manifest[name] for name in ("statuses", "reasons")} if "reasons" in data.manifest else {}),
        "pageviews": describe_views(data.table, examples),
        "selection": data.manifest.get("selection"),
        "asked": told and {"template": told["template"]["name"], "shots": told.get("shots", {}).get("count")},
        "examples": [_describe_example(example, template) for example in examples[:SHOWN_EXAMPLES]],
    }


def _describe_example(example: Example, template: Template) -> dict[str, Any]:
    answer = solution(template, example)
    return {
        "id": example.id,
        "prompt": template.zero_shot(example),
        "completion": None if answer is None else template.render_completion(answer),
        "answers": list(example.answers),
        "subject": example.subject,
        "relation": example.relation,
    }


def read_scores(file: Path) -> pa.Table:
    """The score columns of a Parquet file."""
    opened = open_parquet_file(file)
    return opened.read([name for name in opened.schema_arrow.names if name.startswith(SCORE_PREFIX)])


def score_summaries(table: pa.Table) -> dict[str, dict[str, Any]]:
    """For every score column of numbers: rows measured, coverage, quantiles and a histogram."""
    return {name.removeprefix(SCORE_PREFIX): _summarise(as_float(table[name])) for name in _scores_in(table.schema)}


def _scores_in(schema: pa.Schema) -> list[str]:
    return [field.name for field in schema if field.name.startswith(SCORE_PREFIX) and is_number(field.type)]


def _summarise(scores: NDArray[np.float64]) -> dict[str, Any]:
    measured = int(np.count_nonzero(~np.isnan(scores)))
    finite = scores[np.isfinite(scores)]
    counts, edges = np.histogram(finite, bin_edges(finite, BINS)) if len(finite) else (np.empty(0), np.empty(0))
    return {
        "measured": measured,
        "coverage": measured / max(1, len(scores)),
        "quantiles": quantiles(scores),
        "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
    }


def describe_views(table: pa.Table, examples: Sequence[Example]) -> dict[str, Any] | None:
    """What `pageviews` found; None for a table that it did not score.

    `quantiles` are of monthly views over examples; `most` and `least` list subjects once each, as (subject, views);
    `unanswered` gives, for each status without a score, the first subjects, or the questions of those without one.
    """
    if not {"pageviews_status", "pageviews_views"} <= {*table.column_names}:
        return None
    statuses, views = table["pageviews_status"].to_pylist(), table["pageviews_views"].to_pylist()
    labels = _labels(table, examples)
    viewed = {label: number for label, number in zip(labels, views, strict=True) if number is not None}
    ranked = sorted(viewed.items(), key=lambda item: (-item[1], item[0]))
    unanswered: dict[str, dict[str, None]] = {}
    for status, label in zip(statuses, labels, strict=True):
        if status not in MEASURED:
            unanswered.setdefault(status, {})[label] = None
    return {
        "statuses": dict(Counter(statuses).most_common()),
        "quantiles": quantiles(np.array(views, dtype=np.float64)),  # None becomes NaN
        "most": ranked[:SHOWN_SUBJECTS],
        "least": ranked[::-1][:SHOWN_SUBJECTS],
        "unanswered": {status: [*found][:SHOWN_SUBJECTS] for status, found in unanswered.items()},
        "agreement": _agreement(table, views) if KNOWN_VIEWS in table.column_names else None,
    }


def _labels(table: pa.Table, examples: Sequence[Example]) -> list[str]:
    """What each row is about, in the best words there are."""
    names = [name for name in ("pageviews_title", "pageviews_subject") if name in table.column_names]
    columns = [table[name].to_pylist() for name in names]
    return [
        next((text for text in texts if text), None) or example.subject or example.question
        for example, *texts in zip(examples, *columns, strict=True)
    ]


def _agreement(table: pa.Table, views: Sequence[float | None]) -> dict[str, Any]:
    """Spearman's correlation with the views the data came with; None where it is not defined."""
    known = [score_of_number(value, KNOWN_VIEWS).value for value in table[KNOWN_VIEWS].to_pylist()]
    a, b = np.array(views, dtype=np.float64), np.array(known, dtype=np.float64)
    return {
        "column": KNOWN_VIEWS,
        "examples": int(np.count_nonzero(~np.isnan(a + b))),
        "rank_correlation": _number(rank_correlation(a, b)),
    }


# Which score is right? All of it depends on the order of the rows alone, as selection does: the logarithm of a score is
# as good as the score.


Scores = Mapping[str, NDArray[np.float64]]
Codes = NDArray[np.int64]
"""(N,) the group of every row; -1 where it is in none, and does not count."""

GREEDY = "known_greedy"
"""The column that says what is known: the share of prompts after which the model's greedy answer was right."""

LEAST_RIGHT = 0.5
"""A fact is known where the greedy answer is right after at least this share of the prompts."""

RARE = 4
"""Times that a rare answer occurs in the file, at most: guessing does not find it."""

TOO_MUCH = 0.5
"""Of a score's order explained by the kind of question; above it, kinds of questions are selected."""


def agreement(data: QATable) -> dict[str, Any]:
    """How all scores of a file agree, overall and inside relations; what each tells of what is known; what explains it.

    The rows compared are those that have all scores. `known` is None without the column `known_greedy`. Where no
    relation is known (`from` is None), question patterns stand for relations; of a large file only every 2nd, 3rd, …
    row has one. Raises ColumnError for a file without scores, DataError where no row has all of them.
    """
    columns = _score_columns(data)
    rows = _rows_with_all(data, columns)
    scores = {name: values[rows] for name, values in columns.items()}
    stride = -(-len(rows) // EXPLAINED)
    question, field = data.roles.question, data.roles.relation
    asked = data.column(question).take(as_arrow(rows[::stride]))
    patterns = np.full(len(rows), -1)
    patterns[::stride] = _codes(question_patterns(asked, question))
    relations = _codes(groups_by(data, "relation", "agreement"))[rows] if field else patterns
    answers = first_answers(data.encoded(data.roles.answers))
    factors = {"relation": relations} if field else {}
    factors |= {"pattern": patterns, "length": _lengths(answers)[rows]}
    inside = {"all": np.zeros(len(rows), dtype=np.int64), "inside_relations": relations}
    among = inside | {
        "rare_answers": np.where(_rare(answers)[rows], 0, -1),
        "same_answer": _alike(relations, answers.codes[rows].astype(np.int64)),
    }
    found = {
        "kind": "agreement",
        "rows": len(data),
        "compared": len(rows),
        "scores": [*scores],
        "relations": {"from": field, "count": len(np.unique(relations[relations >= 0]))},
        "pairs": _pairs(scores, inside, keyed(data.id_hashes()[rows], 0, "ties")),
        "known": _known(scores, among, as_float(data.column(GREEDY))[rows]) if _tells_known(data) else None,
        "explained": {name: _explained(values, factors, stride) for name, values in scores.items()},
    }
    return found | {"warnings": _warnings(data.path or data.name, found)}


def _score_columns(data: QATable) -> Scores:
    """Every score of numbers, in exactly the order of its column; ColumnError if there is none."""
    where = data.path or data.name
    names = _scores_in(data.schema)
    if not names:
        raise ColumnError(
            f"{where} has no score: no column of numbers is named {SCORE_PREFIX}….",
            expected=f"a file that curate score made; this one has the columns {column_list(data.schema.names)}",
            try_next=f"curate score {where} --by column:NAME --by loss --model MODEL -o scored.parquet",
        )
    return {name.removeprefix(SCORE_PREFIX): as_ranked(data.column(name)) for name in names}


def _rows_with_all(data: QATable, columns: Scores) -> NDArray[np.int64]:
    """The numbers of the rows that have all scores; DataError if none has."""
    measured = {name: ~np.isnan(values) for name, values in columns.items()}
    rows = np.flatnonzero(np.logical_and.reduce([*measured.values()]))
    if not len(rows):
        counts = ", ".join(f"{name} {np.count_nonzero(mask)}" for name, mask in measured.items())
        raise DataError(
            f"No row of {data.name} has all of its scores (rows with each: {counts}).",
            expected="rows that every score measured",
            try_next=f"curate show {data.path or data.name}, to see why rows could not be scored",
        )
    return rows


def _codes(groups: Groups) -> Codes:
    """The group of every row as it counts here: who has none is in none. (N,)"""
    none = groups.labels.index(NONE) if NONE in groups.labels else -1
    return np.where(groups.codes == none, -1, groups.codes).astype(np.int64)


def _rare(answers: Groups) -> NDArray[np.bool_]:
    """The rows whose first answer occurs at most RARE times. (N,)"""
    counts = np.bincount(answers.codes[answers.codes >= 0], minlength=len(answers.labels))
    return (answers.codes >= 0) & (np.append(counts, 0)[answers.codes] <= RARE)


def _alike(one: Codes, other: Codes) -> Codes:
    """Groups of the rows that are in the same group twice over. (N,), (N,) -> (N,)"""
    both = np.where((one >= 0) & (other >= 0), one * (other.max(initial=0) + 1) + other, -1)
    numbers = np.unique(both, return_inverse=True)[1]
    return numbers - int((both < 0).any())


def _lengths(answers: Groups) -> Codes:
    """The rows by the length of their first answer; lengths that differ by less than a tenth are one. (N,)"""
    characters = np.array([len(label) for label in answers.labels] + [0])
    return np.round(8 * np.log2(characters + 1)).astype(np.int64)[answers.codes]


def _better_half(scores: NDArray[np.float64], ties: NDArray[np.uint64], groups: Codes) -> NDArray[np.bool_]:
    """The rows that `select --top 0.5 --stratify-by` takes of groups; `ties` put equal scores in order. (N,) -> (N,)"""
    order = ordered(scores, ties)
    order = order[np.argsort(groups[order], kind="stable")]
    sizes = np.bincount(groups)
    place = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[groups[order]]
    half = np.array(quotas(sizes.tolist(), Fraction(1, 2)))
    mask = np.empty(len(order), dtype=bool)
    mask[order] = place < half[groups[order]]
    return mask


def _pairs(scores: Scores, ways: Mapping[str, Codes], ties: NDArray[np.uint64]) -> list[dict[str, Any]]:
    """Of every two scores: their rank correlation, and the share of their better halves in common."""
    found: list[dict[str, Any]] = [
        {"a": a, "b": b, "correlation": {}, "overlap": {}} for a, b in combinations(scores, 2)
    ]
    for way, groups in ways.items():
        rows = groups >= 0
        own = {name: values[rows] for name, values in scores.items()}
        halves = {name: _better_half(values, ties[rows], groups[rows]) for name, values in own.items() if rows.any()}
        for pair in found:
            a, b = pair["a"], pair["b"]
            pair["correlation"][way] = _number(correlation_within(own[a], own[b], groups[rows]))
            kept = int(halves[a].sum()) if halves else 0
            pair["overlap"][way] = int((halves[a] & halves[b]).sum()) / kept if kept else None
    return found


def _tells_known(data: QATable) -> bool:
    return GREEDY in data.schema.names and is_number(data.schema.field(GREEDY).type)


def _known(scores: Scores, ways: Mapping[str, Codes], greedy: NDArray[np.float64]) -> dict[str, Any]:
    """How well each score tells known from unknown rows, those without a greedy answer left out."""
    known = greedy >= LEAST_RIGHT
    asked = ~np.isnan(greedy)
    counted = {way: asked & (groups >= 0) for way, groups in ways.items()}
    return {
        "least_right": LEAST_RIGHT,
        "known": int(known.sum()),
        "unknown": int((asked & ~known).sum()),
        "pairs": {way: pairs_within(known[rows], ways[way][rows]) for way, rows in counted.items()},
        "auc": {
            name: {way: _number(auc(values[rows], known[rows], ways[way][rows])) for way, rows in counted.items()}
            for name, values in scores.items()
        },
    }


def _explained(values: NDArray[np.float64], factors: Mapping[str, Codes], stride: int) -> dict[str, float | None]:
    """The share of the ranks of a score that each factor explains, and all together; of every `stride`-th row."""
    ranks = mean_ranks(values[::stride])
    some = {name: codes[::stride] for name, codes in factors.items()}
    ways = {name: [codes] for name, codes in some.items()}
    kinds = _alike(some.get("relation", some["pattern"]) + 1, some["pattern"] + 1)  # most patterns are of one relation
    ways["all"] = [kinds, some["length"]]
    return {name: _number(explained(ranks, codes)) for name, codes in ways.items()}


STRATA = {"relation": "relation", "pattern": "pattern", "length": "answer-length"}
"""What `select --stratify-by` calls that which may explain a score."""


def _warnings(file: str, found: Mapping[str, Any]) -> list[str]:
    """Which scores tell kinds of questions apart more than facts, and what holds the kind fixed."""
    lines = []
    for name, shares in found["explained"].items():
        percents = {factor: 100 * (share or 0) for factor, share in shares.items()}
        together = percents.pop("all")
        if together > 100 * TOO_MUCH:
            most = max(percents, key=percents.__getitem__)
            if most == "pattern" and "relation" in percents:
                most = "relation"
            lines.append(
                f"{together:.0f}% of the order by {name} is explained by what kind of question it is "
                f"({', '.join(f'{factor} {percent:.0f}%' for factor, percent in percents.items())}): "
                "selecting by it selects kinds of questions, not knowledge. With the kind held fixed: "
                f"curate select {file} --by {name} --top 0.5 --stratify-by {STRATA[most]} -o splits/"
            )
    return lines


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
