"""From a path, glob, URL, the Hugging Face Hub, stdin, data frame or Ray dataset to Arrow, and back in kind."""

from __future__ import annotations

import hashlib
import io
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from curate.data.formats import (
    COMPRESSED,
    Content,
    data_suffix,
    decompressed,
    read_content,
    read_delimited,
    read_parquet,
)
from curate.data.json_rows import STANDARD_INPUT, read_json, table_from_rows
from curate.data.stores import MemoryRows, ParquetRows, Rows, as_table, file_fingerprint, open_alike, open_parquet
from curate.errors import ColumnError, DataError, setting

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset

READERS: dict[str, Callable[[Any, PurePath], pa.Table]] = {
    ".parquet": read_parquet,
    ".csv": partial(read_delimited, delimiter=","),
    ".tsv": partial(read_delimited, delimiter="\t"),
    ".jsonl": read_json,
    ".ndjson": read_json,
    ".json": read_json,
}
SUFFIXES = tuple(READERS)
"""Endings of the names of files that can be read, compression aside."""

_URL = re.compile(r"^[a-z][a-z0-9+.-]*://")


def is_url(name: str) -> bool:
    """Whether a name is a URL and not that of a file."""
    return bool(_URL.match(name))


def open_data(data: Any, split: str | None = None) -> Rows:
    """Open a path, a folder, a glob, a URL, `-` (JSONL on standard input), a Hub id, or data in memory.

    `split` names a split of a Hub dataset.
    """
    if isinstance(data, (str, Path)):
        return _open_named(str(data), split)
    kind = type(data).__name__
    _no_split(split, kind)
    table, restore = _from_memory(data)
    if not table.column_names:
        raise DataError(
            f"There are no examples in the {kind}: it has no columns.",
            expected="at least one row, with a question and its answer",
            try_next="[{'question': 'Who wrote Emma?', 'answer': 'Jane Austen'}]",
        )
    check_names(table, kind)
    return MemoryRows(table, kind, table_fingerprint(table), restore)


def _open_named(name: str, split: str | None) -> Rows:
    if name == "-":
        _no_split(split, STANDARD_INPUT)
        content = sys.stdin.buffer.read()
        if not content.strip():
            raise DataError("Standard input is empty.", expected="one JSON object a line")
        table = read_json(content, STANDARD_INPUT)
        return MemoryRows(_not_empty(table, name), STANDARD_INPUT, file_fingerprint([content]))
    if is_url(name):
        _no_split(split, name)
        return _open_url(name)
    if paths := find_files(name):
        if any(data_suffix(path) != ".json" for path in paths):
            _no_split(split, name)
        name = Path(name).name
        return open_parquet(name, paths) or _parse_all(name, [(path, read_content(path)) for path in paths], split)
    if is_hub_id(name):
        table, revision = read_hub(name, split)
        return MemoryRows(_not_empty(table, name), name, f"{name}@{revision}")
    raise DataError(
        f"{name!r} is neither a file nor a folder."
        if Path(name).exists()
        else f"There is no file, folder or dataset {name!r}.",
        expected=f"a path to {', '.join(SUFFIXES)}, a folder or glob of them, a URL, or a Hub id (owner/name)",
        try_next="ls, to see what is in this folder",
    )


def _no_split(split: str | None, name: str) -> None:
    if split is not None:
        raise DataError(
            f"{name} has no split {split!r} to choose: it is not a dataset on the Hub.",
            expected=f"{setting('split')} with a Hub id",
            try_next=f"leave out {setting('split')}, or name the file of that split",
        )


def check_named(name: str) -> None:
    """DataError for an empty name, which would be that of the folder we are in, and for one that no file can have."""
    if not name.strip():
        raise DataError(
            f"The name of the data is empty: {name!r} (a variable that is not set?).",
            expected="a file, a folder, a glob, a URL or a Hub id",
            try_next="ls, to see what is in this folder",
        )
    path = Path(name).expanduser()
    try:
        closed = path.is_dir() and not os.access(path, os.R_OK | os.X_OK)
    except PermissionError:
        closed = True
    except OSError as error:
        if not is_url(name):
            raise DataError(
                f"The name of the data cannot be that of a file ({error.strerror}): {name[:60]}…",
                expected="a file, a folder, a glob, a URL or a Hub id",
                try_next="- as the name and the data on standard input, if this is the data itself",
            ) from error
        closed = False
    if closed:
        raise DataError(
            f"{name} cannot be read: its folder may not be listed.",
            expected="a folder that you may read",
            try_next=f"ls -ld {path} {path.parent}, to see who may",
        )


