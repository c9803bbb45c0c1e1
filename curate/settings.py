"""Every setting once: its name, type, default, range, choices and help.

A group of settings is a frozen dataclass whose fields are made by `option`. The options of the command line, the keys
of a recipe and the keyword arguments of the Python functions all follow from it: to add a setting is to add a field.
The groups that several rooms share are here; those of an estimator or an experiment stand beside it.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, make_dataclass, replace
from types import UnionType
from typing import Any, ClassVar, Literal, ParamSpec, TypeVar, Union, get_args, get_origin, get_type_hints

from curate.errors import SettingError, setting

S = TypeVar("S", bound="Settings")
P = ParamSpec("P")
R = TypeVar("R")


def option(
    default: Any = MISSING,
    help: str = "",
    *,
    choices: Sequence[str] = (),
    least: float | None = None,
    above: float | None = None,
    below: float | None = None,
    each: bool = True,
    expected: str = "",
    shown_default: str | None = None,
    on_command_line: bool = True,
) -> Any:
    """A field of a group of settings: its default, its help, and which values it may have.

    `choices` are all values there are; `least` is inside the range of a number, `above` and `below` outside of it, and
    `expected` says that range in other words. Of a tuple every item is checked, unless not `each`. `shown_default`
    is what the help page says of a default that is found out later. None, the default of many, is never checked.
    """
    about = {
        "help": help,
        "choices": tuple(choices),
        "least": least,
        "above": above,
        "below": below,
        "each": each,
        "expected": expected,
        "shown_default": shown_default,
        "on_command_line": on_command_line,
    }
    return field(default=default, metadata=about)


@dataclass(frozen=True)
class Settings:
    """The base of every group: a value out of its range, or none of its choices, is a SettingError.

    `panel` is the part of a help page that the settings of the group stand in.
    """

    panel: ClassVar[str] = "Options"

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, list):
                value = tuple(value)
                object.__setattr__(self, item.name, value)
            several = isinstance(value, tuple)
            for single in value if several else (value,):
                if single is not None and (item.metadata.get("each", True) or not several):
                    check_value(item, single)
        self.check()

    def check(self) -> None:
        """Raise SettingError for settings that cannot be together."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """The names of all settings of the group, in order."""
        return tuple(item.name for item in fields(cls))

    @classmethod
    def of(cls: type[S], given: Mapping[str, Any], **decided: Any) -> S:
        """The group out of a mapping that may hold other things too; None there means the default.

        A group within the group is taken as it is given, and its settings that are given by themselves replace its own.
        """
        chosen = {name: given[name] for name in cls.names() if given.get(name) is not None}
        for name, inner in get_type_hints(cls).items():
            if is_group(inner):
                own = chosen.get(name)
                chosen[name] = inner.of({**({n: getattr(own, n) for n in inner.names()} if own else {}), **given})
        return cls(**(chosen | decided))

    def changed(self: S, **changes: Any) -> S:
        """The same settings but for the given ones."""
        return replace(self, **changes)

    def given(self) -> dict[str, Any]:
        """Those that are not at their defaults, those of a group within the group too."""
        found: dict[str, Any] = {}
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, Settings):
                found |= value.given()
            elif value != item.default:
                found[item.name] = value
        return found

    def as_dict(self) -> dict[str, Any]:
        """All of them, for manifests and keys."""
        return asdict(self)


_LIMITS = {
    "least": ("at least", operator.ge),
    "above": ("above", operator.gt),
    "below": ("below", operator.lt),
}


def check_value(item: Field[Any], value: Any) -> None:
    """SettingError unless the value of a setting is one of its choices and in its range."""
    about = item.metadata
    if about.get("choices") and value not in about["choices"]:
        raise SettingError(
            f"There is no {setting(item.name, repr(value))}.", expected=f"one of {', '.join(about['choices'])}"
        )
    limits = {name: about[name] for name in _LIMITS if about.get(name) is not None}
    if not limits or not isinstance(value, (int, float)):
        return
    if not math.isfinite(value) or not all(_LIMITS[name][1](value, limit) for name, limit in limits.items()):
        words = ", ".join(f"{_LIMITS[name][0]} {limit:g}" for name, limit in limits.items())
        raise SettingError(
            f"{setting(item.name, value)} is out of range.", expected=about["expected"] or f"a number {words}"
        )


@dataclass(frozen=True)
class Setting:
    """One setting, as the command line, a recipe or a function's signature takes it.

    `kinds` are the types it may have beside None: `(str, float)`; `declared` is what the group says of that; `panel` is
    the part of a help page it stands in.
    """

    name: str
    kinds: tuple[Any, ...]
    declared: str
    default: Any
    about: Mapping[str, Any]
    panel: str = ""

    @property
    def help(self) -> str:
        """What it means, and what it is if it is not given, where that is found out later."""
        later = self.about.get("shown_default")
        return f"{self.about.get('help', '')}{f'  [default: {later}]' if later else ''}"

    @property
    def item_kind(self) -> Any:
        """The type of the items where it may have several: `str` of `tuple[str, ...]`; None where it has one value."""
        return next((get_args(kind)[0] for kind in self.kinds if get_origin(kind) is tuple), None)


def settings_of(group: type[Settings]) -> list[Setting]:
    """All settings of a group, those of the groups within it in their place."""
    hints = get_type_hints(group)
    found: list[Setting] = []
    for item in fields(group):
        hint = hints[item.name]
        if is_group(hint):
            found += settings_of(hint)
            continue
        kinds = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
        kinds = tuple(kind for kind in kinds if kind is not type(None))
        home = next(base for base in reversed(group.__mro__) if item.name in inspect.get_annotations(base))
        panel = getattr(home, "panel", group.panel)
        found.append(Setting(item.name, kinds, str(item.type), item.default, item.metadata, panel))
    return found


def same(group: type[Settings], name: str) -> Any:
    """A field of another group, its default and all that is said of it, for a group that has it too."""
    item = next(item for item in fields(group) if item.name == name)
    return field(default=item.default, metadata=item.metadata)


def is_group(hint: Any) -> bool:
    """Whether a type is a group of settings."""
    return isinstance(hint, type) and issubclass(hint, Settings)


def takes(*groups: type[Settings]) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A public function takes the settings of these groups as keyword arguments, in place of its `**options`.

    Its signature names them all, for `help` and editors. A keyword that is none of them is Python's own TypeError; a
    parameter of the function itself comes before a setting of the same name.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        parameters = {p.name: p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD}
        for item in (item for group in groups for item in settings_of(group)):
            parameter = inspect.Parameter(
                item.name, inspect.Parameter.KEYWORD_ONLY, default=item.default, annotation=item.declared
            )
            parameters.setdefault(item.name, parameter)

        @functools.wraps(function)
        def wrapper(*arguments: P.args, **options: P.kwargs) -> R:
            unknown = sorted(options.keys() - parameters.keys())
            if unknown:
                raise TypeError(f"{function.__name__}() got an unexpected keyword argument {unknown[0]!r}")
            return function(*arguments, **options)

        wrapper.__signature__ = signature.replace(parameters=[*parameters.values()])  # type: ignore[attr-defined]
        return wrapper

    return decorate


def without_defaults(group: type[Settings]) -> type[Settings]:
    """The settings of a group with None, not given, as their default: for groups that differ in nothing else."""
    about = [(item.name, f"{item.type} | None", field(default=None, metadata=item.metadata)) for item in fields(group)]
    where = {"__module__": group.__module__}  # whose names the types are written in
    return make_dataclass(group.__name__, about, bases=(Settings,), frozen=True, namespace=where)


@dataclass(frozen=True)
class LayoutSettings(Settings):
    """What is read: the layout of the data, and which part of it."""

    panel = "Data"

    preset: str | None = option(None, "The layout, where it is not recognised: popqa, mmlu, …")
    split: str | None = option(None, "The split of a Hub dataset: test, or its beginning, train[:1000].")


@dataclass(frozen=True)
class ReadSettings(LayoutSettings):
    """How data is read: its layout, and which column means what; each a column, or a dotted path into one."""

    question_column: str | None = option(None, "The column that holds the question, or a dotted path into one.")
    answer_column: str | None = option(None, "The column that holds the answer or answers.")
    subject_column: str | None = option(None, "The column that holds the subject.")
    relation_column: str | None = option(None, "The column that holds the relation.")
    choices_column: str | None = option(None, "The column that holds the list of choices.")
    id_column: str | None = option(None, "A complete and unique key of your own.")


@dataclass(frozen=True)
class EngineSettings(Settings):
    """Where work runs: on this machine, or on the workers of a Ray cluster."""

    panel = "Engine"

    engine: str | None = option(
        None,
        "local, or ray: for loss, the model on every worker of a Ray cluster.",
        choices=("local", "ray"),
        shown_default="local",
    )
    ray_address: str | None = option(
        None, "For ray: the head node, as 10.0.0.1:6379, or local. Else the cluster this machine is in, if any."
    )
    workers: str | int | None = option(
        None, "For ray: how many, or the fewest and the most, 2:64.", shown_default="one a GPU, or CPU"
    )
    cpus: int = option(
        1, "For ray: the processors, and threads, of a worker.", above=0, expected="at least one processor a worker"
    )

    def check(self) -> None:
        """SettingError for options of Ray without it, or for workers that are no number and no range."""
        given = [name for name in ("ray_address", "workers") if getattr(self, name) is not None]
        given += ["cpus"] if self.cpus > 1 else []
        if self.engine != "ray" and given:
            raise SettingError(
                f"{setting(given[0])} is an option of {setting('engine', 'ray')}.",
                try_next=f"{setting('engine', 'ray')}, or leave out {setting(given[0])}",
            )
        self.bounds()

    def bounds(self) -> tuple[int, int] | None:
        """The fewest and the most workers; None where the cluster decides."""
        if self.workers is None:
            return None
        match = re.fullmatch(r"(\d+)(?::(\d+))?", str(self.workers).strip())
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= low <= high:
            raise SettingError(
                f"{setting('workers')} is {self.workers}.", expected="how many, or the fewest and the most: 8, 2:64"
            )
        return low, high


@dataclass(frozen=True)
class ValidateEngineSettings(EngineSettings):
    """The same for a validation."""

    engine: str | None = option(
        None,
        "local, or ray: every trial, arm and seed as a task of a Ray cluster.",
        choices=("local", "ray"),
        shown_default="local",
    )


DTYPES = ("float32", "bfloat16", "float16")
TOKEN_BUDGET = "Tokens of a batch: fewer take less memory. No number depends on it."
ANSWERS_BY = ("transformers", "vllm")
"""What can generate answers; of vllm, see curate/lm/generate.py."""

Dedup = Literal["exact", "near"]
Missing = Literal["exclude", "lowest", "error"]
Order = Literal["source", "popular-first", "obscure-first", "shuffled"]


@dataclass(frozen=True)
class SelectSettings(Settings):
    """Which rows of a scored table make which split; docs/selecting.md has the exact rules."""

    panel = "Rows"

    top: str | float | None = option(None, "The best known: a share (0.3, 30%) of the scored rows, or a count (500).")
    bottom: str | float | None = option(None, "The least known, likewise.")
    random: str | float | None = option(None, "A seeded random draw, likewise.")
    whole: bool = option(False, "All rows that have a score.")
    band: str | list[str] | tuple[str, ...] | None = option(
        None, "A stretch of the order, in percent from the best known: 30:70. Several are band-20-70, …"
    )
    known: str | list[str] | tuple[str, ...] | None = option(
        None, "The rows of these classes, of a file scored by known: highly,maybe. Each that is given is a split."
    )
    mix: str | list[str] | tuple[str, ...] | Mapping[str, float] | None = option(
        None, "A seeded draw of so many of each class: maybe=0.7,highly=0.3, with --size. Several are mix-maybe-70-…"
    )
    size: int | None = option(None, "For --mix: how many rows to draw.", least=1)
    sizes: tuple[int, ...] | None = option(
        None,
        "Also smaller splits, each within the next, of every split asked for, or else of top: 60,240,960.",
        least=1,
    )
    budget_tokens: int | None = option(None, "The best known that fit so many tokens of prompt and completion.")
    tokenizer: Any = option(None, "For --budget-tokens: folder or Hub id of the model to be finetuned.")
    by: str | list[str] | tuple[str, ...] | None = option(
        None,
        "The score to rank by, when the file has several, or column:NAME. Several are combined: each becomes "
        "percentile ranks, and their mean ranks the rows.",
    )
    where: str | list[str] | tuple[str, ...] | Mapping[str, Any] | None = option(
        None,
        "Only rows with COLUMN=VALUE,VALUE,… (or !=), in all conditions given; also ambiguous=no, shared:TESTSET=no.",
    )
    dedup: Dedup | None = option(
        None,
        "Of questions asked more than once only the best known: exact (but for capitals and blanks), or near ones too.",
        choices=get_args(Dedup),
    )
    min_score: float | None = option(None, "Only rows with at least this score.")
    max_score: float | None = option(None, "Only rows with at most this score.")
    stratify_by: str | list[str] | tuple[str, ...] | None = option(
        None,
        "Take the share inside each group: relation, answer-frequency, answer-length, pattern, any column, or "
        "several, with commas.",
    )
    controlled_by: str | None = option(
        None,
        "PopQA-Controlled: inside each group (relation) only its most frequent answer, top and bottom halves, "
        "and a test set of other answers.",
    )
    min_known: str | None = option(
        None, "The least share of highly or maybe known rows in each group: relation=0.2. The best known are added."
    )
    holdout: str | float | None = option(
        None, "Hold out an evaluation set of this size that shares no subject with a split."
    )
    holdout_by: str = option("subject", "What the held-out set must not share.")
    order: Order = option("source", "Order of the rows.", choices=get_args(Order))
    missing: Missing = option(
        "exclude", "Rows without a score: left out, ranked last, or an error.", choices=get_args(Missing)
    )
    seed: int = option(0, "Decides the random draws, and the order among equal scores.")


@dataclass(frozen=True)
class WriteSettings(Settings):
    """How splits are written: as they are, or for a trainer."""

    panel = "Files"

    format: str = option(
        "original",
        "The shape of the rows: their own, or for trainers.",
        choices=("original", "prompt-completion", "messages", "sharegpt", "alpaca"),
    )
    to: str | None = option(
        None, "The kind of file.", choices=("parquet", "jsonl", "csv"), shown_default="as the output is called"
    )
    template: str | None = option(
        None, "For --format: the template, as for score; chat makes prompt-completion a chat."
    )
    system: str | None = option(None, "For --template chat: what the system says.")
    keep_id: bool = option(False, "For --format: keep curate_id beside the trainer's columns.")
    trainer: str | None = option(
        None,
        "For --format and a folder: also what a trainer wants to know, dataset_info.json or a YAML file a split.",
        choices=("llama-factory", "axolotl"),
    )


@dataclass(frozen=True, slots=True)
class FinetuneConfig(Settings):
    """How an arm is finetuned. The same for every arm of a comparison.

    `learning_rate` and `weight_decay` are AdamW's; `lora_rank` and `lora_alpha` those of the adapters on all linear
    layers. Training takes `epochs` passes over the arm at most, or `max_steps` optimizer steps of `batch_size`
    examples; `held_out` is the share of the arm that does not train but decides when to stop: after `patience` epochs
    without a better one. `method` is `lora`, `full` or `qlora`; with `cuda_graphs` one GPU launches each step as a
    whole. Raises SettingError for a value out of range.

    Examples:
        >>> FinetuneConfig(batch_size=32, epochs=2).steps(examples=1000)
        58
    """

    panel = "Finetuning"

    learning_rate: float = option(1e-4, "Peak learning rate of AdamW.", above=0)
    weight_decay: float = option(1e-4, "Weight decay of AdamW.", least=0, expected="0 or a number above it")
    lora_rank: int = option(16, "Rank of the adapters, on all linear layers.", least=1)
    lora_alpha: int = option(32, "Scale of the adapters.", least=1)
    epochs: float = option(5, "Passes over an arm, at most.", above=0)
    max_steps: int | None = option(None, "Optimizer steps, instead of --epochs.", above=0)
    batch_size: int = option(16, "Examples a step.", least=1)
    held_out: float = option(
        0.1,
        "Share of an arm that does not train but decides when to stop; 0: train to the end.",
        least=0,
        below=1,
        expected="a share, such as 0.1; 0 to hold out nothing",
    )
    patience: int = option(3, "Stop after this many epochs without a better one.", least=1)
    regularize: str = option(
        "none",
        "distill: keep close to the untouched model, which is the teacher (adapters only).",
        choices=("none", "distill"),
    )
    distill_weight: float = option(1.0, "For distill: nats of divergence from the teacher count so much.", above=0)
    distill_temperature: float = option(2.0, "For distill: the temperature of both.", above=0)
    order: str = option(
        "shuffled",
        "shuffled, or obscure-first: in every epoch the least known examples first, by class or score.",
        choices=("shuffled", "obscure-first"),
    )
    cuda_graphs: bool = option(
        False, "On one GPU: launch each training step as a whole, for short questions; not yet run on hardware."
    )
    method: str = option(
        "lora", "lora, full (all weights) or qlora (4-bit weights).", choices=("lora", "full", "qlora")
    )

    def check(self) -> None:
        """SettingError for a teacher where all weights train: the untouched model is not there any more."""
        if self.regularize == "distill" and self.method == "full":
            raise SettingError(
                f"{setting('regularize', 'distill')} needs adapters, which are taken off for the teacher.",
                try_next=setting("method", "lora"),
            )

    def steps(self, examples: int) -> int:
        """Optimizer steps at most for an arm of that many examples."""
        if self.max_steps is not None:
            return self.max_steps
        return math.ceil(self.epochs * math.ceil((examples - self.held_out_rows(examples)) / self.batch_size))

    def held_out_rows(self, examples: int) -> int:
        """Rows of an arm that do not train but decide when to stop: at least one, if any."""
        return min(examples - 1, max(1, round(self.held_out * examples))) if self.held_out > 0 else 0


@dataclass(frozen=True)
class ValidateSettings(Settings):
    """How the arms of a validation are tuned, tested and compared."""

    panel = "Validation"

    seeds: int | Sequence[int] = option(3, "Finetunings per arm, with seeds 0, 1, 2, …", least=1, each=False)
    by: str | None = option(None, "Popularity of the test set: one of its scores, or any column of numbers.")
    config: FinetuneConfig = field(default_factory=FinetuneConfig)
    arm: tuple[str, ...] = option(
        (), "One more arm: a split trained in another way, top+distill or top+obscure-first. Repeatable."
    )
    tune: str = option(
        "off",
        "off, quick (3 learning rates) or paper (Table 4), per arm on its own held-out part.",
        choices=("off", "quick", "paper"),
    )
    template: str | None = option(
        None, "qa, plain, mmlu, chat (the model's own), or a Jinja file. mmlu if there are choices, else qa."
    )
    system: str | None = option(None, "For --template chat: what the system says.")
    limit: int | None = option(None, "Try out: a sample of so many examples of each arm and of the test set.", least=2)
    dtype: str = option(
        "auto",
        "auto is bfloat16 on a GPU, else float32.",
        choices=("auto", *DTYPES),
    )
    device: str = option("auto", "auto, cpu, cuda, mps.")
    token_budget: int | None = option(
        None, f"For answers: {TOKEN_BUDGET[0].lower()}{TOKEN_BUDGET[1:]}", least=1, shown_default="as fits the device"
    )
    revision: str | None = option(None, "Branch, tag or commit of a Hub model.")
    metric: str = option(
        "contains",
        "What makes an answer right: contains (an accepted one, as whole words), exact, f1, paper (contains it, also "
        "inside a word), or module:function of yours.",
    )
    max_new_tokens: int | None = option(
        None,
        "Tokens of an answer, at most.",
        least=1,
        shown_default="what the longest accepted answer takes, at least 10",
    )
    answers_by: str = option(
        "transformers",
        "What generates the answers: transformers, or vllm (a GPU, --method lora; not yet run on hardware).",
        choices=ANSWERS_BY,
    )
    base_shots: int = option(0, "Ask the untouched model also after so many solved training examples.", least=0)
    knowledge: bool | None = option(
        None,
        "What became of the facts that the model had: lost, kept and gained ones, generic answers, other subjects, how "
        "sure it is.",
        shown_default="where it costs less than a fifth more",
    )
    arm_shots: int = option(0, "Ask the finetuned models also after so many solved training examples.", least=0)
    lm_eval: tuple[str, ...] = option(
        (), "A task of lm-evaluation-harness, or its YAML file, for every arm. Repeatable."
    )
    along: int = option(0, "Ask so many test questions after every epoch too: accuracy along training.", least=0)
    report_to: str = option("none", "none, tensorboard, wandb or trackio.")

    def check(self) -> None:
        """SettingError for vLLM where there is no adapter of the model's own weights that it could read."""
        if self.answers_by == "vllm" and (self.config.method != "lora" or self.tune == "paper"):
            given = setting("tune", "paper") if self.tune == "paper" else setting("method", self.config.method)
            raise SettingError(
                f"{setting('answers_by', 'vllm')} answers with adapters on the model's own weights, not with {given}.",
                expected=f"{setting('method', 'lora')}, with {setting('tune', 'off')} or quick",
                try_next=setting("answers_by", "transformers"),
            )


