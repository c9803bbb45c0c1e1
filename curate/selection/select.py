"""Select splits from scored rows, and write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.export import HISTOGRAM, ORIGINAL, STREAMS, SplitFile, check_format, dataset_card
from curate.data.files import (
    check_folder,
    check_not_input,
    check_writable,
    manifest_path,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)
from curate.data.formats import SUFFIXES, data_suffix
from curate.data.sources import keep_range_index
from curate.data.stores import as_arrow, in_types_of
from curate.data.table import QATable, make_manifest, read
from curate.errors import OutputError, SelectionError
from curate.selection.explain import MixSample, explain_mixes, explain_scores
from curate.selection.groups import as_float
from curate.selection.ranking import SCORE_PREFIX, Ranking, make_ranking, score_column
from curate.selection.rules import (
    Missing,
    Order,
    Pool,
    Request,
    Split,
    change,
    make_splits,
    parse_request,
    with_holdout_key,
)

ENDING = re.compile(r"\.(?!v\d)[a-z]\w{1,8}", re.IGNORECASE)
"""What the name of a file ends in, as `.xlsx`, and that of a folder does not: `run.v2`, `v1.2`."""


def check_output(scored: Any, output: Path, format: str = ORIGINAL, to: str | None = None) -> None:
    """OutputError now if the file or folder could not be written later, or would replace what is read."""
    check_not_input(scored, output)
    check_format(format, file_kind(output, to))
    kinds = frozenset(f".{kind}" for kind in ([to] if to else STREAMS))
    if data_suffix(output) in SUFFIXES:
        check_writable(output, kinds)
    elif ENDING.fullmatch(output.suffix) and not output.is_dir():
        raise OutputError(
            f"{output} would be a folder, and is called like a file.",
            expected=f"a file that ends in {' or '.join(sorted(kinds))}, or a folder with a name that is not a file's",
            try_next=f"-o {output.with_suffix(min(kinds, key=lambda kind: kind != '.parquet'))}",
        )
    else:
        check_folder(output)
        check_writable(output)


def check_fits(chosen: Selection, output: Path) -> None:
    """SelectionError if the output is one file and there are several splits."""
    if data_suffix(output) in SUFFIXES and len(chosen.splits) > 1:
        raise SelectionError(
            f"{len(chosen.splits)} splits do not fit the one file {output}: {', '.join(chosen.splits)}.",
            expected="a folder",
            try_next=f"-o {output.with_suffix('')}/",
        )


def file_kind(output: Path, to: str | None) -> str:
    """What kind of files to write: as `--to` says, as the output is called, Parquet."""
    return to or (suffix if (suffix := data_suffix(output).removeprefix(".")) in STREAMS else "parquet")


def write_selection(
    chosen: Selection,
    output: Path,
    progress: Progress | None = None,
    format: str = ORIGINAL,
    to: str | None = None,
) -> None:
    """One split to a file, several to a folder with a dataset card."""
    kind = file_kind(output, to)
    if data_suffix(output) not in SUFFIXES:
        with whole_folder(output) as folder:
            _write_splits(chosen, {name: folder / f"{name}.{kind}" for name in chosen.splits}, format, kind, progress)
            (folder / HISTOGRAM).write_bytes(_histogram(chosen))
            card = dataset_card(chosen.summary(), chosen.explanation, chosen.data, format, kind)
            write_text(card, folder / "README.md")
        return
    check_fits(chosen, output)
    _write_splits(chosen, {next(iter(chosen.splits)): output}, format, kind, progress)


def _histogram(chosen: Selection) -> bytes:
    from curate.report.figures import histogram_figure

    ranking = chosen.ranking
    return histogram_figure(ranking.name, ranking.shown, {name: s.mask for name, s in chosen.splits.items()}).png()


def _write_splits(
    chosen: Selection, paths: Mapping[str, Path], format: str, kind: str, progress: Progress | None
) -> None:
    """Stream the table once into all files; what the explanation counts is gathered on the way."""
    sample = MixSample(chosen.data)
    chosen.without_answer.clear()
    with ExitStack() as stack:
        streams = {
            name: SplitFile(stack.enter_context(whole_file(path)), chosen.data, format, kind)
            for name, path in paths.items()
        }
        beside = stack.enter_context(ThreadPoolExecutor(1, "curate-explain"))
        scores = beside.submit(explain_scores, chosen)
        ordered: dict[str, list[pa.Table]] = {n: [] for n, s in chosen.splits.items() if s.positions is not None}
        for done, sampled, parts in chosen.ranking.map(partial(_parts, chosen, sample)):
            sample.add(sampled)
            for name, part in parts.items():
                ordered[name].append(part) if name in ordered else streams[name].write(part)
            if progress:
                progress("select", done, len(chosen.data))
        mixes = beside.submit(explain_mixes, chosen, sample)
        for name, tables in ordered.items():
            streams[name].write(_arranged(chosen, name, tables))
        manifests = {name: chosen.manifest(name) for name in paths}
        for name, stream in streams.items():
            if format != ORIGINAL:
                _check_some_left(chosen, name, stream.without_answer, format)
                manifests[name]["export"] = {"format": format, "without_answer": stream.without_answer}
            stream.close(manifests[name])
        chosen.__dict__["explanation"] = scores.result() | mixes.result()  # what the cached property would read again
    for name, path in paths.items():
        write_json(manifests[name], manifest_path(path))


def _check_some_left(chosen: Selection, name: str, without_answer: int, format: str) -> None:
    """SelectionError if a format has no place for any row of a split; the selection keeps for how many it has none."""
    chosen.without_answer[name] = without_answer
    if without_answer == len(chosen.splits[name].rows):
        raise SelectionError(
            f"No row of {name} has both a question and an answer, as --format {format} needs.",
            expected="examples that can be trained on",
            try_next="--format original, which keeps every row",
        )


def _parts(
    chosen: Selection, sample: MixSample, start: int, batch: pa.Table
) -> tuple[int, pa.Table, dict[str, pa.Table]]:
    """Of one batch: how many rows have been read after it, what the explanation counts, the rows each split keeps."""
    stop = start + batch.num_rows
    kept = {name: np.flatnonzero(split.mask[start:stop]) for name, split in chosen.splits.items()}
    parts = {name: in_types_of(chosen.data.schema, batch.take(as_arrow(rows))) for name, rows in kept.items()}
    return stop, sample.of(batch, start), parts


def _arranged(chosen: Selection, name: str, tables: list[pa.Table]) -> pa.Table:
    return chosen.splits[name].arranged(pa.concat_tables(tables))


__all__ = ["SCORE_PREFIX", "Selection", "score_column", "score_values", "select"]

Progress = Callable[[str, int, int], None]
"""Called with ("select", rows done, rows in all)."""

DROPPED_COLUMN = "curate_dropped"


@dataclass
class Selection:
    """The outcome of a selection: splits of one scored table, each with its rows and its cut.

    `selection["top"]` and `.kept` give rows, `.dropped` the others and why, `.cut` where the split ends,
    `.explanation` what changed, `.reselect(top=0.2)` another selection of the same scores.
    """

    data: QATable
    request: Request
    options: Mapping[str, Any]
    ranking: Ranking
    pool: Pool
    splits: Mapping[str, Split]
    without_answer: dict[str, int] = field(default_factory=dict)
    """Of splits that were written in a trainer's format, how many rows are not in it."""

    def __getitem__(self, name: str) -> Any:
        """The rows of one split, as the kind of thing that was given to `select`."""
        split = self.splits[name]
        rows = split.rows if split.positions is None else split.rows[split.positions]
        return self._in_kind(self.table(name), rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    @property
    def kept(self) -> Any:
        """The rows of the only split that is for training; SelectionError if there are several."""
        return self[self._only("kept").name]

    @property
    def cut(self) -> Any:
        """The cut of the same split: its last score, and the ties there; None if it was not cut by rank."""
        return self._only("cut").cut

    @property
    def dropped(self) -> Any:
        """The rows in no split, in source order, with the reason in a column `curate_dropped`."""

        in_none = ~np.logical_or.reduce([split.mask for split in self.splits.values()])
        rows = np.flatnonzero(in_none)
        labels = ["; ".join(split.beyond for split in self.splits.values() if split.beyond), *self.pool.labels[1:]]
        reasons = pa.DictionaryArray.from_arrays(pa.array(self.pool.reasons[rows]), pa.array(labels))
        table = self.data.take(rows)
        if DROPPED_COLUMN in table.column_names:  # of a selection before
            table = table.drop_columns(DROPPED_COLUMN)
        return self._in_kind(table.append_column(DROPPED_COLUMN, reasons.dictionary_decode()), rows)

    def reselect(self, **changes: Any) -> Selection:
        """The same scores with other options of `select`; asking for a split forgets the ones asked for before."""
        request, options = change(self.options, **changes)
        return choose(self.data, request, options, self.ranking)

    def table(self, name: str) -> pa.Table:
        """The rows of one split as an Arrow table, in the order asked for, every column of the scored file."""
        split = self.splits[name]
        return split.arranged(self.data.take(split.rows))

    @cached_property
    def explanation(self) -> dict[str, Any]:
        """Quantiles, overlaps between splits, and the mix of relations and answers before and after."""
        from curate.selection.explain import explain

        return explain(self)

    def summary(self) -> dict[str, Any]:
        """Counts, cuts and sizes of every split."""
        return {
            "by": self.ranking.name,
            "rows": len(self.data),
            "pool": len(self.pool),
            "missing": {"policy": self.request.missing, "rows": self.pool.unmeasured},
            "left_out": self.pool.left_out(),
            "seed": self.request.seed,
            **self.request.described(),
            "splits": [
                split.summary() | ({"without_answer": n} if (n := self.without_answer.get(name)) else {})
                for name, split in self.splits.items()
            ],
        }

    def manifest(self, name: str) -> dict[str, Any]:
        """How one split was made; the manifest of the scored file is inside it."""
        summary = self.summary()
        splits = summary.pop("splits")
        split = next(s for s in splits if s["split"] == name)
        data = self.data
        return make_manifest("select", data, selection=summary | split, scored=data.manifest)

    def write(
        self, output: str | Path, *, format: str = "original", to: str | None = None, progress: Progress | None = None
    ) -> None:
        """Write one file (one split) or a folder of them, with the options of `select`."""

        check_output(self.data.path, Path(output), format, to)
        with self.data.hashing():
            write_selection(self, Path(output), progress, format, to)

    def _in_kind(self, table: pa.Table, rows: NDArray[np.int64]) -> Any:
        return keep_range_index(self.data.restore(table), self.data.schema, rows)

    def _only(self, what: str) -> Split:
        training = [split for split in self.splits.values() if split.use == "training"]
        if len(training) != 1:
            raise SelectionError(
                f"There are {len(training)} splits to train on: {', '.join(split.name for split in training)}.",
                expected=f"one split for .{what}",
                try_next=f"selection[{training[0].name!r}]",
            )
        return training[0]


def select(
    scored: Any,
    *,
    top: str | float | None = None,
    bottom: str | float | None = None,
    random: str | float | None = None,
    band: str | None = None,
    budget_tokens: int | None = None,
    tokenizer: Any = None,
    whole: bool = False,
    by: str | list[str] | None = None,
    missing: Missing = "exclude",
    where: str | list[str] | Mapping[str, Any] | None = None,
    min_score: float | None = None,
    max_score: float | None = None,
    stratify_by: str | None = None,
    controlled_by: str | None = None,
    holdout: str | float | None = None,
    holdout_by: str = "subject",
    order: Order = "source",
    seed: int = 0,
    output: str | Path | None = None,
    format: str = "original",
    to: str | None = None,
    progress: Progress | None = None,
) -> Selection:
    """Choose rows of a scored table by popularity; the Python twin of `curate select`.

    `top`, `bottom` and `random` take a share of the pool (0.3 or "30%") or a count (500), `band` a stretch of the
    order ("30:70"), `budget_tokens` the best known examples that fit; they can be asked for together. The pool is
    the rows that have a score and meet `where`, `min_score` and `max_score`. `by` names the score, or several to
    rank by the mean of their percentile ranks. The exact rules are in docs/selecting.md. With `output`, writes one
    file (one split), or a folder of them that `datasets.load_dataset` reads: Parquet, or as `to` or the ending says
    (`parquet`, `jsonl`, `csv`), the rows as they are or in the shape of a trainer (`format`: `prompt-completion`,
    `messages`, `alpaca`).

    Raises SelectionError for what cannot be selected from this pool: no score or several without `by`, a share that is
    no row, a count above the pool.

    Examples:
        >>> rows = [{"question": q, "answer": "x", "score_views": v} for q, v in [("a", 1.0), ("b", 3.0)]]
        >>> [row["question"] for row in select(rows, top=0.5).kept]
        ['b']
    """

    options = {k: v for k, v in locals().items() if k in OPTIONS}
    request = parse_request(**options)
    if output is not None:
        check_output(scored, Path(output), format, to)
    data = read(scored)
    if output is None:
        return choose(data, request, options)
    with data.hashing():
        chosen = choose(data, request, options)
        write_selection(chosen, Path(output), progress, format, to)
    return chosen


OPTIONS = frozenset(select.__kwdefaults__ or ()) - {"output", "format", "to", "progress"}


def choose(data: QATable, request: Request, options: Mapping[str, Any], ranking: Ranking | None = None) -> Selection:
    """Rank once, or reuse a `ranking` of the same scores, and cut every split from that one order."""
    keys = [*(role for role, name in data.roles.as_dict().items() if name), *data.schema.names]
    scores = [n.removeprefix(SCORE_PREFIX) for n in data.schema.names if n.startswith(SCORE_PREFIX)]
    request = with_holdout_key(request, keys, [*scores, *(SCORE_PREFIX + name for name in scores)])
    if ranking is None or ranking.by != request.by:
        ranking = make_ranking(data, request.by)
    pool, splits = make_splits(data, request, ranking)
    return Selection(data, request, options, ranking, pool, splits)


def score_values(table: pa.Table, column: str) -> NDArray[np.float64]:
    """A score column as float64, NaN where there is no score. (N,)"""
    return as_float(table[column])
