"""Splits in the shapes that trainers read, and in the kinds of file that people open."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from curate.datasets.rows import ScoredRows
from curate.datasets.stream import ParquetStream
from curate.datasets.textstream import CsvStream, JsonlStream
from curate.errors import SettingError
from curate.prompts import TEMPLATES, Template, default_template
from curate.records import Example
from curate.shots import solution

if TYPE_CHECKING:
    import pyarrow as pa

ORIGINAL = "original"


class Stream(Protocol):
    """A file that takes tables and ends with a manifest."""

    def write(self, table: pa.Table) -> None:
        """Take some more rows."""

    def close(self, manifest: dict[str, Any]) -> None:
        """Write what is left."""


STREAMS: dict[str, Callable[[Path, Any], Stream]] = {"parquet": ParquetStream, "jsonl": JsonlStream, "csv": CsvStream}
"""What `--to` can be; each is also the ending of the files."""


def _prompt_completion(template: Template, example: Example, answer: str) -> dict[str, Any]:
    """The shape of TRL; the completion begins with the template's space, so that prompt + completion is the text."""
    prompt = template.head(example) + template.ask(example)
    return {"prompt": prompt, "completion": template.render_completion(answer)}


def _messages(template: Template, example: Example, answer: str) -> dict[str, Any]:
    """A chat of one turn; what stands between question and answer is the business of the chat template."""
    return {
        "messages": [
            {"role": "user", "content": _instruction(template, example)},
            {"role": "assistant", "content": answer},
        ]
    }


def _alpaca(template: Template, example: Example, answer: str) -> dict[str, Any]:
    return {"instruction": _instruction(template, example), "input": "", "output": answer}


def _instruction(template: Template, example: Example) -> str:
    """The question as one asks a person; with choices, the whole prompt, which names the letters."""
    return template.head(example) + template.ask(example) if template.multiple_choice else example.question


SHAPES: dict[str, tuple[Callable[[Template, Example, str], dict[str, Any]], tuple[str, ...]]] = {
    "prompt-completion": (_prompt_completion, ("prompt", "completion")),
    "messages": (_messages, ("messages",)),
    "alpaca": (_alpaca, ("instruction", "input", "output")),
}
FORMATS = (ORIGINAL, *SHAPES)


def check_format(format: str, to: str | None) -> None:
    """SettingError for a format or a kind of file that there is not, or that do not go together."""
    for flag, value, known in (("--format", format, FORMATS), ("--to", to, tuple(STREAMS))):
        if value is not None and value not in known:
            raise SettingError(f"There is no {flag} {value!r}.", expected=f"one of {', '.join(known)}")
    if format == "messages" and to == "csv":
        raise SettingError(
            "A CSV cell does not hold a list of messages.", expected="--to parquet or jsonl", try_next="--to jsonl"
        )


class SplitFile:
    """One split written a batch at a time, its examples in the shape of `format`.

    Any format but `original` keeps the shape's columns alone, and leaves out what cannot train: examples without a
    question or an answer. `without_answer` counts them.
    """

    def __init__(self, path: Path, data: ScoredRows, format: str, to: str) -> None:
        self._data = data
        self._format = format
        self._template = TEMPLATES[default_template(data.roles)]
        self._stream = STREAMS[to](path, data.schema if format == ORIGINAL else shape_schema(format))
        self.without_answer = 0

    def write(self, table: pa.Table) -> None:
        """Take some more rows of the scored table."""
        self._stream.write(table if self._format == ORIGINAL else self._shaped(table))

    def close(self, manifest: dict[str, Any]) -> None:
        """Write what is left, and the manifest where the file has a place for it."""
        self._stream.close(manifest)

    def _shaped(self, table: pa.Table) -> pa.Table:
        import pyarrow as pa

        shape, _ = SHAPES[self._format]
        solved = ((example, solution(self._template, example)) for example in self._data.examples(table))
        rows = [shape(self._template, example, answer) for example, answer in solved if answer and example.question]
        self.without_answer += table.num_rows - len(rows)
        return pa.Table.from_pylist(rows, shape_schema(self._format))


def shape_schema(format: str) -> pa.Schema:
    """The columns of a format."""
    import pyarrow as pa

    message = pa.struct([("role", pa.string()), ("content", pa.string())])
    types = {"messages": pa.list_(message)}
    return pa.schema([(name, types.get(name, pa.string())) for name in SHAPES[format][1]])