LEARNING_RATES = (1e-5, 1e-4, 1e-3)
WEIGHT_DECAYS = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
LORA_SIZES = ((8, 16), (16, 32), (32, 64), (64, 128))
"""The paper's Table 4; sizes are (rank, alpha)."""


def grid(tune: str, config: FinetuneConfig) -> list[FinetuneConfig]:
    """The settings to try, the same for every arm (the paper's Table 4).

    `off`: the given one. `quick`: the learning rates of Table 4, all else as given. `paper`: all of Table 4, which
    is 60 settings of LoRA (or of QLoRA, if that is the method) and, unless the weights are quantised, 15 of full
    finetuning.
    """
    if tune == "off":
        return [config]
    if config.held_out == 0:
        raise SettingError(
            "Nothing is held out to tune on.",
            expected=f"{setting('held_out')} above 0",
            try_next=setting("tune", "off"),
        )
    if tune == "quick":
        return [replace(config, learning_rate=rate) for rate in LEARNING_RATES]
    rates = [replace(config, learning_rate=r, weight_decay=w) for r in LEARNING_RATES for w in WEIGHT_DECAYS]
    method = "qlora" if config.method == "qlora" else "lora"
    adapters = [replace(c, lora_rank=r, lora_alpha=a, method=method) for c in rates for r, a in LORA_SIZES]
    return adapters if method == "qlora" else [*adapters, *(replace(c, method="full") for c in rates)]
