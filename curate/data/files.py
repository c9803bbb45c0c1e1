"""Files appear whole or not at all; Parquet with its manifest written last."""

from __future__ import annotations

import base64
import glob
import json
import math
import os
import platform
import re
import shutil
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate import __version__
from curate.data.sources import LLAMA_FACTORY_FILE, find_files
from curate.data.stores import PARQUET, in_utf8, seal, write_table
from curate.errors import DataError, OutputError, setting

METADATA_KEY = b"curate"
CARD, HISTOGRAM = "README.md", "histogram.png"
AXOLOTL_FILE = "axolotl-{}.yaml"
"""What lies beside several splits in one folder."""

ANOTHER = f"another name for {setting('output')}"


MAYBE_TEXT = (str, type(None))
MANIFEST: dict[str, Any] = {
    "command?": str,
    "input?": {"name": str, "sha256": str, "rows": int},
    "columns?": {
        "question": str,
        "answers": str,
        "choices?": [str],
        **{f"{role}?": MAYBE_TEXT for role in ("subject", "relation", "id", "preset")},
    },
    "estimators?": [{"name": str, "estimator?": str, "template?": {"": str}, "model?": {}}],
    "statuses?": {"": {"": int}},
    "shard?": {"number": int, "count": int, "first_row": int, "rows": int, "fingerprint": str},
    "selection?": {"split": str, "asked": str, "by": str, "seed": int, "use": ("training", "evaluation")},
    "export?": {"format": str, "template?": {"": str}},
    "months?": [str],
    "made_from?": {},
    "scored?": {},
}
"""How a file was made, as far as it is read again: what stands under which name, with a ? where it may be missing.
Under other names there may be what is said of "", or anything.
"""

NEEDED = {"score": ("input", "columns", "estimators", "statuses"), "select": ("input", "columns", "selection")}
"""What the manifest of a command has at least."""


def manifest_in(schema: pa.Schema) -> dict[str, Any]:
    """The manifest that curate left in a schema's metadata; empty when there is none, DataError if it is damaged."""
    content = (schema.metadata or {}).get(METADATA_KEY)
    return {} if content is None else parse_manifest(content, "the metadata of the data")


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest in a file; DataError if it cannot be read, or is none of ours."""
    try:
        return parse_manifest(path.read_bytes(), str(path))
    except OSError as error:
        raise _no_manifest(str(path), error.strerror or str(error)) from error


def parse_manifest(content: bytes, where: str) -> dict[str, Any]:
    """The manifest in JSON; DataError, with the field, unless whatever is read again has its shape."""
    try:
        found = earlier = json.loads(content)
        wrong = _misfit(found, MANIFEST)
        for name in () if wrong else ("command", *NEEDED.get(found.get("command", ""), ())):
            wrong = wrong or (None if name in found else f"{name} is missing")
        while wrong is None and (earlier := earlier.get("made_from") or earlier.get("scored")):
            wrong = _misfit(earlier, MANIFEST, ".scored")
    except (ValueError, RecursionError) as error:
        raise _no_manifest(where, str(error)) from error
    if wrong is not None:
        raise _no_manifest(where, wrong)
    return dict(found)


def _misfit(value: Any, shape: Any, place: str = "") -> str | None:
    """What does not fit a shape such as MANIFEST, and where: `.input.rows is "3"`; None if all does."""
    if not isinstance(shape, (dict, list)):
        kinds = shape if isinstance(shape, tuple) else (shape,)
        fits = shape is None or any(value == kind or type(value) is kind for kind in kinds)
        return None if fits else f"{place} is {_told(value)}"
    container: Any = type(shape)
    if not isinstance(value, container):
        return f"{place or 'it'} is {_told(value)}, no {container.__name__}"
    if isinstance(shape, list):
        parts = [(str(number), part, shape[0]) for number, part in enumerate(value)]
    else:
        lost = next((name for name in shape if name and not name.endswith("?") and name not in value), None)
        if lost is not None:
            return f"{place}.{lost} is missing"
        inner = {name.removesuffix("?"): kind for name, kind in shape.items()}
        parts = [(name, part, inner.get(name, inner.get(""))) for name, part in value.items()]
    found = (_misfit(part, kind, f"{place}.{name}") for name, part, kind in parts)
    return next((wrong for wrong in found if wrong is not None), None)


def _told(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 40 else f"{text[:40]}…"


def _no_manifest(where: str, why: str) -> DataError:
    return DataError(
        f"The manifest in {where} is not as curate wrote it: {why.removeprefix('.')}.",
        expected="the file as it was written",
        try_next="make the file again, or copy it again from where it is whole",
    )


def versions(*packages: str) -> dict[str, str]:
    """The versions of curate and of the named packages that are installed."""
    found = {"curate": __version__}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


ROW_GROUP = 96 * 1024


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to; on success it is synced to disk and renamed to `path`.

    A link stays a link: what it leads to is replaced.
    """
    place = Path(os.path.realpath(path))
    temporary = _hidden(place, "tmp")
    try:
        with writing(path):
            place.parent.mkdir(parents=True, exist_ok=True)
            _remove_leftovers(place, "tmp")
            yield temporary
            sync(temporary)
            temporary.replace(place)
    finally:
        temporary.unlink(missing_ok=True) if place.parent.is_dir() else None