LLAMA_FACTORY_FILE = "dataset_info.json"
NO_DATA = ("manifest.json", LLAMA_FACTORY_FILE)
"""Files of JSON that say something of a folder's data."""


def find_files(name: str) -> list[Path]:
    """The data files that a path, a folder or a glob names, sorted; none when nothing is there.

    Of a folder without hidden ones: copies that editors keep, and what an unfinished run left.
    """
    check_named(name)
    path = Path(name).expanduser()
    if path.is_file():
        return [path]
    if path.is_dir():
        found = [p for p in sorted(path.rglob("*")) if p.is_file() and data_suffix(p) in SUFFIXES]
        found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        found = [p for p in found if not p.name.endswith(".manifest.json") and p.name not in NO_DATA]
        if not found:
            raise DataError(
                f"The folder {path} holds no data files.", expected=f"files ending in {', '.join(SUFFIXES)}"
            )
        return found
    if any(sign in name for sign in "*?["):
        root = Path(path.anchor)
        return sorted(p for p in root.glob(str(path.relative_to(root))) if p.is_file())
    return []


def _open_url(url: str) -> Rows:
    """The file that a URL names, or all in its folder or glob, sorted; DataError if there are none, or out of reach.

    Parquet is left where it is, but not on the web: few servers there give parts of a file.
    """
    web = url.startswith("http")
    with _reached(url):
        filesystem, names = _find(url, web)
        paths = {name: PurePosixPath(re.split(r"[?#]", name)[0] if web else name) for name in names}
        if not web and all(path.suffix.lower() == ".parquet" for path in paths.values()):
            files = {path: filesystem.open(name, "rb", cache_type="none") for name, path in paths.items()}
            # Threads take turns: neither a pre-buffered Parquet file nor a file of fsspec bears two of them.
            if opened := open_alike(files, pre_buffer=True):
                fingerprint = partial(_versions, filesystem, names)
                return ParquetRows(Path(url).name, opened, fingerprint, lock=threading.Lock())
        contents = [(path, filesystem.cat_file(name)) for name, path in paths.items()]
    return _parse_all(Path(url).name, [(path, decompressed(path, content)) for path, content in contents])


def _find(url: str, web: bool) -> tuple[Any, list[str]]:
    import fsspec

    filesystem, path = fsspec.core.url_to_fs(url)
    if web:  # ? and * are no signs of a glob there
        return filesystem, [path]
    if any(sign in path for sign in "*?["):
        found = filesystem.glob(path)
    elif filesystem.isdir(path):
        found = [file for file in filesystem.find(path) if not file.endswith(".manifest.json")]
    else:
        found = [path]
    if not found:
        raise DataError(f"No file matches {url}.", expected="a URL, or a folder or glob of files in that storage")
    return filesystem, sorted(found)


def _versions(filesystem: Any, names: Sequence[str], given_up: threading.Event) -> str:
    """SHA-256 of what the storage says of the files (size, time, ETag): hashing their bytes would be reading them."""
    told = "\n".join(f"{name} {filesystem.ukey(name)}" for name in names)
    return f"storage:{hashlib.sha256(told.encode()).hexdigest()}"


@contextmanager
def _reached(url: str) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        raise DataError(
            f"{url} needs a package that is not installed: {error}",
            expected="the fsspec driver of that kind of storage",
            try_next="pip install s3fs, for s3://; gcsfs for gs://; adlfs for az://",
        ) from error
    except Exception as error:  # each kind of storage raises its own
        raise DataError(
            f"{url} cannot be read: {type(error).__name__} {error}".rstrip(),
            expected="the URL of a data file that can be reached from here",
            try_next="open it in a browser, or check the credentials for that storage",
        ) from error


# The Hugging Face Hub: is it there, which commit, what was downloaded.

PATIENCE = 5.0
"""Seconds to wait for a connection, twice; a Hub that answers is then given all the retries of its client."""


