"""What an estimator is; the simplest one, a column of numbers; and what those that ask a model have in common."""

from __future__ import annotations

import copy
import dataclasses
import math
import zlib
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

import curate.settings
from curate.data.columns import values_of
from curate.display import duration
from curate.engines import absolute
from curate.errors import EstimatorError, setting
from curate.prompts import DEFAULT, LETTERS, Exemplars, Patterns, Shots, Template, earlier_answers, find_template, topic
from curate.records import FAILED, OK, Example, Score
from curate.settings import DTYPES, TOKEN_BUDGET, option

if TYPE_CHECKING:  # torch
    from curate.lm.loss import Report
    from curate.lm.model import LoadedModel

ANOTHER_CHANCE = (FAILED, "not_cached")
"""Statuses of rows that the same command may score when it is typed again."""


class Estimator(ABC):
    """Something that tells how well known each example is: a higher score always means better known.

    A new one is a class in a file of its own and a line in `ESTIMATORS`; its options come with its `Settings`. It must
    have a `name`, `fingerprint` and `score`; everything else is there if it needs it.
    """

    usage: ClassVar[str] = ""
    """What is typed after --by of one that comes with curate: `loss`, `column:NAME`."""

    Settings: ClassVar[type[curate.settings.Settings]] = curate.settings.Settings
    """Its own options, with their help."""

    name: str
    """Becomes the column `score_<name>` and the prefix of the evidence columns."""

    columns: Sequence[str] = ()
    """Input columns whose values it wants to find in `Example.extra`."""

    evidence: Mapping[str, str] = {}
    """Evidence fields and their Arrow types (`float64`, `int64`, `string`); each is a column `<name>_<field>`."""

    resumable = True
    """Whether finished chunks are kept for a run that is started again: not where they cost nothing."""

    report: Report = staticmethod(lambda share, tokens: None)
    """To be called while `score` works, where that takes long: with the share done, and the tokens read since."""

    def __init__(self, settings: Any = None) -> None:
        self.settings = self.Settings() if settings is None else settings

    @classmethod
    def make(cls, argument: str, settings: Any, columns: Sequence[str]) -> Estimator:
        """From what stands behind the colon of `usage`, its Settings, and the names of the input columns.

        Quick: no model is loaded, nobody asked. EstimatorError where something is missing.
        """
        return cls(settings)

    @abstractmethod
    def fingerprint(self) -> Mapping[str, Any]:
        """All that could change the numbers; goes into the manifest, and into the key of every chunk that is kept."""

    def request(self) -> Mapping[str, Any]:
        """The same as far as it is known before anything is loaded or drawn: equal for equal numbers."""
        return self.fingerprint()

    @abstractmethod
    def score(self, examples: Sequence[Example]) -> Iterable[Score]:
        """One Score an example, in the same order."""

    def draw(self, examples: Callable[[], Iterable[Example]]) -> None:  # noqa: B027 most need none
        """Given all examples of the dataset, whatever part of it is scored, before anything else; may pass by again."""

    def prepare(self, examples: Iterable[Example]) -> None:  # noqa: B027 most need none
        """Told of all examples before the first chunk is scored; they pass by once."""

    def score_table(self, table: pa.Table) -> list[pa.Array] | None:
        """The scores of a batch as the columns of `schema`, where its `columns` alone tell them so."""
        return None

    @property
    def schema(self) -> pa.Schema:
        """The columns that it adds: score, evidence, status."""
        evidence = [(f"{self.name}_{field}", pa.type_for_alias(kind)) for field, kind in self.evidence.items()]
        return pa.schema([(f"score_{self.name}", pa.float64()), *evidence, (f"{self.name}_status", pa.string())])

    def as_columns(self, scores: Sequence[Score]) -> list[pa.Array]:
        """Scores as the columns of `schema`."""
        evidence = [[score.evidence.get(field) for score in scores] for field in self.evidence]
        values = [[score.value for score in scores], *evidence, [score.status for score in scores]]
        return [pa.array(column, kind) for column, kind in zip(values, self.schema.types, strict=True)]

    def reasons(self) -> Mapping[str, int]:
        """Why examples got the status `failed`, in words, and how often each reason came."""
        return {}

    def notes(self) -> Sequence[str]:
        """What a person should know of how it scored, a sentence each."""
        return ()

    def cost(self, chunks: Iterable[Sequence[Example]]) -> tuple[dict[str, Any], str] | None:
        """What scoring so many examples would cost, for a dry run: as values and as a line; None if nothing."""
        return None