def _here() -> str:
    """Where the numbers of processes mean what they mean here: this machine, and on Linux this container."""
    container = Path("/proc/self/ns/pid")
    where = platform.node() + (str(container.readlink()) if container.is_symlink() else "")
    return f"{zlib.crc32(where.encode()):08x}"


def _hidden(path: Path, ending: str) -> Path:
    """A name beside `path` that tells whose it is: this process's."""
    return path.with_name(f".{path.name}.{os.getpid()}-{_here()}.{ending}")


def _remove_leftovers(path: Path, ending: str) -> None:
    """Remove what was hidden beside `path` by processes that are no more, as one with the number of this one is."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*-{_here()}.{ending}"):
        process = left.name.removeprefix(f".{path.name}.").partition("-")[0]
        if process.isdigit() and (int(process) == os.getpid() or not _is_alive(int(process))):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def sync(path: Path) -> None:
    """Wait until what was written to a file is on the disk."""
    with path.open("rb") as written:
        os.fsync(written.fileno())


@contextmanager
def whole_folder(path: Path, replace: bool = False) -> Iterator[Path]:
    """Gives an empty temporary folder; on success it takes the place of `path`, old content and all.

    A folder that is not empty and that curate did not make is left alone (OutputError) unless `replace`.
    """
    path = path.expanduser().resolve()  # a link stays a link: what it leads to is replaced
    if not replace:
        check_folder(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path, "tmp")
        temporary, retired = _hidden(path, "tmp"), _hidden(path, "old")
        temporary.mkdir(mode=0o700)
    try:
        with writing(path):
            yield temporary
            temporary.chmod(0o755)
            if path.exists():
                _remove_leftovers(path, "old")
                path.rename(retired)
                temporary.rename(path)
                shutil.rmtree(retired)
            else:
                temporary.rename(path)
            _remove_leftovers(path, "old")
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(path: Path, suffixes: frozenset[str] = frozenset()) -> None:
    """Raise OutputError now if a file or folder at `path` could not be written later, before any work is done.

    `suffixes` are the endings a file may have; empty for a folder.
    """
    if not in_utf8(path.absolute()):
        raise OutputError(
            f"The name {path} is not UTF-8, which manifests and cards are.",
            expected="a name that is, in a folder whose name is",
            try_next=setting("output", "scored.parquet" if suffixes else "out/"),
        )
    if suffixes and path.suffix not in suffixes:
        raise OutputError(
            f"{path} does not end in {' or '.join(sorted(suffixes))}.",
            expected="the name of such a file",
            try_next=setting("output", _with_suffix(path, ".parquet" if ".parquet" in suffixes else min(suffixes))),
        )
    if suffixes and path.is_dir():
        raise OutputError(
            f"{path} is a folder.", expected="the name of a file", try_next=setting("output", f"{path}/scored.parquet")
        )
    if path.is_dir() and not os.access(path, os.W_OK):
        raise OutputError(f"The folder {path} cannot be written.", expected="a folder you may write to")
    existing = next((p for p in [path.parent, *path.parent.parents] if p.exists()), Path())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OutputError(
            f"{path} cannot be written: {existing} is {'not writable' if existing.is_dir() else 'not a folder'}.",
            expected="a place you may write to",
            try_next=f"{setting('output', path.name)}, to write here",
        )


def _with_suffix(path: Path, suffix: str) -> str:
    stem = path.name.split(".")[0]
    return str(path.with_name(stem + suffix)) if stem else str(path).rstrip("/") + suffix


def write_parquet(table: pa.Table, path: Path, manifest: dict[str, Any]) -> None:
    """Write a table as zstd Parquet with `manifest` in its schema metadata and, last, beside it."""
    with whole_file(path) as temporary:
        write_table(with_manifest(table, manifest), temporary, row_group_size=ROW_GROUP)
    write_json(manifest, manifest_path(path))


def with_manifest(table: pa.Table, manifest: dict[str, Any]) -> pa.Table:
    """The table with `manifest` as JSON in its schema metadata.

    The `huggingface` entry is dropped: it lists the features of the input, and `datasets` refuses a file whose
    columns are not the ones listed.
    """
    metadata = {k: v for k, v in (table.schema.metadata or {}).items() if k != b"huggingface"}
    return table.replace_schema_metadata(metadata | {METADATA_KEY: _json(manifest).encode()})


def write_json(content: Any, path: Path) -> None:
    """Write JSON, keys sorted, a line break at the end."""
    write_text(_json(content) + "\n", path)


def write_text(text: str, path: Path) -> None:
    """Write UTF-8 text."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def manifest_path(path: Path) -> Path:
    """Where the manifest of an output file lies: `scored.parquet.manifest.json`."""
    return path.with_name(f"{path.name}.manifest.json")