def hub_problem() -> str | None:
    """Why the Hub cannot be asked; None if it answers, whatever it says. Never asks where HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants
    from huggingface_hub.utils import http_backoff, logging

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what a retry has to say, our message says at the end
    try:
        http_backoff(
            "HEAD",
            constants.ENDPOINT,
            max_retries=1,
            base_wait_time=0.5,
            retry_on_status_codes=(),
            timeout=PATIENCE,
        )
    except Exception as error:  # of the client's HTTP library, which is not the same in all versions
        return f"{constants.ENDPOINT} cannot be reached: {' '.join(str(error).split()) or type(error).__name__}"
    finally:
        logging.set_verbosity(verbosity)
    return None


def downloaded(name: str, kind: str = "model", revision: str | None = None) -> Path | None:
    """The folder of what was downloaded from a repository before, named as its commit; None where there is none."""
    from huggingface_hub import snapshot_download

    with suppress(Exception):  # the client raises many kinds
        return Path(snapshot_download(name, repo_type=kind, revision=revision, local_files_only=True))
    return None


def commit_of(name: str, kind: str = "model", asked: str | None = None) -> str | None:
    """The commit that a branch (or `asked`) of a repository on the Hub stands for, by asking it, else by the copy here.

    None where neither knows: offline, or for a name that is none. Whoever loads it says so better.
    """
    from huggingface_hub import HfApi

    if hub_problem() is None:
        with suppress(Exception):  # the Hub's client raises many kinds
            return str(HfApi().repo_info(name, repo_type=kind, revision=asked).sha)
    copy = downloaded(name, kind, asked)
    return copy.name if copy else None


_HUB_ID = re.compile(r"^(?P<path>[\w.-]+/[\w.-]+)(?::(?P<config>[\w.-]+))?(?:@(?P<revision>[\w./-]+))?$")
_FILE = re.compile(rf"({'|'.join(map(re.escape, SUFFIXES))})(\.\w+)?$")
_BEGINNING = re.compile(r"^([\w.-]+)\[:(\d+)\]$")

MESSAGE = 300
"""Characters of an error of the Hub's client that are shown."""


def is_hub_id(name: str) -> bool:
    """Whether a name has the shape of a Hub id and not that of a file."""
    return bool(_HUB_ID.match(name)) and not _FILE.search(name)


def read_hub(name: str, split: str | None = None) -> tuple[pa.Table, str]:
    """A split of a Hub dataset, or all splits as one table (with a column `split` if there are several); its revision.

    `split` may be cut (`train[:1000]`): rows from the beginning are streamed, so that the rest is not downloaded.
    Dataset code is never executed: `datasets` reads data files only. Where the Hub cannot be asked, what was downloaded
    before is read.
    """
    from huggingface_hub.utils import logging

    match = _HUB_ID.match(name)
    assert match is not None
    path, config, revision = match["path"], match["config"], match["revision"]
    problem = hub_problem()
    logging.set_verbosity_error()  # what its retries have to say, our message says at the end
    try:
        return (_downloaded if problem else _asked)(path, config, revision, split)
    except Exception as error:  # the Hub client raises many kinds; each of them is something the user can fix
        if problem and downloaded(path, "dataset") is None:
            raise DataError(
                f"There is no local file {name!r}, no such dataset was downloaded before, and {problem.rstrip('.')}.",
                expected="a file or folder on this machine; with a network, a Hub id too",
                try_next="ls, to see what is in this folder",
            ) from error
        raise DataError(
            f"There is no local file {name!r}, and the Hub dataset cannot be loaded"
            + (f" from what was downloaded before ({problem})" if problem else "")
            + f": {' '.join(str(error).split())[:MESSAGE]}",
            expected="an existing path, or owner/name, owner/name:config, owner/name@revision, and a split it has",
            try_next="check the name" + ("" if problem else "; for a gated or private dataset, `hf auth login` first"),
        ) from error


def _asked(path: str, config: str | None, revision: str | None, split: str | None) -> tuple[pa.Table, str]:
    from datasets import load_dataset
    from huggingface_hub import HfApi

    if beginning := _BEGINNING.match(split or ""):
        rows = load_dataset(path, config, revision=revision, split=beginning[1], streaming=True)
        table = stream_table(rows.take(int(beginning[2])))
    else:
        table = _as_table(load_dataset(path, config, revision=revision, split=split))
    return table, str(HfApi().dataset_info(path, revision=revision).sha)


