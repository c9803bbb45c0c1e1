"""Select: from a scored table to splits (which rows is decided in selection.py; here they are read and written)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate import selection
from curate.datasets.card import dataset_card
from curate.datasets.ids import ID_COLUMN
from curate.datasets.read import QATable, manifest_in, read
from curate.datasets.sources import SUFFIXES, data_suffix
from curate.datasets.write import check_writable, whole_folder, write_parquet, write_text
from curate.errors import ColumnError, SelectionError
from curate.manifest import make_manifest
from curate.selection import Cut, Missing, Size

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

SCORE_PREFIX = "score_"


@dataclass(frozen=True)
class Split:
    """One split of a selection: its name, the row numbers it keeps in source order, and where it was cut."""

    name: str
    rows: NDArray[np.int64]
    asked: str
    cut: Cut | None = None

    def summary(self) -> dict[str, Any]:
        """What goes into the manifest and into `--json`."""
        return {
            "split": self.name,
            "asked": self.asked,
            "rows": len(self.rows),
            "cut": None if self.cut is None else asdict(self.cut),
        }


@dataclass(frozen=True)
class Selection:
    """The outcome of a selection: splits of one scored table, each with its rows and its cut."""

    data: QATable
    score_column: str
    missing: Missing
    seed: int
    left_out: int
    splits: Mapping[str, Split]

    def __getitem__(self, name: str) -> Any:
        """The rows of one split, as the kind of thing that was given to `select`."""
        return self.data.source.restore(self.table(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self.splits)

    @property
    def kept(self) -> Any:
        """The rows of the only split; SelectionError if there are several."""
        if len(self.splits) != 1:
            raise SelectionError(
                f"There are {len(self.splits)} splits: {', '.join(self.splits)}.",
                expected="one split for .kept",
                try_next=f"selection[{next(iter(self.splits))!r}]",
            )
        return self[next(iter(self.splits))]

    def table(self, name: str) -> pa.Table:
        """The rows of one split as an Arrow table, in source order, every column of the scored file."""
        return self.data.table.take(self.splits[name].rows)

    def summary(self) -> dict[str, Any]:
        """Counts, cuts and sizes of every split."""
        return {
            "by": self.score_column.removeprefix(SCORE_PREFIX),
            "rows": len(self.data),
            "pool": len(self.data) - (self.left_out if self.missing == "exclude" else 0),
            "missing": {"policy": self.missing, "rows": self.left_out},
            "seed": self.seed,
            "splits": [split.summary() for split in self.splits.values()],
        }

    def manifest(self, name: str) -> dict[str, Any]:
        """How one split was made; the manifest of the scored file is inside it."""
        summary = self.summary()
        splits = summary.pop("splits")
        split = next(s for s in splits if s["split"] == name)
        return make_manifest("select", self.data, selection=summary | split, scored=manifest_in(self.data.table))


def select(
    scored: Any,
    *,
    top: str | float | None = None,
    bottom: str | float | None = None,
    random: str | float | None = None,
    whole: bool = False,
    by: str | None = None,
    missing: Missing = "exclude",
    seed: int = 0,
    output: str | Path | None = None,
) -> Selection:
    """Choose rows of a scored table by popularity; the Python twin of `curate select`.

    `top`, `bottom` and `random` take a share of the rows that have a score (0.3 or "30%"), or a count (500);
    they can be asked for together. `by` names the score when there are several. With `output`, writes one
    Parquet file (one split), or a folder of them that `datasets.load_dataset` reads.

    >>> rows = [{"question": q, "answer": "x", "score_views": v} for q, v in [("a", 1.0), ("b", 3.0)]]
    >>> [row["question"] for row in select(rows, top=0.5).kept]
    ['b']
    """
    sizes = _sizes(top, bottom, random)
    if not sizes and not whole:
        raise SelectionError("Nothing was asked for.", try_next="--top 0.3, --bottom 0.3, --random 0.3 or --whole")
    if missing not in selection.MISSING:
        raise SelectionError(f"--missing {missing} is unknown.", expected=f"one of {', '.join(selection.MISSING)}")
    if output is not None:
        _check_output(Path(output))
    data = read(scored)
    column = score_column(data.table, by, data.source.name)
    chosen = choose(data, column, sizes, whole, missing, seed)
    if output is not None:
        write_selection(chosen, Path(output))
    return chosen


def score_column(table: pa.Table, by: str | None, where: str) -> str:
    """The column to rank by: `score_<by>`, or the only score column there is. ColumnError if that is unclear."""
    import pyarrow as pa

    names = [n for n in table.column_names if n.startswith(SCORE_PREFIX)]
    listed = ", ".join(n.removeprefix(SCORE_PREFIX) for n in names)
    if not names:
        raise ColumnError(
            f"{where} has no score: no column is named {SCORE_PREFIX}….",
            expected="a file that curate score made",
            try_next=f"curate score {where} --by column:NAME -o scored.parquet",
        )
    if by is None and len(names) > 1:
        raise ColumnError(
            f"{where} has {len(names)} scores: {listed}.",
            expected="one of them",
            try_next=f"--by {names[0][6:]}",
        )
    column = names[0] if by is None else SCORE_PREFIX + by.removeprefix("column:").removeprefix(SCORE_PREFIX)
    if column not in names:
        raise ColumnError(
            f"{where} has no score named {by!r}.",
            expected=f"one of: {listed}",
            try_next=f"--by {names[0][6:]}",
        )
    kind = table.schema.field(column).type
    if not (
        pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind) or pa.types.is_null(kind)
    ):
        raise ColumnError(
            f"The score column {column!r} of {where} holds {kind}, not numbers.",
            expected="numbers, higher for better known",
            try_next="curate score, to make a score column",
        )
    return column


def score_values(table: pa.Table, column: str) -> NDArray[np.float64]:
    """A score column as float64, NaN where there is no score. (N,)"""
    import numpy as np
    import pyarrow as pa

    return np.asarray(table[column].cast(pa.float64()).to_numpy(), dtype=np.float64)


def choose(
    data: QATable, column: str, sizes: Mapping[str, Size], whole: bool, missing: Missing, seed: int
) -> Selection:
    """Rank the pool once and cut every split from that one order."""
    import numpy as np

    scores = score_values(data.table, column)
    pool, values = selection.pool_of(scores, missing)
    ids = _ids(data)
    pool_ids = [ids[row] for row in pool]
    order = selection.total_order(values, pool_ids, seed)
    splits = {}
    for name, size in sizes.items():
        k = size.rows(len(pool))
        if name == "random":
            picked, edge = selection.random_rows(pool_ids, k, seed), None
        elif name == "top":
            picked, edge = order[:k], values[order[k - 1]]
        else:
            picked, edge = order[len(order) - k :], values[order[len(order) - k]]
        cut = None if edge is None else selection.cut_of(values, picked, float(edge))
        asked = str(size.count if size.share is None else size.share)
        splits[name] = Split(name, np.sort(pool[picked]), asked, cut)
    if whole:
        splits["whole"] = Split("whole", pool, "whole")
    return Selection(data, column, missing, seed, int(np.isnan(scores).sum()), splits)


def write_selection(chosen: Selection, output: Path) -> None:
    """One split to a file, several to a folder with a dataset card."""
    if output.suffix == ".parquet":
        if len(chosen.splits) > 1:
            raise SelectionError(
                f"{len(chosen.splits)} splits do not fit the one file {output}.",
                expected="a folder",
                try_next=f"-o {output.with_suffix('')}/",
            )
        (name,) = chosen.splits
        write_parquet(chosen.table(name), output, chosen.manifest(name))
        return
    with whole_folder(output) as folder:
        for name in chosen.splits:
            write_parquet(chosen.table(name), folder / f"{name}.parquet", chosen.manifest(name))
        write_text(dataset_card(chosen.summary(), chosen.data.source.name), folder / "README.md")


def _check_output(output: Path) -> None:
    if output.suffix == ".parquet" or data_suffix(output) not in SUFFIXES:
        check_writable(output)
    else:
        check_writable(output, frozenset({".parquet"}))


def _sizes(top: Any, bottom: Any, random: Any) -> dict[str, Size]:
    asked = {"top": top, "bottom": bottom, "random": random}
    return {name: selection.parse_size(value, name) for name, value in asked.items() if value is not None}


def _ids(data: QATable) -> list[str]:
    """The ids in the file where curate wrote them, else made from the content."""
    return data.ids if ID_COLUMN not in data.table.column_names else data.table[ID_COLUMN].to_pylist()
