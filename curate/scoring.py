"""Score: read a dataset, ask every estimator about every example, write one file. Resumable."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.datasets.ids import ID_COLUMN
from curate.datasets.read import QATable, manifest_in, read
from curate.datasets.write import check_not_input, check_writable, whole_file, write_parquet
from curate.errors import ColumnError, EstimatorError
from curate.estimators.base import Estimator, PreparedEstimator
from curate.estimators.registry import EstimatorOptions, build
from curate.manifest import make_manifest
from curate.prompts import default_template
from curate.records import OK, Example, Score
from curate.wikipedia.options import PageviewOptions

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK = 2048
"""Examples between two points from which a stopped run resumes."""

Progress = Callable[[str, int, int], None]
"""Called with (estimator name, examples done, examples in all)."""


@dataclass(frozen=True)
class Scored:
    """The outcome of scoring: the table with its score columns, its manifest, and rows by status."""

    data: QATable
    table: pa.Table
    manifest: dict[str, Any]

    @property
    def statuses(self) -> dict[str, dict[str, int]]:
        """For each estimator, how many rows have each status."""
        result: dict[str, dict[str, int]] = self.manifest["statuses"]
        return result

    @property
    def measured_nothing(self) -> bool:
        """Whether no estimator could score any row."""
        names = [estimator["name"] for estimator in self.manifest["estimators"]]
        return all(self.table[f"score_{name}"].null_count == self.table.num_rows for name in names)

    @property
    def unmeasured(self) -> int:
        """Rows that at least one estimator could not score."""
        import pyarrow.compute as pc

        names = [estimator["name"] for estimator in self.manifest["estimators"]]
        nulls = [pc.is_null(self.table[f"score_{name}"]) for name in names]
        any_null = nulls[0]
        for column in nulls[1:]:
            any_null = pc.or_(any_null, column)
        return int(pc.sum(any_null).as_py() or 0)


def score(
    data: Any,
    by: str | Sequence[str],
    *,
    model: Any = None,
    reduction: str = "token-mean",
    dtype: str = "float32",
    device: str = "auto",
    revision: str | None = None,
    template: str | None = None,
    answers: str = "first",
    shots: int = 0,
    shots_from: Any = None,
    allow_pickle: bool = False,
    output: str | Path | None = None,
    **settings: Any,
) -> Any:
    """Give every example a score per estimator; the Python twin of `curate score`.

    `data` is a path, a Hub id, a `datasets.Dataset`, a pandas or polars DataFrame, a pyarrow Table or a list of
    dicts; `by` is one estimator or several (`"pageviews"`, `"loss"`, `"column:NAME"`). Returns the same kind of
    thing with `curate_id`, `score_<name>` and evidence columns added (a path gives a pyarrow Table); with `output`,
    writes Parquet and a manifest there and returns its path. `settings` are the column arguments of `curate.read`
    and, for pageviews, the options of the command line by the same words (`views_from="api"`, `window="2021-10"`).

    >>> rows = [{"question": "Who wrote Emma?", "answer": "Jane Austen", "views": 90}]
    >>> score(rows, by="column:views")[0]["score_views"]
    90.0
    """
    specs = [by] if isinstance(by, str) else list(by or ())
    columns = {name: value for name, value in settings.items() if name not in PageviewOptions.names()}
    pageviews = PageviewOptions(**{name: value for name, value in settings.items() if name not in columns})
    target = None if output is None else Path(output)
    if target is not None:
        check_not_input(data, target)
        check_writable(target)
    table = read(data, **columns)
    options = EstimatorOptions(
        model=model,
        reduction=reduction,
        dtype=dtype,
        device=device,
        revision=revision,
        template=template or default_template(table.columns.choices),
        answers=answers,
        shots=shots,
        shots_from=shots_from,
        allow_pickle=allow_pickle,
        pageviews=pageviews,
        input_columns=tuple(table.table.column_names),
    )
    estimators = [build(spec, options) for spec in specs]
    scored = score_table(table, estimators, parts_beside(target))
    if target is None:
        return table.source.restore(scored.table)
    save(scored, target)
    return target


def score_table(
    data: QATable,
    estimators: Sequence[Estimator],
    parts: Path | None = None,
    progress: Progress | None = None,
) -> Scored:
    """Score every example with every estimator; finished chunks are kept in the folder `parts` meanwhile."""
    if not estimators:
        raise EstimatorError("No estimator was named.", try_next="--by column:NAME or --by loss --model MODEL")
    _check_names(data, estimators)
    examples = data.examples(list(dict.fromkeys(c for e in estimators for c in e.columns)))
    table = data.table
    if ID_COLUMN not in table.column_names:
        table = table.append_column(ID_COLUMN, [[example.id for example in examples]])
    statuses = {}
    for estimator in estimators:
        scores = _scores(estimator, examples, parts, progress)
        statuses[estimator.name] = _count(scores)
        table = _append(table, estimator, scores)
    assert table.num_rows == len(data), "rows in = rows out"
    manifest = make_manifest(
        "score",
        data,
        estimators=[{"name": e.name, **e.fingerprint()} for e in estimators],
        statuses=statuses,
        **_earlier(data),
    )
    return Scored(data, table, manifest)


def save(scored: Scored, output: Path) -> None:
    """Write the scored table as Parquet, its manifest beside it, and drop the kept chunks."""
    write_parquet(scored.table, output, scored.manifest)
    parts = parts_beside(output)
    assert parts is not None
    shutil.rmtree(parts, ignore_errors=True)


def parts_beside(output: Path | None) -> Path | None:
    """The folder where an unfinished run keeps what it has: `.scored.parquet.parts`."""
    return None if output is None else output.with_name(f".{output.name}.parts")


def _check_names(data: QATable, estimators: Sequence[Estimator]) -> None:
    names = [estimator.name for estimator in estimators]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated:
        raise EstimatorError(f"Two estimators are named {repeated!r}.", expected="each --by once")
    for estimator in estimators:
        new = [f"score_{estimator.name}", *(f"{estimator.name}_{f}" for f in (*estimator.evidence, "status"))]
        taken = [name for name in new if name in data.table.column_names]
        if taken:
            raise ColumnError(
                f"{data.source.name} already has a column {taken[0]!r}.",
                expected=f"no column of that name, since the scores of {estimator.name!r} go there",
                try_next="score the original file, or rename that column",
            )


def _scores(
    estimator: Estimator, examples: Sequence[Example], parts: Path | None, progress: Progress | None
) -> list[Score]:
    scores: list[Score] = []
    if isinstance(estimator, PreparedEstimator):
        estimator.prepare(examples)
        parts = None
    for start in range(0, len(examples), CHUNK):
        chunk = examples[start : start + CHUNK]
        scores.extend(_chunk_scores(estimator, chunk, parts))
        if progress:
            progress(estimator.name, len(scores), len(examples))
    return scores


def _chunk_scores(estimator: Estimator, chunk: Sequence[Example], parts: Path | None) -> list[Score]:
    """The chunk's scores, from the kept file of an earlier run if everything that matters was the same."""
    part = None if parts is None else parts / f"{_chunk_key(estimator, chunk)}.json"
    if part is not None and part.is_file():
        return [Score(*fields) for fields in json.loads(part.read_text())]
    scores = list(estimator.score(chunk))
    assert len(scores) == len(chunk), "one score per example"
    if part is not None and not estimator.columns:  # reading a column again is cheaper than keeping it
        with whole_file(part) as temporary:
            temporary.write_text(json.dumps([[s.value, s.status, dict(s.evidence)] for s in scores]))
    return scores