def _downloaded(path: str, config: str | None, revision: str | None, split: str | None) -> tuple[pa.Table, str]:
    """What was downloaded last; nobody here knows what a branch or tag stands for, so only its commit may be named."""
    # `load_dataset` would come to this too, after half a minute of trying without a network.
    from datasets.packaged_modules.cache.cache import Cache

    name = path.rpartition("/")[2]
    found = Cache(repo_id=path, dataset_name=name, config_name=config, version="auto", hash="auto")
    if revision not in (None, found.hash):
        raise LookupError(f"without the Hub only {path}@{found.hash} is known, which was downloaded last")
    return _as_table(found.as_dataset(split)), str(found.hash)


def _as_table(loaded: Dataset | DatasetDict) -> pa.Table:
    """One split; of several all rows, and a column `split`."""
    if not isinstance(loaded, dict):
        return loaded.with_format("arrow")[:]
    tables = {name: dataset.with_format("arrow")[:] for name, dataset in loaded.items()}
    if len(tables) == 1:
        return next(iter(tables.values()))
    labelled = [t.append_column("split", pa.array([s] * t.num_rows)) for s, t in tables.items()]
    return pa.concat_tables(labelled, promote_options="permissive")


def stream_table(rows: IterableDataset) -> pa.Table:
    """All rows of a stream as a table."""
    return pa.concat_tables(rows.with_format("arrow").iter(batch_size=10_000), promote_options="permissive")


# From what was read to one table.


def parse(path: PurePath, content: Content, split: str | None = None) -> pa.Table:
    """The table in a file of that name, or a split of several that are in it."""
    reader = READERS.get(data_suffix(path))
    if reader is None:
        raise DataError(
            f"{path} has a name that tells no format.",
            expected=f"one of {', '.join(SUFFIXES)} (compressed too: {', '.join(COMPRESSED)})",
            try_next="rename it after what it holds",
        )
    return reader(content, path) if split is None else read_json(content, path, split)


def stem(file: str) -> str:
    """The name without the suffixes of format and compression: `P106.train` for `P106.train.json.gz`."""
    while (suffix := PurePath(file).suffix.lower()) and (suffix in COMPRESSED or suffix in SUFFIXES):
        file = file[: -len(suffix)]
    return file


def _parse_all(name: str, files: Sequence[tuple[PurePath, Content]], split: str | None = None) -> MemoryRows:
    """One table of all files; of a dataset in several some may have no rows."""
    with ThreadPoolExecutor(1, "curate-hash") as beside:
        fingerprint = beside.submit(file_fingerprint, [content for _, content in files])
        parsed = [(path, parse(path, content, split)) for path, content in files]
    parts = [(path, table) for path, table in parsed if table.num_rows] or [(p, _not_empty(t, p)) for p, t in parsed]
    for path, table in parts:
        check_names(table, path)
    rows = tuple((path.name, table.num_rows) for path, table in parts)
    return MemoryRows(_concatenated(parts), name, fingerprint.result(), files=rows)


def _concatenated(parts: Sequence[tuple[PurePath, pa.Table]]) -> pa.Table:
    (first, whole), *others = parts
    for path, table in others:
        if set(table.column_names) != set(whole.column_names):
            raise DataError(
                f"{path} has other columns than {first}: {', '.join(table.column_names)}.",
                expected=f"the same columns in every file: {', '.join(whole.column_names)}",
                try_next="one dataset at a time",
            )
    try:
        return pa.concat_tables([table for _, table in parts], promote_options="permissive") if others else whole
    except pa.ArrowException as error:
        raise DataError(
            f"The {len(parts)} files do not fit one table: {error}", expected="files with the same columns"
        ) from error


def _not_empty(table: pa.Table, name: object) -> pa.Table:
    if table.num_rows == 0:
        why = "it has columns but no rows" if table.column_names else "there is nothing in it"
        raise DataError(f"{name} holds no examples: {why}.", expected="at least one row")
    return table


def check_names(table: pa.Table, where: object) -> None:
    """Raise ColumnError when two columns have one name, since a role could then mean either."""
    repeated = [name for name, n in Counter(table.column_names).items() if n > 1]
    if repeated:
        raise ColumnError(
            f"{where} has more than one column named {repeated[0]!r}.",
            expected="a different name for every column",
            try_next="rename one of them",
        )