MISSING = "missing"


class ColumnEstimator(Estimator):
    """`column:NAME`: the score is an input column of numbers, or a dotted path into one; higher means better known."""

    usage = "column:NAME"
    resumable = False

    def __init__(self, column: str) -> None:
        self.name = column
        self.columns = (column,)

    @classmethod
    def make(cls, argument: str, settings: Any, columns: Sequence[str]) -> Estimator:
        return cls(argument)

    def fingerprint(self) -> Mapping[str, Any]:
        return {"estimator": "column", "column": self.name}

    def score(self, examples: Sequence[Example]) -> Iterator[Score]:
        (column,) = self.columns
        for example in examples:
            yield score_of_number(example.extra[column], column)

    def score_table(self, table: pa.Table) -> list[pa.Array] | None:
        """The same for a column of Arrow numbers, without a Python object a row."""
        column = values_of(table, self.name)
        if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
            return None
        numbers = pc.cast(column.combine_chunks(), pa.float64(), safe=False)
        measured = pc.fill_null(pc.invert(pc.is_nan(numbers)), False)
        return [pc.if_else(measured, numbers, None), pc.if_else(measured, OK, MISSING)]


def score_of_number(value: Any, column: str) -> Score:
    """The score in one cell: numbers and texts that spell one; empty cells and NaN are `missing`.

    Raises EstimatorError for anything that is not a number.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return Score(None, MISSING)
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        raise EstimatorError(
            f"The column {column!r} is not all numbers: it holds {value!r}.",
            expected="a number, or an empty cell, in every row",
            try_next=f"{setting('by', 'column:NAME')}, with a column of numbers; higher must mean better known",
        ) from None
    return Score(None, MISSING) if math.isnan(number) else Score(number, OK)


@dataclass(frozen=True)
class ModelSettings(curate.settings.Settings):
    """Which model is asked, and where it is."""

    panel = "Model"

    model: Any = option(None, "For loss and known: folder, .gguf file or Hub id of the pretrained base model.")
    revision: str | None = option(None, "Its branch, tag or commit on the Hub.")
    dtype: str = option("float32", "Less than float32 moves the numbers.", choices=DTYPES)
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps.")
    processes: int | None = option(None, "Processes, each with a copy of the model; by default one for each GPU.")
    token_budget: int | None = option(None, TOKEN_BUDGET, least=1, shown_default="as fits the device")
    allow_pickle: bool = option(False, "Read pickle weights, if you trust them.")
    template: str | None = option(
        None,
        "For loss: qa, plain, mmlu, or a Jinja file. mmlu if there are choices, else qa. Also for known: chat, the "
        "model's own chat template.",
    )
    system: str | None = option(None, "For --template chat: what the system says.")


class ModelEstimator(Estimator):
    """An estimator with a model, which is loaded when it is first needed; it can be pickled before that."""

    settings: ModelSettings
    template: Template = DEFAULT
    sets: Sequence[Shots] = ()
    """Solved examples that a question is asked after, one set after the other; `draw` them before `score`."""
    in_memory = False
    """Whether its model was given as it is, and is nowhere to be loaded from."""
    _loaded: LoadedModel | None = None

    def __init__(self, settings: ModelSettings, loaded: LoadedModel | None = None) -> None:
        """Its template is the model's chat template where that is asked for, else the one of its own."""
        if loaded is None and not isinstance(settings.model, (str, Path, type(None))):
            from curate.lm.model import loaded_already

            loaded, self.in_memory = loaded_already(settings.model), True
            settings = settings.changed(model=loaded and loaded.name)
        self.settings = settings
        asked = find_template(settings.template or self.template, settings.system)
        if asked.is_chat:
            from curate.lm.model import load_tokenizer

            tokenizer = loaded.tokenizer if loaded else load_tokenizer(settings.model, settings.revision)
            self.template = asked.fitted(tokenizer, loaded.name if loaded else str(settings.model))
        self._loaded = loaded and self._asked(loaded)

    def _asked(self, loaded: LoadedModel) -> LoadedModel:
        """A model as it is to be asked."""
        return dataclasses.replace(loaded.asked_in(self.template), token_budget=self.settings.token_budget)

    @classmethod
    def make(cls, argument: str, settings: Any, columns: Sequence[str]) -> Estimator:
        if settings.model is None:
            raise EstimatorError(
                f"{setting('by', cls.usage or cls.name)} needs a model.",
                expected=f"{setting('model')} with a local folder or a Hub id of a pretrained base model",
                try_next=f"{setting('by', cls.usage or cls.name)} {setting('model', 'meta-llama/Llama-2-7b-hf')}",
            )
        return cls(settings)

    def request(self) -> Mapping[str, Any]:
        """Its settings, but for where it works; for the model, what its files hold."""
        from curate.lm.files import version_of

        loaded = self._loaded
        hashed = loaded is not None and loaded.revision.startswith("sha256:")
        version = (
            (loaded.name, loaded.revision)
            if loaded and hashed
            else version_of(str(self.settings.model), self.settings.revision)
        )
        settings = self.settings.changed(model=None, processes=None).as_dict()
        del settings["template"], settings["system"], settings["token_budget"]
        asked = {"template": self.template.texts} if self.template.is_chat else {}
        return {"estimator": self.usage, **settings, **asked, "model": version}

    def on(self, device: str) -> ModelEstimator:
        """The same on another device, and in any folder, its model not loaded."""
        other = copy.copy(self)
        other.settings = self.settings.changed(model=absolute(self.settings.model), device=device, processes=1)
        other._loaded = None
        return other

    @property
    def model(self) -> LoadedModel:
        """The model, loaded now if it is not yet."""
        if self._loaded is None:
            from curate.lm.model import load_model

            said = self.settings
            loaded = load_model(said.model, said.dtype, said.device, said.revision, said.allow_pickle)
            self._loaded = self._asked(loaded)
            cut, relations = self._exemplars_cut()
            if cut and cut == relations:
                asked_by, least = ("shots", 0) if self.name == "loss" else ("known_shots", 1)
                fewer = range(self.sets[0].count - 1, least - 1, -1)
                fitting = next((count for count in fewer if self._exemplars_cut(count)[0] < relations), None)
                raise EstimatorError(
                    f"The solved examples of every relation are longer than the {loaded.context} tokens that "
                    f"{loaded.name} reads.",
                    expected="room for them and the question",
                    try_next="a model with a longer context"
                    if fitting is None
                    else f"fewer of them with {setting(asked_by, fitting)}",
                )
        return self._loaded

    def _exemplars_cut(self, count: int | None = None) -> tuple[int, int]:
        """Of how many relations the solved examples alone are longer than the model's context, and of how many in all.

        Each set of them counts by itself; `count` instead of as many examples as are asked for.
        """
        drawn = [
            "".join(shots.solved(shot) for shot in some[: shots.count if count is None else count])
            for shots in self.sets
            if isinstance(shots, Exemplars)
            for some in shots.drawn.values()
        ]
        lengths = map(len, self.model.tokenize(drawn)["input_ids"]) if drawn else ()
        return sum(length > self.model.context for length in lengths), len(drawn)

    def drawn(self) -> Sequence[Shots]:
        """The sets of solved examples; EstimatorError where they have not been drawn."""
        if not self.sets:
            raise EstimatorError(
                f"The solved examples of {self.name} have not been drawn yet.",
                expected="draw, with all examples of the dataset, before score",
                try_next="curate.score, which draws them",
            )
        return self.sets

    def notes(self) -> Sequence[str]:
        """What stood for relations and for solved examples they lack, and that the chat template was not used."""
        notes = []
        shots = next(iter(self.sets), None)
        if isinstance(shots, Exemplars):
            found = sorted(filter(None, shots.drawn))
            if shots.patterns:
                such_as = f", such as {found[0]!r}" if found else ""
                notes.append(f"No relation is known; {len(found)} question patterns stand for relations{such_as}.")
            lacking = [relation for relation in found if len(shots.drawn[relation]) <= shots.count]
            if lacking:
                notes.append(
                    f"{len(lacking)} of {len(found)} relations, such as {lacking[0]!r}, have fewer than "
                    f"{shots.count + 1} answered questions about different subjects: solved examples of other "
                    "relations stand before theirs too."
                )
        if self._loaded:
            notes += self._loaded.remarks(self.template)
            cut, relations = self._exemplars_cut()
            if cut:
                notes.append(
                    f"The solved examples of {cut} of {relations} relations and sets are longer than the "
                    f"{self._loaded.context} tokens that {self._loaded.name} reads: the first of them are cut off."
                )
        return notes

    @abstractmethod
    def pairs(self, example: Example) -> Sequence[tuple[str, str]]:
        """What the model reads of an example: prompts and completions."""

    def cost(self, chunks: Iterable[Sequence[Example]]) -> tuple[dict[str, Any], str]:
        """How much text the model would read: what is there twice in a chunk is read once; how long, in what memory."""
        from curate.lm.model import load_tokenizer
        from curate.lm.packing import common, estimated

        tokenizer = load_tokenizer(self._loaded or self.settings.model, self.settings.revision)
        sequences = tokens = read = 0
        for chunk in chunks:
            texts = {prompt + completion for example in chunk for prompt, completion in self.pairs(example)}
            sequences += len(texts)
            found = tokenizer(list(texts), add_special_tokens=not self.template.is_chat)["input_ids"] if texts else ()
            tokens += sum(map(len, found))
            texts_in_order = sorted(map(tuple, found))  # what neighbours begin with is read once
            read += sum(len(b) - common(a, b) for a, b in zip([(), *texts_in_order], texts_in_order, strict=False))
        costs = estimated(self._loaded or str(self.settings.model), self.settings, read)
        takes = f"about {duration(costs['seconds'])} and {costs['memory'] / 1e9:.1f} GB"
        line = f"{self.name}: {sequences} sequences, {tokens} tokens through {self.settings.model}, {takes}"
        return {"sequences": sequences, "tokens": tokens, **costs}, line


