"""Make the bundled world: people, corpus, tokenizer, pretrained model and questions.

    python examples/bundled_world/make.py -o DIR [--seed 0]
    python examples/bundled_world/make.py -o DIR --subjects 400 --steps 1000 --pages 3200   # one with solved questions

Everything follows from the seed. What is committed under `curate/world/` is the output for seed 0.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

sys.path.insert(0, str(Path(__file__).parents[1]))
from bundled_world.measure import measure
from bundled_world.people import World, make_world
from bundled_world.questions import draw_facts, question_table, split_subjects, write_questions
from bundled_world.readme import readme
from bundled_world.statements import Draws, all_statements, draw_corpus, draw_pages, statement, statement_rows
from worlds.pretrain import encode, mixed, new_model, pretrain
from worlds.tokenizer import train_tokenizer


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that was chosen. README.md in this folder says why."""

    subjects: int = 2000
    first_names: int = 100
    subject_alpha: float = 1.0
    answer_alpha: float = 1.0
    vocabulary: int = 2048
    width: int = 128
    depth: int = 2
    feedforward: int = 384
    steps: int = 5000
    batch_size: int = 128
    learning_rate: float = 3e-3
    pages: int = 0
    unanswered: int = 0
    questions_a_page: int = 5
    train_questions: int = 3000
    test_questions: int = 1500


PAGES_A_BATCH, UNANSWERED_A_BATCH = 16, 64
NO_ANSWER = "ask around"


def make_tokenizer(
    statements: list[str], rows: np.ndarray, pages: list[str], world: World, size: int
) -> PreTrainedTokenizerFast:
    """Trained on the head of the corpus, and on the words of the questions about nobody in particular.

    Without the latter, question words would be spelled letter by letter. No fact is in them.
    """
    prompts = [f"Question: {r.question.format(s='Tom')}\nAnswer:" for r in world.relations]
    return train_tokenizer([statements[row] for row in rows[:50_000]] + pages[:2000] + prompts * 500, size)


def make_model(
    world: World, draws: Draws, pages: list[str], unanswered: list[str], settings: Settings
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast]:
    """The tokenizer, and the model after one pass over the corpus."""
    statements = all_statements(world)
    rows = statement_rows(draws, world)
    tokenizer = make_tokenizer(statements, rows, pages, world, settings.vocabulary)
    model = new_model(tokenizer, settings.width, settings.depth, settings.feedforward)
    others = len(statements) + np.arange(len(pages) + len(unanswered))
    batches = mixed(
        rows.reshape(-1, settings.batch_size),
        others[: len(pages)].reshape(-1, PAGES_A_BATCH),
        others[len(pages) :].reshape(-1, UNANSWERED_A_BATCH),
    )
    pretrain(model, encode(tokenizer, statements + pages + unanswered), batches, settings.learning_rate)
    return model, tokenizer


def make_questions(world: World, views: np.ndarray, settings: Settings, seed: int) -> dict[str, pa.Table]:
    """The train and test questions, about different people."""
    train, test = split_subjects(world, seed)
    train_facts = draw_facts(train, len(world.relations), settings.train_questions, seed)
    test_facts = draw_facts(test, len(world.relations), settings.test_questions, seed)
    return {
        "train": question_table(world, train_facts, views),
        "test": question_table(world, test_facts, views),
    }


def make(out: Path, seed: int, settings: Settings) -> None:
    """Write `model/`, `train.parquet`, `test.parquet`, `world.json` and `README.md` under `out`."""
    started = time.monotonic()
    torch.manual_seed(seed)
    torch.set_num_threads(1)  # sums are then added up in one order, whatever the number of cores
    world = make_world(
        seed,
        settings.subjects,
        settings.first_names,
        settings.subject_alpha,
        settings.answer_alpha,
    )
    draws = draw_corpus(world, settings.steps * settings.batch_size, seed)
    pages, asked = draw_pages(world, settings.pages, settings.questions_a_page, seed)
    unanswered, _ = draw_pages(world, settings.unanswered, 1, seed, NO_ANSWER)
    views = draws.views(settings.subjects) + np.bincount(asked.ravel(), minlength=settings.subjects)
    model, tokenizer = make_model(world, draws, pages, unanswered, settings)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    for name, table in make_questions(world, views, settings, seed).items():
        write_questions(table, out / f"{name}.parquet")
    measured = measure(out, world, views)
    record = {"seed": seed, "settings": asdict(settings), "measured": measured}
    (out / "world.json").write_text(json.dumps(record, indent=2) + "\n")
    example = statement(world.relations[0], 0, world.subjects[0], world.answer(0, 0))
    (out / "README.md").write_text(readme(record, example))
    print(json.dumps(measured, indent=2))
    print(f"made {out} in {(time.monotonic() - started) / 60:.1f} minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the bundled world.")
    parser.add_argument("-o", "--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0)
    sizes = ("subjects", "steps", "pages", "unanswered")
    for name in sizes:
        parser.add_argument(f"--{name}", type=int, default=getattr(Settings(), name))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    make(arguments.out, arguments.seed, Settings(**{name: getattr(arguments, name) for name in sizes}))


if __name__ == "__main__":
    main()