def _json(content: Any) -> str:
    text = json.dumps(plain(content), indent=2, sort_keys=True, ensure_ascii=False, default=str, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode()  # halves of characters, as in names that are not UTF-8


def plain(content: Any) -> Any:
    """The same content with numbers that JSON does not know (an infinite score, NaN) as text: "inf", "nan"."""
    if isinstance(content, Mapping):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [plain(value) for value in content]
    return str(content) if isinstance(content, float) and not math.isfinite(content) else content


def check_folder(path: Path) -> None:
    """Raise OutputError now unless a folder of splits may be written to `path`.

    It may be new, empty, or hold nothing but what `curate select` left there before.
    """
    path = path.expanduser().resolve()
    if path.exists() and not path.is_dir():
        raise OutputError(f"{path} is a file.", expected="a folder to write", try_next=ANOTHER)
    if path == Path.cwd():
        raise OutputError(
            "The folder you are in cannot be replaced as a whole.",
            expected="another folder",
            try_next=setting("output", "splits/"),
        )
    splits = splits_in(path)
    own = {name for split in splits for name in (split, manifest_path(split), path / AXOLOTL_FILE.format(split.stem))}
    own |= {path / name for name in (CARD, HISTOGRAM, LLAMA_FACTORY_FILE) if splits}
    foreign = sorted(set(path.iterdir()) - own) if path.is_dir() else []
    if foreign:
        raise OutputError(
            f"The folder {path} holds {foreign[0].name!r}, which curate select did not write.",
            expected="a new or empty folder, or one that holds only splits",
            try_next=ANOTHER,
        )


def splits_in(folder: Path) -> list[Path]:
    """The files in a folder that `curate select` wrote, as their manifests beside them say, sorted."""
    beside = {path.with_name(path.name.removesuffix(".manifest.json")): path for path in folder.glob("*.manifest.json")}
    return sorted(
        file for file, path in beside.items() if file.is_file() and read_manifest(path)["command"] == "select"
    )


def check_not_input(data: Any, output: Path) -> None:
    """Raise OutputError if the output would replace the file, or the folder of the file, that is read."""
    if not isinstance(data, (str, Path)) or str(data) == "-":
        return
    target = output.expanduser().resolve()
    for path in (found.resolve() for found in find_files(str(data))):
        if target == path or target in path.parents:
            raise OutputError(
                f"The output {output} would replace the input {data}.",
                expected="another file or folder",
                try_next=ANOTHER,
            )


@contextmanager
def writing(path: Path, try_next: str = ANOTHER) -> Iterator[None]:
    """Whatever cannot be written inside the `with` is an OutputError about `path`, whatever library was to do it."""
    try:
        yield
    except Exception as error:
        why = _why_not_written(error)
        if why is None:
            raise
        raise OutputError(
            f"{path} cannot be written: {why}.",
            expected="a place you may write to, with room on the disk",
            try_next=try_next,
        ) from error


def _why_not_written(error: Exception) -> str | None:
    """Why a file could not be written, if that is what an error tells; None of any other error.

    safetensors and torch have errors of their own for it, and that of torch does not tell what the system said.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if type(error).__name__ == "SafetensorError" and "while serializing" in str(error):
        found = re.search(r"(?:os error|code:) (\d+)", str(error))
        return os.strerror(int(found[1])) if found else str(error)
    if isinstance(error, RuntimeError) and re.search("unexpected pos|iostream error|PytorchStreamWriter", str(error)):
        return "the disk is full, or takes no such file"
    return None


def check_own_folder(folder: Path, mark: str, command: str) -> None:
    """Raise OutputError now if `command` could not write to the folder later.

    It may be new, empty, or one in which the command has been at work before, which leaves `mark` there.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file.", expected="a folder", try_next=ANOTHER)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / mark).exists():
        raise OutputError(
            f"The folder {folder} holds files that {command} did not make.",
            expected="a new or empty folder, or one that it made earlier",
            try_next=ANOTHER,
        )
    check_writable(folder)


ARROW_SCHEMA = b"ARROW:schema"
SAMPLE = 20_000
SMALLER = 0.9
"""A column is dictionary-encoded if that makes a sample of it at least this much smaller."""


def written_schema(file: Any) -> pa.Schema:
    """The schema that a ParquetStream was given; a reader calls the parts of nested columns by other names."""
    return pa.ipc.read_schema(pa.BufferReader(base64.b64decode(file.metadata.metadata[ARROW_SCHEMA])))


class ParquetStream:
    """One Parquet file (zstd), written a batch at a time in row groups of ROW_GROUP rows.

    The same rows and manifest give the same bytes, however the rows came in batches. The types are exactly the ones
    of `schema`. Every column is given the encoding, dictionary or plain, that made a sample of it smaller.
    """

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        _check_types(schema)
        self._path = path
        self._schema = schema
        self._writer: Any = None
        self._waiting: list[pa.Table] = []
        self._rows = 0

    def write(self, table: pa.Table) -> None:
        """Take some more rows."""
        self._waiting.append(table)
        self._rows += table.num_rows
        if self._rows >= ROW_GROUP:
            self._flush(self._rows - self._rows % ROW_GROUP)

    def close(self, manifest: dict[str, Any]) -> None:
        """Write what is left, and the footer with the manifest, which may count what has been written."""
        self._flush(self._rows)
        schema = with_manifest(pa.Table.from_batches([], self._schema), manifest).schema
        arrow = base64.b64encode(schema.serialize().to_pybytes())
        self._writer.add_key_value_metadata({**schema.metadata, ARROW_SCHEMA: arrow})
        self._writer.close()
        seal(self._path)
        sync(self._path)  # here, so that what a caller does beside this goes on meanwhile

    def _flush(self, rows: int) -> None:
        waiting = [table for table in self._waiting if table.num_rows] or [pa.Table.from_batches([], self._schema)]
        table = pa.concat_tables(waiting).replace_schema_metadata()
        if self._writer is None:
            self._writer = pq.ParquetWriter(
                self._path,
                self._schema.remove_metadata(),
                **PARQUET,
                use_dictionary=columns_to_encode(table[:SAMPLE]),
                # Least and greatest values help a reader to skip rows, those of numbers and dates, not of texts.
                write_statistics=[field.name for field in self._schema if pa.types.is_primitive(field.type)],
                store_schema=False,  # it comes with the manifest
            )
        for start in range(0, rows, ROW_GROUP):
            group = table.slice(start, min(ROW_GROUP, rows - start)).combine_chunks()  # pages end where chunks do
            self._writer.write_table(group, row_group_size=ROW_GROUP)
        self._waiting = [table.slice(rows)]
        self._rows -= rows


def _check_types(schema: pa.Schema) -> None:
    """DataError for a column of a type that Parquet does not have, or that its readers find too deep."""
    for part in (schema, *(pa.schema([field]) for field in schema)):  # one by one only where all together fail
        try:
            sink = pa.BufferOutputStream()
            pq.ParquetWriter(sink, part).close()
            pq.read_metadata(pa.BufferReader(sink.getvalue()))
            if part is schema:
                return
        except (pa.ArrowException, OSError) as error:
            if part is not schema:
                raise DataError(
                    f"Parquet has no type for the column {part.names[0]!r}, which is {str(part.types[0])[:200]}.",
                    expected="columns of types that Parquet can hold, lists and objects no deeper than 40",
                    try_next="make it text or numbers, or leave it out",
                ) from error


def columns_to_encode(sample: pa.Table) -> list[str] | bool:
    """The leaf columns that a dictionary makes clearly smaller, by their path in the Parquet schema."""
    plain, encoded = (_column_sizes(sample, use) for use in (False, True))
    return [path for path, size in encoded.items() if size < SMALLER * plain[path]] or False


def _column_sizes(sample: pa.Table, use_dictionary: bool) -> dict[str, int]:
    sink = pa.BufferOutputStream()
    pq.write_table(sample, sink, compression="zstd", use_dictionary=use_dictionary)
    footer = pq.read_metadata(pa.BufferReader(sink.getvalue()))
    sizes: dict[str, int] = {}
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        for column in (group.column(i) for i in range(group.num_columns)):
            sizes[column.path_in_schema] = sizes.get(column.path_in_schema, 0) + column.total_compressed_size
    return sizes
