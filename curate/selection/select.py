"""Select splits from scored rows, and write them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.checkpoint import is_made, manifest_of, would_go
from curate.data.export import ORIGINAL, STREAMS, SplitFile, check_format, dataset_card, trainer_files
from curate.data.files import (
    CARD,
    HISTOGRAM,
    check_folder,
    check_not_input,
    check_writable,
    manifest_path,
    plain,
    splits_in,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)
from curate.data.formats import data_suffix
from curate.data.repeats import Held, count_ambiguous, duplicates
from curate.data.sources import SUFFIXES, keep_range_index
from curate.data.stores import as_arrow, in_types_of
from curate.data.table import QATable, make_manifest, read_with
from curate.display import Outline, Progress, Shown, bar_in_python
from curate.errors import OutputError, SelectionError, Spelling, in_python, setting, spelled
from curate.prompts import Template
from curate.selection.explain import MixSample, explain_scores, notes, told
from curate.selection.ranking import Ranking, make_ranking, ranked_by
from curate.selection.rules import SPLITS, Rules
from curate.selection.splits import Pool, Split, make_splits
from curate.settings import ReadSettings, SelectSettings, WriteSettings, takes

DROPPED_COLUMN = "curate_dropped"


@dataclass(repr=False)
class Selection(Shown):
    """The outcome of a selection: splits of one scored table, each with its rows and its cut.

    `selection["top"]` and `.kept` give rows, `.dropped` the others and why, `.cut` where the split ends,
    `.explanation` what changed, `.reselect(top=0.2)` another selection of the same scores.
    """

    data: QATable
    rules: Rules
    ranking: Ranking
    pool: Pool
    splits: Mapping[str, Split]
    without_answer: dict[str, int] = field(default_factory=dict)
    """Of splits that were written in a trainer's format, how many rows are not in it."""
    earlier: bool = False
    """Whether they were written already, by the same command."""
    without_turns: dict[str, int] = field(default_factory=dict)
    """Likewise, how many rows are in it without their earlier turns."""
    writing: WriteSettings = WriteSettings()
    """How it is written; without a template, trainers' formats have the one that the scores were made with."""

    def __getitem__(self, name: str) -> Any:
        """The rows of one split, as the kind of thing that was given to `select`."""
        split = self.splits[name]
        rows = split.rows if split.positions is None else split.rows[split.positions]
        return self._in_kind(self.table(name), rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    def __len__(self) -> int:
        return len(self.splits)

    def keys(self) -> list[str]:
        """The names of the splits."""
        return [*self.splits]

    def items(self) -> list[tuple[str, Any]]:
        """Every split with its rows."""
        return [(name, self[name]) for name in self.splits]

    def to_pandas(self) -> Any:
        """The rows of all splits as one DataFrame; its first column says which split a row is in."""
        import pandas as pd

        frames = {name: self.table(name).to_pandas() for name in self.splits}
        return pd.concat(frames, names=["split", None]).reset_index(level="split").reset_index(drop=True)

    def to_datasets(self) -> Any:
        """All splits as a `datasets.DatasetDict`."""
        from datasets import Dataset, DatasetDict

        return DatasetDict({name.replace("-", "_"): Dataset(self.table(name)) for name in self.splits})

    def outline(self) -> Outline:
        """The size and the cut of every split."""
        splits = self.summary()["splits"]
        cuts = ["" if split["cut"] is None else f"{split['cut']['score']:.4g}" for split in splits]
        rows = [[split["split"], split["rows"], cut] for split, cut in zip(splits, cuts, strict=True)]
        pool = f"{len(self.pool):,} of {len(self.data):,} rows to choose from"
        return Outline(f"Selection by {self.ranking.name}", ["split", "rows", "score at the cut"], rows, [pool])

    @property
    def kept(self) -> Any:
        """The rows of the only split that is for training; SelectionError if there are several."""
        return self[self._only("kept").name]

    @property
    def cut(self) -> Any:
        """The cut of the same split: its last score, and the ties there; None if it was not cut by rank."""
        return self._only("cut").cut

    def _only(self, what: str) -> Split:
        training = self.rules.training
        if len(training) != 1:
            raise SelectionError(
                f"There are {len(training)} splits to train on: {', '.join(training)}.",
                expected=f"one split for .{what}",
                try_next=f"selection[{training[0]!r}]",
            )
        return self.splits[training[0]]

    @property
    def dropped(self) -> Any:
        """The rows in no split, in source order, with the reason in a column `curate_dropped`."""
        rows = np.flatnonzero(~np.logical_or.reduce([*self._masks.values()]))
        labels = ["; ".join(split.beyond for split in self.splits.values() if split.beyond), *self.pool.labels[1:]]
        reasons = pa.DictionaryArray.from_arrays(pa.array(self.pool.reasons[rows]), pa.array(labels))
        table = self.data.take(rows)
        if DROPPED_COLUMN in table.column_names:  # of a selection before
            table = table.drop_columns(DROPPED_COLUMN)
        return self._in_kind(table.append_column(DROPPED_COLUMN, reasons.dictionary_decode()), rows)

    def table(self, name: str) -> pa.Table:
        """The rows of one split as an Arrow table, in the order asked for, every column of the scored file."""
        split = self.splits[name]
        return split.arranged(self.data.take(split.rows))

    def _in_kind(self, table: pa.Table, rows: NDArray[np.int64]) -> Any:
        return keep_range_index(self.data.restore(table), self.data.schema, rows)

    @cached_property
    def explanation(self) -> dict[str, Any]:
        """Quantiles, overlaps between splits, and the mix of relations and answers before and after.

        The pool is here all rows that have a score and meet the conditions, evaluation sets among them.
        """
        sample = MixSample(self.data)
        for part in self.data.map(sample.of, sample.columns):
            sample.add(part)
        return explain_scores(self.ranking.shown, self.pool.before, self._masks) | self._mixes(sample)

    def _mixes(self, sample: MixSample) -> dict[str, Any]:
        return sample.mixes(self.ranking.shown, self.pool.before, self._masks)

    def notes(self, spelling: Spelling = in_python) -> list[str]:
        """What to know of this selection: a sentence each, with the setting that mends it."""
        return [spelled(note, spelling) for note in notes(self.rules, self.summary(), self.explanation)]

    def told(self, spelling: Spelling = in_python) -> str:
        """One paragraph: what was kept, what that changed, and what to do about it."""
        return spelled(told(self.rules, self.summary(), self.explanation), spelling)

    @property
    def _masks(self) -> dict[str, NDArray[np.bool_]]:
        return {name: split.mask for name, split in self.splits.items()}

    def reselect(self, **changes: Any) -> Selection:
        """The same scores with other settings of `select`; asking for a split forgets the ones asked for before.

        The tokenizer is remembered for a later budget.
        """
        unknown = next((name for name in changes if name not in SelectSettings.names()), None)
        if unknown is not None:
            raise SelectionError(
                f"There is nothing called {unknown!r} to select by.",
                expected=f"one of {', '.join(sorted(SelectSettings.names()))}",
                try_next="selection.reselect(…).write(OUTPUT), to write it" if unknown in WRITING else None,
            )
        splits = (*SPLITS, "size", "sizes")
        forgotten = dict.fromkeys(splits) if changes.keys() & {*splits} else {}
        settings = SelectSettings.of({**vars(self.rules.settings), **forgotten, **changes})
        return choose(self.data, Rules.of(settings), self.ranking)

    def summary(self) -> dict[str, Any]:
        """Counts, cuts and sizes of every split."""
        settings = self.rules.settings
        return {
            "by": self.ranking.name,
            "rows": len(self.data),
            "pool": len(self.pool),
            "missing": {"policy": settings.missing, "rows": self.pool.unmeasured},
            "left_out": self.pool.left_out(),
            "seed": settings.seed,
            **self.rules.described(),
            **self.clashes,
            "splits": [
                split.summary()
                | ({"without_answer": n} if (n := self.without_answer.get(name)) else {})
                | ({"without_turns": n} if (n := self.without_turns.get(name)) else {})
                for name, split in self.splits.items()
            ],
        }

    @cached_property
    def clashes(self) -> dict[str, Any]:
        """How many rows of the pool are `ambiguous`, how many ask again what another asks (`duplicates`), and what
        evaluation sets have in common with the other splits.

        Empty of more rows than are counted unasked.
        """
        found = count_ambiguous(self.data, self.pool.before)
        if found is None:
            return {}
        asked = {
            s.name: list(self.data.examples_of(self.data.take(s.rows))) for s in self.splits.values() if self._tests
        }
        shared = [
            {"test": test, "split": split.name, **Held(asked[split.name]).count(asked[test])}
            for test in self._tests
            for split in self.splits.values()
            if split.use == "training"
        ]
        questions = duplicates(self.data)[self.pool.before]
        again = int(np.count_nonzero(questions >= 0)) - len(np.unique(questions[questions >= 0]))
        repeats = {"duplicates": again} if again else {}
        return {"ambiguous": found, **repeats, **({"shared": shared} if shared else {})}

    @property
    def _tests(self) -> list[str]:
        return [split.name for split in self.splits.values() if split.use == "evaluation"]

    def manifest(self, name: str) -> dict[str, Any]:
        """How one split was made; the manifest of the scored file is inside it."""
        summary = self.summary()
        splits = {split["split"]: split for split in summary.pop("splits")}
        return make_manifest("select", self.data, selection=summary | splits[name], scored=self.data.manifest)

    @takes(WriteSettings)
    def write(
        self, output: str | Path, *, force: bool = False, progress: Progress | None = None, **options: Any
    ) -> None:
        """Write one file (one split) or a folder of them, with the options of `select`."""
        self.writing = WriteSettings.of(options)
        check_output(self.data.path, Path(output), self.writing)
        with self.data.hashing():
            self._write(Path(output), force, progress)

    def _write(self, output: Path, force: bool, progress: Progress | None) -> None:
        kind = file_kind(output, self.writing.to)
        self.earlier = self.is_written(output, force)
        if self.earlier:
            return
        if data_suffix(output) in SUFFIXES:
            self._write_splits(dict.fromkeys(self.splits, output), kind, progress)
            return
        with whole_folder(output) as folder:
            self._write_splits({name: folder / f"{name}.{kind}" for name in self.splits}, kind, progress)
            (folder / HISTOGRAM).write_bytes(self._histogram())
            card = dataset_card(self.summary(), self.explanation, self.data, self.writing.format, kind)
            for file, text in {"README.md": card, **self._for_trainer(kind)}.items():
                write_text(text, folder / file)

    def _for_trainer(self, kind: str) -> dict[str, str]:
        return trainer_files(self.writing, kind, {name: split.use for name, split in self.splits.items()})

    def is_written(self, output: Path, force: bool = False) -> bool:
        """Whether these splits are there already; OutputError, unless `force`, where others would go for them."""
        self.without_answer.clear()
        self.without_turns.clear()
        if data_suffix(output) in SUFFIXES:
            check_fits(self, output)
            return is_made(output, partial(self._is_split, next(iter(self.splits))), force)
        there = {} if force else {path.name: path for path in splits_in(output)}
        kind = file_kind(output, self.writing.to)
        names = {f"{name}.{kind}": name for name in self.splits}
        if not there:
            return False
        if {*there} != {*names} or not all(
            self._is_split(name, manifest_of(there[file])) for file, name in names.items()
        ):
            raise would_go(output, f"with the splits {', '.join(sorted(there))}")
        return all((output / file).exists() for file in (CARD, *self._for_trainer(kind)))

    def _is_split(self, name: str, manifest: Mapping[str, Any]) -> bool:
        """Whether a manifest is that of this split in this format."""
        asked, export, format = plain(self.manifest(name)), manifest.get("export", {}), self.writing.format
        same = all(manifest.get(key) == asked[key] for key in ("command", "input", "selection", "scored"))
        if not same or export.get("format", ORIGINAL) != format or export.get("keep_id", False) != self.writing.keep_id:
            return False
        if format != ORIGINAL and export["template"] != self.template.as_asked.as_dict():
            return False
        if "without_answer" in export:
            self._left_out(name, export["without_answer"], export.get("without_turns", 0))
        return format != ORIGINAL or manifest["columns"] == asked["columns"]

    def _write_splits(self, paths: Mapping[str, Path], kind: str, progress: Progress | None) -> None:
        """Stream the table once into all files; what the explanation counts is gathered on the way."""
        sample, template = MixSample(self.data), self.template
        with ExitStack() as stack:
            files = {
                name: SplitFile(stack.enter_context(whole_file(path)), self.data, self.writing, kind, template)
                for name, path in paths.items()
            }
            beside = stack.enter_context(ThreadPoolExecutor(1, "curate-explain"))
            scores = beside.submit(explain_scores, self.ranking.shown, self.pool.before, self._masks)
            unordered: dict[str, list[pa.Table]] = {
                name: [] for name, split in self.splits.items() if split.positions is not None
            }
            for done, sampled, parts in self.ranking.map(partial(self._parts, sample)):
                sample.add(sampled)
                for name, part in parts.items():
                    unordered[name].append(part) if name in unordered else files[name].write(part)
                if progress:
                    progress("select", done, len(self.data))
            mixes = beside.submit(self._mixes, sample)
            for name, tables in unordered.items():
                files[name].write(self.splits[name].arranged(pa.concat_tables(tables)))
            manifests = {name: self.manifest(name) for name in paths}
            for name, file in files.items():
                if self.writing.format != ORIGINAL:
                    self._left_out(name, file.without_answer, file.without_turns)
                    self._check_some_left(name, self.writing.format)
                manifests[name] = file.close(manifests[name])
            self.explanation = scores.result() | mixes.result()
        for name, path in paths.items():
            write_json(manifests[name], manifest_path(path))

    def _parts(self, sample: MixSample, start: int, batch: pa.Table) -> tuple[int, pa.Table, dict[str, pa.Table]]:
        """Of a batch: how many rows have been read after it, what the explanation counts, the rows each split keeps."""
        stop = start + batch.num_rows
        rows = {name: np.flatnonzero(split.mask[start:stop]) for name, split in self.splits.items()}
        parts = {name: in_types_of(self.data.schema, batch.take(as_arrow(kept))) for name, kept in rows.items()}
        return stop, sample.of(start, batch), parts

    @property
    def template(self) -> Template:
        """What a trainer's format asks the questions with."""
        return self.data.template(self.ranking.name, self.writing.template, self.writing.system)

    def _left_out(self, name: str, without_answer: int, without_turns: int) -> None:
        """Keep how many rows of a split a format has no place for, and how many whose turns it has no place for."""
        self.without_answer[name], self.without_turns[name] = without_answer, without_turns

    def _check_some_left(self, name: str, format: str) -> None:
        """SelectionError if a format has no place for any row of a split."""
        if self.without_answer[name] == len(self.splits[name].rows):
            raise SelectionError(
                f"No row of {name} has both a question and an answer, as {setting('format', format)} needs.",
                expected="examples that can be trained on",
                try_next=f"{setting('format', ORIGINAL)}, which keeps every row",
            )

    def _histogram(self) -> bytes:
        from curate.report.figures import histogram_figure

        smaller = {name for name, asked in self.rules.asked.items() if asked.within in self.splits}
        whole = {name: mask for name, mask in self._masks.items() if name not in smaller}
        return histogram_figure(self.ranking.name, self.ranking.shown, whole).png()


@takes(WriteSettings, SelectSettings, ReadSettings)
def select(
    scored: Any,
    *,
    output: str | Path | None = None,
    force: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> Selection:
    """Choose rows of a scored table by popularity; the Python twin of `curate select`.

    `top`, `bottom` and `random` take a share of the pool (0.3 or "30%") or a count (500), `band` a stretch of the
    order ("30:70"), `known` the rows of some classes ("highly,maybe"), `mix` a draw of so many of each, `budget_tokens`
    the best known examples that fit; they can be asked for together, and `sizes` adds smaller ones within each. The
    pool is the rows that have a score and meet `where`, `min_score` and `max_score`. `by` names the score, or several
    to rank by the mean of their percentile ranks. The exact rules are in docs/selecting.md; the columns of a file that
    does not remember them are named as for `read`. With `output`, writes one
    file (one split), or a folder of them that `datasets.load_dataset` reads: Parquet, or as `to` or the ending says
    (`parquet`, `jsonl`, `csv`), the rows as they are or in the shape of a trainer (`format`: `prompt-completion`,
    `messages`, `sharegpt`, `alpaca`), asked with `template` if it is given: `chat` makes `prompt-completion` a chat,
    and `system` is what its system says. `keep_id` keeps the ids beside them, and `trainer` (`llama-factory`,
    `axolotl`) adds to a folder what that trainer wants to know. These splits stay as they are if they are there
    already; others there are an OutputError unless `force`.

    Raises SelectionError for what cannot be selected from this pool: no score or several without `by`, a share that is
    no row, a count above the pool.

    Examples:
        >>> rows = [{"question": q, "answer": "x", "score_views": v} for q, v in [("a", 1.0), ("b", 3.0)]]
        >>> [row["question"] for row in select(rows, top=0.5).kept]
        ['b']
    """
    settings = SelectSettings.of(options)
    rules = Rules.of(settings)
    if settings.tokenizer is not None and settings.budget_tokens is None:
        raise SelectionError(
            f"{setting('tokenizer')} without {setting('budget_tokens')} does nothing.",
            try_next=setting("budget_tokens", 1000000),
        )
    reading = ReadSettings.of(options)
    if output is None:
        return choose(read_with(scored, reading), rules)
    writing = WriteSettings.of(options)
    check_output(scored, Path(output), writing)
    data = read_with(scored, reading)
    with data.hashing(), bar_in_python() if progress is None else nullcontext(progress) as show:
        chosen = choose(data, rules)
        chosen.writing = writing
        chosen._write(Path(output), force, show)
    return chosen


def choose(data: QATable, rules: Rules, ranking: Ranking | None = None) -> Selection:
    """Rank once, or reuse a `ranking` by the same columns, and cut every split from that one order."""
    rules = rules.for_table(data)
    columns = ranked_by(data, rules.by)
    if ranking is None or ranking.columns != columns:
        ranking = make_ranking(data, columns)
    return Selection(data, rules, ranking, *make_splits(data, rules, ranking))


WRITING = ("output", "force", *WriteSettings.names())
"""What `select` takes beside the settings that decide which rows its splits have."""

ENDING = re.compile(r"\.(?!v\d)[a-z]\w{1,8}", re.IGNORECASE)
"""What the name of a file ends in, as `.xlsx`, and that of a folder does not: `run.v2`, `v1.2`."""


def check_output(scored: Any, output: Path, writing: WriteSettings) -> None:
    """OutputError now if the file or folder could not be written later, or would replace what is read."""
    check_not_input(scored, output)
    check_format(writing, file_kind(output, writing.to))
    if writing.format == ORIGINAL and (writing.template, writing.system) != (None, None):
        raise SelectionError(
            f"{setting('template')} and {setting('system')} change nothing in {setting('format', ORIGINAL)}.",
            try_next=f"{setting('format', 'messages')}, or leave them out",
        )
    kinds = frozenset(f".{kind}" for kind in ([writing.to] if writing.to else STREAMS))
    if data_suffix(output) in SUFFIXES:
        if writing.trainer:
            raise SelectionError(
                f"{setting('trainer', writing.trainer)} is for a folder of splits, and {output} is one file.",
                try_next=setting("output", f"{output.with_suffix('')}/"),
            )
        check_writable(output, kinds)
    elif ENDING.fullmatch(output.suffix) and not output.is_dir():
        raise OutputError(
            f"{output} would be a folder, and is called like a file.",
            expected=f"a file that ends in {' or '.join(sorted(kinds))}, or a folder with a name that is not a file's",
            try_next=setting("output", output.with_suffix(min(kinds, key=lambda kind: kind != ".parquet"))),
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
            try_next=setting("output", f"{output.with_suffix('')}/"),
        )


def file_kind(output: Path, to: str | None) -> str:
    """What kind of files to write: as `to` says, as the output is called, Parquet."""
    return to or (suffix if (suffix := data_suffix(output).removeprefix(".")) in STREAMS else "parquet")
