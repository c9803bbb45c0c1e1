"""Rows in the shape that trainers read, JSONL and CSV; of a folder of splits the card, and the way to the Hub."""

from __future__ import annotations

import csv
import hashlib
import html
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from curate.data.files import AXOLOTL_FILE, HISTOGRAM, ParquetStream, plain
from curate.data.formats import data_suffix
from curate.data.ids import ID_COLUMN
from curate.data.layouts import PRESETS
from curate.data.sources import LLAMA_FACTORY_FILE, SUFFIXES
from curate.data.stores import open_parquet_file
from curate.data.table import QATable
from curate.display import percent
from curate.errors import OutputError, SettingError, setting
from curate.prompts import CHAT, TEMPLATES, Template, solution, system_prompt
from curate.records import Example
from curate.settings import FinetuneConfig, WriteSettings


class TextStream(ABC):
    """A text file in UTF-8, written some rows at a time."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")

    @abstractmethod
    def write(self, table: pa.Table) -> None:
        """Take some more rows."""

    def close(self, manifest: dict[str, Any]) -> None:
        """End the file; the manifest has no place in it."""
        self._file.close()


class JsonlStream(TextStream):
    """One JSON object a row; what JSON has no type for (dates, decimals, bytes) becomes text."""

    def write(self, table: pa.Table) -> None:
        """Take some more rows."""
        self._file.writelines(json.dumps(_plain(row), ensure_ascii=False) + "\n" for row in table.to_pylist())


def as_jsonl(parquet: Path) -> Path:
    """The rows of a Parquet file in a file of JSONL beside it."""
    file = open_parquet_file(parquet)
    stream = JsonlStream(parquet.with_suffix(".jsonl"), file.schema_arrow)
    for batch in file.iter_batches():
        stream.write(pa.Table.from_batches([batch]))
    stream.close({})
    return parquet.with_suffix(".jsonl")


class CsvStream(TextStream):
    """Cells below a header; lists and objects are JSON in their cell, null is an empty one."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        super().__init__(path, schema)
        # Every text is quoted: before Python 3.13 the module would write a lone carriage return bare.
        self._writer = csv.writer(self._file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        self._writer.writerow(schema.names)

    def write(self, table: pa.Table) -> None:
        """Take some more rows."""
        columns = [column.to_pylist() for column in table.columns]
        self._writer.writerows([_cell(value) for value in row] for row in zip(*columns, strict=True))


def _cell(value: Any) -> Any:
    value = _plain(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else value


def _plain(value: Any) -> Any:
    """The value with text in place of everything that JSON has no type for."""
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_plain(item) for item in value]
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


ORIGINAL = "original"

STREAMS: dict[str, type[ParquetStream | TextStream]] = {
    "parquet": ParquetStream,
    "jsonl": JsonlStream,
    "csv": CsvStream,
}
"""What `--to` can be; each is also the ending of the files."""


def _prompt_completion(template: Template, example: Example, answer: str) -> dict[str, Any]:
    """The shape of TRL; the completion begins with the template's space, so that prompt + completion is the text."""
    prompt = template.zero_shot(example)
    return {"prompt": prompt, "completion": template.render_completion(answer)}


def _chat_completion(template: Template, example: Example, answer: str) -> dict[str, Any]:
    """The same in a chat: TRL puts both into the chat template of the model that it trains."""
    *prompt, completion = _messages(template, example, answer)["messages"]
    return {"prompt": prompt, "completion": [completion]}


def _messages(template: Template, example: Example, answer: str) -> dict[str, Any]:
    """A chat, its earlier turns included; what stands between its turns is the business of the chat template."""
    system = [("system", template.system)] if template.system and not system_prompt(example) else []
    turns = [*system, *example.turns, ("user", _instruction(template, example)), ("assistant", answer)]
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def _sharegpt(template: Template, example: Example, answer: str) -> dict[str, Any]:
    """The same with the words of ShareGPT."""
    turns = _messages(template, example, answer)["messages"]
    return {
        "conversations": [
            {"from": SHAREGPT.get(turn["role"], turn["role"]), "value": turn["content"]} for turn in turns
        ]
    }


def _alpaca(template: Template, example: Example, answer: str) -> dict[str, Any]:
    return {"instruction": _instruction(template, example), "input": "", "output": answer}


def _instruction(template: Template, example: Example) -> str:
    """The question as one asks a person; with choices, the whole prompt, which names the letters."""
    if not template.multiple_choice:
        return example.question
    return TEMPLATES["mmlu"].ask(example) if template.is_chat else template.zero_shot(example)


MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
TURNS = pa.list_(pa.struct([("from", pa.string()), ("value", pa.string())]))
SHAREGPT = {"system": "system", "user": "human", "assistant": "gpt"}
SHAPES: dict[str, tuple[Callable[[Template, Example, str], dict[str, Any]], pa.Schema]] = {
    "prompt-completion": (_prompt_completion, pa.schema(dict.fromkeys(("prompt", "completion"), pa.string()))),
    "messages": (_messages, pa.schema({"messages": MESSAGES})),
    "sharegpt": (_sharegpt, pa.schema({"conversations": TURNS})),
    "alpaca": (_alpaca, pa.schema(dict.fromkeys(("instruction", "input", "output"), pa.string()))),
}
"""What a trainer's format makes of an example and its answer, and the columns that gives: a layout of the same name."""
CHAT_COMPLETION = _chat_completion, pa.schema(dict.fromkeys(("prompt", "completion"), MESSAGES))
"""What `prompt-completion` is with a chat template: a layout that `messages` has as its second version."""


def shape_of(writing: WriteSettings) -> tuple[Callable[[Template, Example, str], dict[str, Any]], pa.Schema]:
    """What a trainer's format makes of an example, and the columns that gives."""
    return CHAT_COMPLETION if is_chat(writing) else SHAPES[writing.format]


def is_chat(writing: WriteSettings) -> bool:
    """Whether prompt and completion are chats."""
    return writing.format == "prompt-completion" and writing.template == CHAT


def check_format(writing: WriteSettings, kind: str) -> None:
    """SettingError for a format, a kind of file and a trainer that do not go together."""
    if writing.format == ORIGINAL and (writing.keep_id or writing.trainer):
        given = setting("keep_id") if writing.keep_id else setting("trainer", writing.trainer)
        raise SettingError(
            f"{given} is for the format of a trainer, and these rows stay as they are.",
            try_next=setting("format", "messages"),
        )
    if writing.trainer and is_chat(writing):
        raise SettingError(
            f"{writing.trainer} reads no prompts and completions that are chats.",
            try_next=setting("format", "messages"),
        )
    if kind == "csv" and writing.format != ORIGINAL and shape_of(writing)[1].field(0).type in (MESSAGES, TURNS):
        raise SettingError(
            "A CSV cell does not hold a list of messages.",
            expected=f"{setting('to', 'parquet')} or jsonl",
            try_next=setting("to", "jsonl"),
        )


class SplitFile:
    """One split written a batch at a time, its examples in the shape of `format`.

    Any format but `original` keeps the shape's columns alone, and leaves out what cannot train: examples without a
    question or an answer. `without_answer` counts them, `without_turns` the rows whose earlier turns it leaves out.
    """

    def __init__(self, path: Path, data: QATable, writing: WriteSettings, kind: str, template: Template) -> None:
        # A chat template that scores were asked with is taken for chats, as one that is named now.
        self._writing = writing.changed(template=CHAT) if template.is_chat else writing
        self._data, self._format, self._template = data, writing.format, template.as_asked
        check_format(self._writing, kind)
        if writing.keep_id and ID_COLUMN not in data.schema.names:
            raise SettingError(
                f"{data.name} has no column {ID_COLUMN} to keep.",
                expected="a file that curate score made",
                try_next=f"curate score … -o scored.parquet, or no {setting('keep_id')}",
            )
        if writing.format != ORIGINAL:
            self._shape, schema = shape_of(self._writing)
            self._schema = schema.append(pa.field(ID_COLUMN, pa.string())) if writing.keep_id else schema
        self._stream = STREAMS[kind](path, data.schema if writing.format == ORIGINAL else self._schema)
        self.without_answer = self.without_turns = 0

    def write(self, table: pa.Table) -> None:
        """Take some more rows of the scored table."""
        self._stream.write(table if self._format == ORIGINAL else self._shaped(table))

    def close(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Write what is left, and the manifest, which is given back with what became of the rows."""
        if self._format != ORIGINAL:
            in_chat = is_chat(self._writing)
            preset = "messages" if in_chat else self._format
            roles = replace(PRESETS[preset].versions[in_chat], preset=preset)
            left_out: dict[str, Any] = {"without_turns": self.without_turns} if self.without_turns else {}
            left_out |= {"keep_id": True} if self._writing.keep_id else {}
            told = {"format": self._format, "without_answer": self.without_answer, "template": self._template.as_dict()}
            manifest = manifest | {"columns": roles.as_dict(), "export": told | left_out}
        self._stream.close(manifest)
        return manifest

    def _shaped(self, table: pa.Table) -> pa.Table:
        ids = table[ID_COLUMN].to_pylist() if self._writing.keep_id else None
        solved = ((example, solution(self._template, example)) for example in self._data.examples_of(table, ids))
        kept = [(example, answer) for example, answer in solved if answer and example.question]
        self.without_answer += table.num_rows - len(kept)
        if self._schema.field(0).type not in (MESSAGES, TURNS):
            self.without_turns += sum(bool(example.turns) for example, _ in kept)
        rows = [{**self._shape(self._template, *pair), ID_COLUMN: pair[0].id} for pair in kept]
        return pa.Table.from_pylist(rows, self._schema)


LLAMA_FACTORY: dict[str, dict[str, Any]] = {
    "prompt-completion": {"columns": {"prompt": "prompt", "response": "completion"}},
    "messages": {
        "formatting": "sharegpt",
        "columns": {"messages": "messages"},
        "tags": {
            "role_tag": "role",
            "content_tag": "content",
            "user_tag": "user",
            "assistant_tag": "assistant",
            "system_tag": "system",
        },
    },
    "sharegpt": {"formatting": "sharegpt", "columns": {"messages": "conversations"}},
    "alpaca": {"columns": {"prompt": "instruction", "query": "input", "response": "output"}},
}
"""What dataset_info.json of LLaMA-Factory says of rows of a format (its data/README.md)."""

AXOLOTL: dict[str, dict[str, Any]] = {
    "prompt-completion": {
        "type": {
            "field_instruction": "prompt",
            "field_output": "completion",
            "format": "{instruction}",
            "no_input_format": "{instruction}",
        }
    },
    "messages": {"type": "chat_template", "field_messages": "messages"},
    "sharegpt": {
        "type": "chat_template",
        "field_messages": "conversations",
        "message_property_mappings": {"role": "from", "content": "value"},
    },
    "alpaca": {"type": "alpaca"},
}
"""What the YAML of Axolotl says of them under `datasets` (docs/dataset-formats of Axolotl)."""


def trainer_files(writing: WriteSettings, kind: str, uses: Mapping[str, str]) -> dict[str, str]:
    """What a trainer wants to know of a folder of splits, by the names of the files; `uses` says what each is for."""
    if writing.trainer is None:
        return {}
    files = {name: f"{name}.{kind}" for name in uses}
    if writing.trainer == "llama-factory":
        found = {name: {"file_name": file, **LLAMA_FACTORY[writing.format]} for name, file in files.items()}
        return {LLAMA_FACTORY_FILE: json.dumps(found, indent=2) + "\n"}
    kind = "json" if kind == "jsonl" else kind
    about = {n: {"path": file, "ds_type": kind, **AXOLOTL[writing.format]} for n, file in files.items()}
    tests = [{**about[name], "split": "train"} for name, use in uses.items() if use == "evaluation"]
    training = [name for name, use in uses.items() if use != "evaluation"]
    return {AXOLOTL_FILE.format(name): _axolotl(name, about[name], tests) for name in training}


def _axolotl(name: str, dataset: Mapping[str, Any], tests: Sequence[Mapping[str, Any]]) -> str:
    """A config for Axolotl that finetunes as `curate validate` does."""
    import yaml

    own = FinetuneConfig()
    config: dict[str, Any] = {
        "base_model": "MODEL",
        "datasets": [dict(dataset)],
        **({"test_datasets": list(tests)} if tests else {}),
        "output_dir": f"out-{name}",
        "adapter": "lora",
        "lora_r": own.lora_rank,
        "lora_alpha": own.lora_alpha,
        "lora_target_linear": True,
        "learning_rate": own.learning_rate,
        "weight_decay": own.weight_decay,
        "num_epochs": own.epochs,
        "micro_batch_size": own.batch_size,
        "gradient_accumulation_steps": 1,
        "train_on_inputs": False,
    }
    head = f"# Name the model, then, in this folder: axolotl train {AXOLOTL_FILE.format(name)}\n"
    return head + str(yaml.safe_dump(config, sort_keys=False, allow_unicode=True))


def check_push(name: str, output: Path) -> None:
    """SettingError, before any work is done, unless a folder is written and `name` is that of a dataset on the Hub."""
    if data_suffix(output) in SUFFIXES:
        raise SettingError(
            f"{setting('push_to_hub')} uploads a folder, and {output} is a file.",
            expected="a folder of splits",
            try_next=setting("output", f"{output.with_suffix('')}/"),
        )
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise SettingError(
            f"{setting('push_to_hub', name)} names no dataset on the Hub.",
            expected="owner/name",
            try_next=setting("push_to_hub", "me/splits"),
        )


def push_folder(folder: Path, name: str, private: bool = True, api: Any = None) -> str:
    """Upload a folder as the dataset `name` (owner/name), made if it is not there; gives its address.

    `api` is a `huggingface_hub.HfApi`, by default one with the token of `hf auth login`. What is private stays
    private: `private` counts for a new dataset only. Raises OutputError for whatever the Hub refuses.
    """
    if api is None:
        from huggingface_hub import HfApi

        api = HfApi()
    try:
        made = api.create_repo(name, repo_type="dataset", private=private, exist_ok=True)
        api.upload_folder(repo_id=name, repo_type="dataset", folder_path=str(folder), commit_message="curate select")
    except Exception as error:  # the client raises many kinds; each of them is something the user can fix
        raise OutputError(
            f"The splits are in {folder}, and could not be uploaded to {name}: {str(error).strip().splitlines()[0]}",
            expected="a token that may write there, and a network",
            try_next=f"hf auth login, then hf upload {name} {folder} --repo-type dataset",
        ) from error
    return str(made)


IN_PARQUET = ", and inside the Parquet metadata under `curate`"


def dataset_card(
    summary: Mapping[str, Any],
    explanation: Mapping[str, Any],
    data: QATable,
    format: str = "original",
    kind: str = "parquet",
) -> str:
    """README.md for a folder with one file a split; `kind` is its ending, the first two come from a Selection."""
    # In the names of splits `datasets` allows no dashes.
    named = [(split["split"].replace("-", "_"), split["split"]) for split in summary["splits"]]
    files = "\n".join(f"  - split: {name}\n    path: {file}.{kind}" for name, file in named)
    rows = "\n".join(_row(split) for split in summary["splits"])
    missing = summary["missing"]
    left_out = "".join(f"\n* {as_markdown(why)}: {n}" for why, n in summary["left_out"].items())
    made_from = hashlib.sha256(f"{data.fingerprint} {format} {files} {json.dumps(plain(summary))}".encode()).hexdigest()
    # `datasets` keeps what it loaded under the folder's name and what stands here: without a description that tells one
    # content from another it would give the rows of any other folder of that name.
    return f"""---
configs:
- config_name: default
  description: made from {made_from[:16]}
  data_files:
{files}
task_categories:
- question-answering
tags:
- curate
---

# Splits of {as_markdown(data.name)} by {as_code(summary["by"])}

{summary["rows"]} examples, {summary["pool"]} of them ranked by {as_code(summary["by"])} (higher is better known);
{missing["rows"]} without a score ({missing["policy"]}). Seed {summary["seed"]}.

| split | asked | rows | for | score at the cut | rows with that score (kept) |
|---|---|---:|---|---:|---:|
{rows}

![How many rows have which score]({HISTOGRAM})
{f"{chr(10)}Rows left out:{chr(10)}{left_out}{chr(10)}" if left_out else ""}
## How it was made
{_made(data, format)}
## What selecting changed

{_overlap(explanation["overlap"])}
{_mix("relation", explanation)}{_mix("answers", explanation)}
```python
from datasets import load_dataset
splits = load_dataset("path/to/this/folder")
```

All settings are in `<split>.{kind}.manifest.json`{IN_PARQUET if kind == "parquet" else ""}.
"""


def as_markdown(text: object) -> str:
    r"""A text of the data as Markdown that shows it and is nothing else: no HTML, no link, no cell of a table.

    >>> print(as_markdown("<b>R&B</b> | [x](y)"))
    &lt;b&gt;R&amp;B&lt;/b&gt; \| \[x\](y)
    """
    return re.sub(r"[\\`*\[\]|~$]", r"\\\g<0>", html.escape(" ".join(str(text).split()), quote=False))


def as_code(text: object) -> str:
    """The same as `code`."""
    return f"`{' '.join(str(text).split()).replace('`', chr(39)) or ' '}`"


def _made(data: QATable, format: str) -> str:
    """What the scored file says of its source and estimators, and the shape the rows were given."""
    origin = data.manifest.get("input", {})
    lines = (
        [f"* scored from {as_code(origin['name'])}, {origin['rows']} rows, SHA-256 `{origin['sha256']}`"]
        if origin
        else []
    )
    for estimator in data.manifest.get("estimators", []):
        model = estimator.get("model", {})
        of = f" of {as_code(model['name'])}" if isinstance(model, Mapping) and "name" in model else ""
        lines.append(f"* score {as_code(estimator['name'])}: estimator {as_code(estimator.get('estimator', ''))}{of}")
    lines.append(f"* format `{format}`")
    return "\n".join(["", *lines, ""])


def _row(split: Mapping[str, Any]) -> str:
    cut = split["cut"]
    edge = "| |" if cut is None else f"| {score_text(cut['score'])} | {cut['ties']} ({cut['ties_kept']})"
    return f"| {split['split']} | {split['asked']} | {split['rows']} | {split['use']} {edge} |"


def score_text(score: float | None) -> str:
    """The score at a cut as people read it; None where `--missing lowest` cuts among rows without one."""
    return "no score" if score is None else f"{score:.6g}"


def _overlap(pairs: Any) -> str:
    shared = [f"{p['a']} and {p['b']} share {p['rows']} rows" for p in pairs if p["rows"]]
    return "; ".join(shared) + "." if shared else "No two splits share a row."


def _mix(role: str, explanation: Mapping[str, Any]) -> str:
    if role not in explanation:
        return ""
    lines = [f"\nThe mix of {role} ({explanation['counted']} counted), largest shifts of each split:\n"]
    for name, split in explanation[role]["splits"].items():
        shifts = ", ".join(map(_shift, split["shifts"][:3]))
        lines.append(f"* {name}: {percent(split['moved'])}% moved{f' ({shifts})' if shifts else ''}")
    return "\n".join(lines) + "\n"


def _shift(shift: Mapping[str, Any]) -> str:
    return f"{as_markdown(shift['value'])} {percent(shift['before'])}% → {percent(shift['after'])}%"
