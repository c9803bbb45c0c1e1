"""Writing so that a file or folder is there whole or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Any

from curate.datasets.read import METADATA_KEY
from curate.datasets.sources import find_files
from curate.errors import OutputError

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 96 * 1024


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a temporary path to write to; on success it is synced to disk and renamed to `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        sync(temporary)
        temporary.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True) if path.parent.is_dir() else None


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
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise _cannot_write(path, error) from error
    try:
        yield temporary
        temporary.chmod(0o755)
        if path.exists():
            retired = path.with_name(f".{path.name}.old.{os.getpid()}")
            path.rename(retired)
            temporary.rename(path)
            shutil.rmtree(retired)
        else:
            temporary.rename(path)
    except OSError as error:
        raise _cannot_write(path, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_writable(path: Path, suffixes: frozenset[str] = frozenset()) -> None:
    """Raise OutputError now if a file or folder at `path` could not be written later, before any work is done.

    `suffixes` are the endings a file may have; empty for a folder.
    """
    if suffixes and path.suffix not in suffixes:
        raise OutputError(
            f"{path} does not end in {' or '.join(sorted(suffixes))}.",
            expected="the name of such a file",
            try_next=f"-o {_with_suffix(path, '.parquet' if '.parquet' in suffixes else min(suffixes))}",
        )
    if suffixes and path.is_dir():
        raise OutputError(f"{path} is a folder.", expected="the name of a file", try_next=f"-o {path}/scored.parquet")
    if path.is_dir() and not os.access(path, os.W_OK):
        raise OutputError(f"The folder {path} cannot be written.", expected="a folder you may write to")
    existing = next((p for p in [path.parent, *path.parent.parents] if p.exists()), Path())
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise OutputError(
            f"{path} cannot be written: {existing} is {'not writable' if existing.is_dir() else 'not a folder'}.",
            expected="a place you may write to",
            try_next=f"-o {path.name}, to write here",
        )


def _with_suffix(path: Path, suffix: str) -> str:
    stem = path.name.split(".")[0]
    return str(path.with_name(stem + suffix)) if stem else str(path).rstrip("/") + suffix


def write_parquet(table: pa.Table, path: Path, manifest: dict[str, Any]) -> None:
    """Write a table as zstd Parquet with `manifest` in its schema metadata and, last, beside it."""
    import pyarrow.parquet as pq

    with whole_file(path) as temporary:
        pq.write_table(with_manifest(table, manifest), temporary, compression="zstd", row_group_size=ROW_GROUP)
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
        temporary.write_text(text, encoding="utf-8")


def manifest_path(path: Path) -> Path:
    """Where the manifest of an output file lies: `scored.parquet.manifest.json`."""
    return path.with_name(f"{path.name}.manifest.json")


def _json(content: Any) -> str:
    return json.dumps(plain(content), indent=2, sort_keys=True, ensure_ascii=False, default=str, allow_nan=False)


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
        raise OutputError(f"{path} is a file.", expected="a folder to write", try_next="another name for -o")
    if path == Path.cwd():
        raise OutputError(
            "The folder you are in cannot be replaced as a whole.", expected="another folder", try_next="-o splits/"
        )
    foreign = sorted(set(path.iterdir()) - _selected_files(path)) if path.is_dir() else []
    if foreign:
        raise OutputError(
            f"The folder {path} holds {foreign[0].name!r}, which curate select did not write.",
            expected="a new or empty folder, or one that holds only splits",
            try_next="another name for -o",
        )


def _selected_files(folder: Path) -> set[Path]:
    """The splits in a folder with their manifests, and the card and the picture beside them."""
    found = set()
    for manifest in folder.glob("*.manifest.json"):
        if json.loads(manifest.read_text(encoding="utf-8")).get("command") == "select":
            found |= {manifest, manifest.with_name(manifest.name.removesuffix(".manifest.json"))}
            found |= {folder / "README.md", folder / "histogram.png"}
    return found


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
                try_next="another name for -o",
            )


def _cannot_write(path: Path, error: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written: {error.strerror or error}.",
        expected="a place you may write to, with room on the disk",
        try_next="another name for -o",
    )