def _chunk_key(estimator: Estimator, chunk: Sequence[Example]) -> str:
    digest = hashlib.sha256(json.dumps(estimator.fingerprint(), sort_keys=True, default=str).encode())
    for example in chunk:
        digest.update(repr(_content(example)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()[:32]


def _content(example: Example) -> tuple[Any, ...]:
    """All of an example that an estimator may use; a template may name its subject and relation."""
    return example.question, example.answers, example.choices, example.subject, example.relation


def _append(table: pa.Table, estimator: Estimator, scores: Sequence[Score]) -> pa.Table:
    import pyarrow as pa

    for field, arrow_type, values in _columns(estimator, scores):
        table = table.append_column(pa.field(field, pa.type_for_alias(arrow_type)), [pa.array(values, arrow_type)])
    return table


def _columns(estimator: Estimator, scores: Sequence[Score]) -> Iterator[tuple[str, str, list[Any]]]:
    yield f"score_{estimator.name}", "float64", [s.value for s in scores]
    for name, arrow_type in estimator.evidence.items():
        yield f"{estimator.name}_{name}", arrow_type, [s.evidence.get(name) for s in scores]
    yield f"{estimator.name}_status", "string", [s.status for s in scores]


def _count(scores: Sequence[Score]) -> dict[str, int]:
    counts: dict[str, int] = {OK: 0}
    for item in scores:
        counts[item.status] = counts.get(item.status, 0) + 1
    return counts


def _earlier(data: QATable) -> dict[str, Any]:
    """How the input was made, when curate made it: the manifest of the scores and splits it already has."""
    manifest = manifest_in(data.table)
    return {"made_from": manifest} if manifest else {}
