"""The known layouts of QA datasets: for each, where its question, answers, subject and relation lie."""

from __future__ import annotations

from dataclasses import dataclass

from curate.datasets.columns import Columns
from curate.errors import DataError


@dataclass(frozen=True, slots=True)
class Preset:
    """A known layout, in one or more versions.

    A version fits a table if its question, answers and choices, a subject that is made, and every field of `tells`
    give something in half of the first rows or more; a relation, and a subject that is a column, are taken where they
    are there. `exactly` asks for a table without further columns. `template` is the prompt that suits the layout:
    `qa` for questions, `plain` for texts to go on with. `relation_file` finds the relation in the name of a file,
    where the rows do not tell it.
    """

    name: str
    versions: tuple[Columns, ...]
    tells: tuple[str, ...] = ()
    exactly: bool = False
    template: str = "qa"
    relation_file: str | None = None


# The first that fits is taken, so the layouts that ask for most stand first.
_ALL = (
    Preset(
        "popqa",
        (
            Columns("question", "possible_answers", "subj", "prop"),
            Columns("question", "all_of(answer, aliases)", "popqa_subject(question)", "popqa_relation(question)"),
        ),
    ),
    Preset(
        "counterfact",
        (
            Columns(
                "statement(requested_rewrite.prompt, requested_rewrite.subject)",
                "requested_rewrite.target_true.str",
                "requested_rewrite.subject",
                "requested_rewrite.relation_id",
            ),
            Columns("prompt", "target_true", "subject", "relation_id"),
        ),
        template="plain",
    ),
    Preset(
        "pararel",
        (
            Columns("statement(query, subject)", "object", "subject", "relation"),
            Columns("statement(pattern, sub_label)", "obj_label", "sub_label", "predicate_id"),
        ),
        template="plain",
    ),
    Preset(
        "lama",
        (
            Columns("statement(template, sub_label)", "obj_label", "sub_label", "predicate_id"),
            Columns("statement(masked_sentences)", "obj_label", "sub_label", "predicate_id"),
            Columns("statement(masked_sentence)", "obj_label", "sub_label", "predicate_id"),
            Columns("statement(evidences.masked_sentence)", "obj_label", "sub_label", "predicate_id"),
        ),
        template="plain",
        relation_file=r"(P\d+|date_of_birth|place_of_birth|place_of_death)(_test)?",
    ),
    Preset(
        "mmlu",
        (
            Columns("question", "answer", None, "subject", None, ("choices",)),
            Columns("question", "answer", None, "subject", None, ("choice0", "choice1", "choice2", "choice3")),
            Columns("question", "answer", None, "subject", None, ("A", "B", "C", "D")),
        ),
        relation_file=r"(.+)_(dev|val|test|train)",
    ),
    Preset("triviaqa", (Columns("question", "all_of(answer.value, answer.aliases)"),)),
    Preset("squad", (Columns("question", "answers.text", "title"),), tells=("context", "answers.answer_start")),
    Preset("webquestions", (Columns("question", "answers", "page_name(url)"),)),
    Preset(
        "simpleqa",
        (
            Columns("problem", "as_text(answer)", None, "metadata.topic"),
            Columns("problem", "as_text(answer)", None, "topic"),
        ),
    ),
    Preset(
        "entityquestions",
        (Columns("question", "answers", "entityquestions_subject(question)", "entityquestions_relation(question)"),),
        relation_file=r"(P\d+)\.(train|dev|test)",
    ),
    Preset("nq-open", (Columns("question", "answer"),), tells=("listed(answer)",), exactly=True),
    Preset(
        "messages",
        (
            Columns("last_user(messages)", "last_assistant(messages)"),
            Columns("last_turn(prompt)", "last_assistant(completion)"),
        ),
    ),
    Preset("sharegpt", (Columns("last_user(conversations)", "last_assistant(conversations)"),)),
    Preset(
        "alpaca",
        (Columns("with_input(instruction, input)", "as_text(output)"), Columns("instruction", "as_text(output)")),
    ),
    Preset(
        "prompt-completion",
        (Columns("prompt", "as_text(completion)"),),
        template="plain",
    ),
)
PRESETS = {preset.name: preset for preset in _ALL}


def find_preset(name: str) -> Preset:
    """The preset of that name; DataError when there is none."""
    if name not in PRESETS:
        raise DataError(
            f"There is no preset {name!r}.", expected=f"one of {', '.join(PRESETS)}", try_next="--preset popqa"
        )
    return PRESETS[name]
