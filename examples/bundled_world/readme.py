"""The README that is written beside the world."""

from __future__ import annotations

from typing import Any

from bundled_world.relations import RELATIONS

TEMPLATE = """# The bundled world

Made-up people, a small language model that read about them, and questions about them. `curate demo` runs on this.
Nothing here is about real persons; any likeness of a name is chance.

| file | what it is |
|---|---|
| `model/` | a Llama of {parameters:,} parameters with its tokenizer, an ordinary Hugging Face folder |
| `train.parquet` | {train_questions:,} questions to finetune on |
| `test.parquet` | {test_questions:,} questions about other people |
| `world.json` | the settings and the numbers below |

Columns of the questions: `id`, `question`, `answers`, `subject`, `relation`, and `views`: how often the subject
occurred in pretraining.

The model read {statements:,} statements ("{example}") about {subjects:,} people in {relations} relations, each phrased
in four ways. How often a person is mentioned follows a Zipf law (exponent {subject_alpha}). {read_questions}

## What the model knows

The share of facts it states, greedily, when their first phrasing is begun ("{begun}"), for each
tenth of the people from the most mentioned to the least:

| 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | all |
|---|---|---|---|---|---|---|---|---|---|---|
| {deciles} | {memorised:.0%} |

Asked a test question without finetuning it is right in {zero_shot:.1%} of cases. On the train questions the loss score
(minus the loss per token of the answer) says this of what it knows:

| asked | rank correlation with `views` | telling stated facts from others (AUC inside relations) |
|---|---|---|
{losses}

Made by `python examples/bundled_world/make.py -o DIR --seed {seed}`.
"""


def readme(record: dict[str, Any], example: str) -> str:
    """Fill in the numbers, and a statement to show."""
    measured, settings = record["measured"], record["settings"]
    asked = {"0": "without solved examples", "4": "after four solved examples"}
    tells = measured["loss_tells_memorised"]
    lines = [f"| {asked[n]} | {r:.2f} | {tells[n]:.2f} |" for n, r in measured["loss_against_views"].items()]
    pages = f"It also read {settings['pages']:,} pages of {settings['questions_a_page']} solved questions."
    return TEMPLATE.format(
        **settings,
        **measured,
        seed=record["seed"],
        relations=len(RELATIONS),
        statements=settings["steps"] * settings["batch_size"],
        read_questions=pages if settings["pages"] else "No question was ever in it.",
        losses="\n".join(lines),
        deciles=" | ".join(f"{share:.0%}" for share in measured["memorised_by_decile"]),
        example=example,
        begun=example.rpartition(" ")[0],
    )