def _from_memory(data: Any) -> tuple[pa.Table, Callable[[pa.Table], Any]]:
    kind = f"{type(data).__module__.split('.')[0]}.{type(data).__name__}"
    if isinstance(data, pa.Table):
        return data, as_table
    if kind == "pandas.DataFrame":
        return _from_pandas(data), lambda table: table.to_pandas()
    if kind == "polars.DataFrame":
        return data.to_arrow(), lambda table: type(data)(table)
    if kind == "datasets.Dataset":
        return data.with_format("arrow")[:], lambda table: _to_dataset(table, data)
    if kind == "datasets.IterableDataset":
        return stream_table(data), lambda table: _to_dataset(table, data).to_iterable_dataset()
    if is_ray_dataset(data):
        return read_ray_dataset(data), to_ray_dataset
    if isinstance(data, list) and all(isinstance(row, dict) for row in data):
        return table_from_rows(data, "the list"), lambda table: table.to_pylist()
    raise DataError(
        f"Cannot read examples from a {type(data).__name__}.",
        expected="a path, a datasets.Dataset, a pandas or polars DataFrame, a pyarrow Table or a list of dicts",
        try_next="one of its splits, data['train']" if is_dataset_dict(data) else None,
    )


def _from_pandas(frame: Any) -> pa.Table:
    """The frame with its index (a plain range index costs no column), so that what comes back has it too."""
    try:
        return pa.Table.from_pandas(frame)
    except (pa.ArrowException, ValueError) as error:
        raise DataError(
            f"The DataFrame does not fit an Arrow table: {error}.",
            expected="columns of different names, each of one type",
            try_next="frame.astype({NAME: str}) for a column that mixes types",
        ) from error


def _to_dataset(table: pa.Table, like: Any) -> Any:
    """A `datasets.Dataset` whose columns have the features they had before (the names of a ClassLabel, say)."""
    from datasets import Dataset, DatasetInfo, Features

    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"huggingface"}
    plain = table.replace_schema_metadata(metadata)
    features = Features({**Features.from_arrow_schema(plain.schema), **(like.features or {})})
    features = Features({name: features[name] for name in plain.column_names})
    cast = plain.cast(features.arrow_schema.with_metadata(metadata))  # by Dataset.cast there would be a progress bar
    return Dataset(cast, info=DatasetInfo(features=features))


def table_fingerprint(table: pa.Table) -> str:
    """SHA-256 of the table's values and types (not of how it happens to be chunked)."""
    sink = _HashSink()
    with pa.ipc.new_stream(pa.PythonFile(sink, mode="w"), table.schema) as writer:
        for batch in table.combine_chunks().to_batches():
            writer.write_batch(batch)
    return sink.digest.hexdigest()


class _HashSink(io.RawIOBase):
    """A file that only remembers the hash of what is written to it."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.digest.update(data)
        return len(data)


def is_dataset_dict(data: Any) -> bool:
    """Whether it is a `datasets.DatasetDict`."""
    return type(data).__name__ == "DatasetDict" and isinstance(data, dict)


def is_ray_dataset(data: Any) -> bool:
    """Whether it is one; Ray is not imported to find out."""
    kinds = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(data).__mro__}
    return "ray.Dataset" in kinds


def read_ray_dataset(data: Any) -> pa.Table:
    """All rows in the dataset's order, in this process."""
    import ray

    context = ray.data.DataContext.get_current()
    before = context.execution_options.preserve_order
    context.execution_options.preserve_order = True
    try:
        tables = [ray.get(block) for block in data.to_arrow_refs()]
    finally:
        context.execution_options.preserve_order = before
    return pa.concat_tables([pa.table({}), *(t for t in tables if t.num_columns)], promote_options="permissive")


def to_ray_dataset(table: pa.Table) -> Any:
    """A dataset of these rows."""
    import ray

    return ray.data.from_arrow(table)


def keep_range_index(restored: Any, schema: pa.Schema, rows: NDArray[np.int64]) -> Any:
    """A DataFrame of some rows with the labels they had, if these were a range: Arrow would count from 0 again.

    `schema` is that of the whole DataFrame's table, `rows` (k,) are row numbers; anything else is given back as it is.
    """
    described = (schema.pandas_metadata or {}).get("index_columns", [])
    if not type(restored).__module__.startswith("pandas") or not described or not isinstance(described[0], dict):
        return restored
    import pandas as pd

    whole = pd.RangeIndex(*(described[0][bound] for bound in ("start", "stop", "step")), name=described[0]["name"])
    return restored.set_axis(whole.take(rows))