def patterns_of(examples: Callable[[], Iterable[Example]]) -> Patterns | None:
    """Question patterns, where no example has a relation; None where one has, or they are multiple choice."""
    sample: list[str] = []
    share = 2**32
    for example in examples():
        if topic(example) or example.choices:
            return None
        # A sample by the hash of the question does not depend on the order of the rows.
        if zlib.crc32(example.question.encode("utf-8", "surrogatepass")) < share:
            sample.append(example.question)
        if len(sample) > Patterns.MOST_QUESTIONS:
            share //= 2
            sample = [text for text in sample if zlib.crc32(text.encode("utf-8", "surrogatepass")) < share]
    return Patterns(sample) or None


def unaskable(example: Example, template: Template) -> str | None:
    """The status that says why a template cannot ask an example; None if it can."""
    if not example.question:
        return "no_question"
    if not example.answers:
        return "no_answer"
    if template.is_chat and earlier_answers(example) is None:
        return "odd_turns"
    if template.multiple_choice and len(example.choices) < 2:
        return "no_choices"
    if template.multiple_choice and len(example.choices) > len(LETTERS):
        return "too_many_choices"
    return "answer_not_in_choices" if template.multiple_choice and example.answers[0] not in example.choices else None


MOST_REASONS = 5
"""Of a run, that its manifest keeps."""
LONGEST_REASON = 200
"""Characters: a server may have written some of it."""


