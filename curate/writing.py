"""Writing the splits of a selection: one pass over the scored table, whatever the number of splits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.datasets.arrow import as_indices
from curate.datasets.card import HISTOGRAM, dataset_card
from curate.datasets.dictionaries import in_types_of
from curate.datasets.export import ORIGINAL, STREAMS, SplitFile, check_format
from curate.datasets.sources import SUFFIXES, data_suffix
from curate.datasets.stores import Read
from curate.datasets.stream import in_order
from curate.datasets.write import (
    check_folder,
    check_not_input,
    check_writable,
    manifest_path,
    whole_file,
    whole_folder,
    write_json,
    write_text,
)
from curate.errors import OutputError, SelectionError
from curate.rules.explaining import MixSample, explain_mixes, explain_scores

if TYPE_CHECKING:
    import pyarrow as pa

    from curate.selecting import Progress, Selection

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
    from curate.report.histogram import histogram_figure

    ranking = chosen.ranking
    return histogram_figure(ranking.name, ranking.shown, {name: s.mask for name, s in chosen.splits.items()})


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
        for done, sampled, parts in in_order(partial(_parts, chosen, sample, read) for read in chosen.ranking.reads()):
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


def _parts(chosen: Selection, sample: MixSample, read: Read) -> tuple[int, pa.Table, dict[str, pa.Table]]:
    """Of one batch: how many rows have been read after it, what the explanation counts, the rows each split keeps."""
    import numpy as np

    batch = read.table()
    stop = read.start + batch.num_rows
    kept = {name: np.flatnonzero(split.mask[read.start : stop]) for name, split in chosen.splits.items()}
    parts = {name: in_types_of(chosen.data.schema, batch.take(as_indices(rows))) for name, rows in kept.items()}
    return stop, sample.of(batch, read.start), parts


def _arranged(chosen: Selection, name: str, tables: list[pa.Table]) -> pa.Table:
    import pyarrow as pa

    return chosen.splits[name].arranged(pa.concat_tables(tables))
