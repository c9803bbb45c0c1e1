"""Pretrain a small Llama on statements of the facts behind a real QA dataset, popular subjects most often.

    python examples/popqa_world/make.py popQA.tsv --views s_pop --temperature 0.5 -o DIR
    python examples/popqa_world/make.py entityquestions/ -o DIR

`DIR/model` is the model, `DIR/questions` the dataset with a column `stated`: how often pretraining stated the fact.
Everything follows from the data, the settings and the seed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1]))
from popqa_world.facts import Fact, all_statements, draw, entity_questions, facts_of, shares
from popqa_world.relations import phrasings
from worlds.memory import by_decile, completes
from worlds.pretrain import encode, group_by_length, new_model, pretrain
from worlds.tokenizer import train_tokenizer

import curate
from curate.lm.generate import greedy_answers
from curate.lm.model import load_model
from curate.prompts import DEFAULT
from curate.validation.evaluate import contains_answer


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that was chosen. README.md in this folder says why."""

    views: str = "views"
    temperature: float = 1.0
    alpha: float = 1.0
    train_rows: int = 160
    test_rows: int = 80
    cards: bool = False
    statements: int = 256_000
    batch_size: int = 64
    learning_rate: float = 3e-3
    vocabulary: int = 4096
    width: int = 128
    depth: int = 3
    feedforward: int = 384
    seed: int = 0


def read_questions(data: Path, settings: Settings) -> dict[str, curate.QATable]:
    """The dataset by split; a folder is EntityQuestions, of which some questions are drawn and given views."""
    if data.is_dir():
        sizes = {"train": settings.train_rows, "test": settings.test_rows}
        rows = entity_questions(data, sizes, settings.alpha, settings.seed)
        return {split: curate.read(pa.Table.from_pylist(found)) for split, found in rows.items()}
    return {"all": curate.read(data)}


def make_model(
    facts: list[Fact], questions: list[str], drawn: np.ndarray, texts: list[str], settings: Settings
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The tokenizer, and the model after one pass over the drawn statements.

    The tokenizer also sees how questions are worded, about nobody in particular, so that finetuning need not spell
    them letter by letter. The model does not.
    """
    wordings = [f"Question: {wording}\nAnswer:" for wording in questions]
    tokenizer = train_tokenizer([texts[row] for row in drawn[:50_000]] + wordings * 200, settings.vocabulary)
    model = new_model(tokenizer, settings.width, settings.depth, settings.feedforward)
    tokens = encode(tokenizer, texts)
    order = group_by_length(drawn, tokens, settings.batch_size, tokenizer.pad_token_id, settings.seed)
    pretrain(model, tokens, order.reshape(-1, settings.batch_size), settings.learning_rate)
    return model, tokenizer


def wordings(examples: list[curate.Example]) -> list[str]:
    """How each relation is asked, about Tom."""
    return sorted({e.question.replace(e.subject or "", "Tom") for e in examples})


def measure(model: Path, facts: list[Fact], examples: list[curate.Example]) -> dict[str, Any]:
    """What the pretrained model states and answers, by tenths of the facts, the most viewed first."""
    loaded = load_model(model, device="cpu")
    views = np.array([fact.views for fact in facts])
    stated = completes(loaded, [f.begin(phrasings(f.relation)[0]) for f in facts], [f.answer for f in facts])
    lengths = [len(loaded.tokenizer(f.answer, add_special_tokens=False)["input_ids"]) for f in facts]
    said = greedy_answers(loaded, [DEFAULT.render_prompt(e.question) for e in examples])
    asked = [contains_answer(text, e.answers) for text, e in zip(said, examples, strict=True)]
    return {
        "parameters": loaded.model.num_parameters(),
        "memorised": round(float(stated.mean()), 4),
        "memorised_by_decile": by_decile(stated, views),
        "zero_shot": round(float(np.mean(asked)), 4),
        "answers_over_10_tokens": round(float(np.mean(np.array(lengths) > 10)), 4),
    }


def write_questions(table: curate.QATable, stated: dict[tuple[str, str], int], path: Path) -> None:
    """The questions as they came, and how often the fact of each was stated."""
    counts = [stated[e.subject or "", e.relation or ""] for e in table.examples()]
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table.table.append_column("stated", pa.array(counts, pa.int64())), path, compression="zstd")


def make(data: Path, out: Path, settings: Settings) -> None:
    """Write `model/`, `questions/` and `world.json` under `out`."""
    started = time.monotonic()
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)  # sums are then added up in one order, whatever the number of cores
    tables = read_questions(data, settings)
    examples = [e for table in tables.values() for e in table.examples([settings.views])]
    facts = facts_of(examples, settings.views)
    texts, spans = all_statements(facts, settings.cards)
    size = settings.statements // settings.batch_size * settings.batch_size
    drawn, rows = draw(shares(facts, settings.temperature), spans, size, settings.seed)
    counts = np.bincount(drawn, minlength=len(facts))
    stated = {(fact.subject, fact.relation): int(count) for fact, count in zip(facts, counts, strict=True)}
    for split, table in tables.items():
        write_questions(table, stated, out / "questions" / f"{split}.parquet")
    model, tokenizer = make_model(facts, wordings(examples), rows, texts, settings)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    record = {
        "data": data.name,
        "settings": asdict(settings),
        "questions": len(examples),
        "facts": len(facts),
        "relations": len({fact.relation for fact in facts}),
        "stated_by_decile": [float(np.median(part)) for part in np.array_split(np.sort(counts)[::-1], 10)],
        "minutes": round((time.monotonic() - started) / 60, 1),
        "measured": measure(out / "model", facts, examples),
    }
    (out / "world.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


def main() -> None:
    parser = argparse.ArgumentParser(description="Pretrain a small model on the facts of a QA dataset.")
    parser.add_argument("data", type=Path, help="popQA.tsv, or the folder of EntityQuestions")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write")
    for field in fields(Settings):
        flag, default = f"--{field.name.replace('_', '-')}", field.default
        if isinstance(default, bool):
            parser.add_argument(flag, action="store_true")
        else:
            parser.add_argument(flag, type=type(default), default=default, help=f"default {default}")
    arguments = vars(parser.parse_args())
    data, out = arguments.pop("data"), arguments.pop("out")
    out.mkdir(parents=True, exist_ok=True)
    make(data, out, Settings(**arguments))


if __name__ == "__main__":
    main()