def commonest(reasons: Mapping[str, int]) -> dict[str, int]:
    """Why examples failed, in short, the commonest reasons first."""
    short: Counter[str] = Counter()
    for reason, times in reasons.items():
        short[reason[:LONGEST_REASON]] += times
    return dict(sorted(short.items(), key=lambda item: (-item[1], item[0]))[:MOST_REASONS])


def why_failed(manifest: Mapping[str, Any]) -> list[str]:
    """The commonest reason why examples of a scored file failed, a line for each estimator that knows one."""
    return [
        f"{name} failed on {manifest['statuses'][name][FAILED]} examples, most often: {next(iter(commonest(reasons)))}"
        for name, reasons in manifest.get("reasons", {}).items()
    ]


def measured_nothing(manifest: Mapping[str, Any]) -> EstimatorError:
    """The error for a run in which no estimator could score any row."""
    statuses = manifest["statuses"]
    counts = [f"{status} {n} ({name})" for name, found in statuses.items() for status, n in found.items() if n]
    found = "; ".join([f"No example could be scored: {', '.join(counts)}", *why_failed(manifest)])
    return EstimatorError(
        f"{found}. Nothing is written.",
        expected="at least one example that can be scored",
        try_next=f"{setting('max_missing', 0)}, to write the file with the reasons all the same",
    )
