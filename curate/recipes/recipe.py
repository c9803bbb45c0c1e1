"""A recipe: every setting of an experiment by its dotted key, read from YAML with line numbers."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_origin

from curate.errors import CurateError, RecipeError, as_option, setting, settings_in
from curate.estimators import ESTIMATORS, find_estimator
from curate.estimators.base import ModelSettings
from curate.estimators.loss import LossSettings
from curate.selection.rules import Rules
from curate.settings import (
    FinetuneConfig,
    ReadSettings,
    SelectSettings,
    Setting,
    Settings,
    ValidateSettings,
    option,
    settings_of,
)

if TYPE_CHECKING:
    from yaml import Node

BUNDLED = "bundled:"
"""What stands before the name of a file or folder that comes with curate: `bundled:world/model`."""

FOLDER = Path(__file__).with_name("bundled")


def names() -> list[str]:
    """The bundled recipes, the paper's experiments first in the order of its tables and figures."""
    order = ("popqa-controlled", "popqa", "entity-questions", "mmlu-history", "world")
    found = sorted(path.stem for path in FOLDER.glob("*.yaml"))
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def descriptions() -> dict[str, str]:
    """Every bundled recipe with its one line."""
    import yaml

    return {name: yaml.safe_load(recipe_text(name)[0])["description"] for name in names()}


def recipe_text(recipe: str) -> tuple[str, str]:
    """The YAML of a bundled recipe or a file, and what to call it in messages."""
    if recipe in names():
        return (FOLDER / f"{recipe}.yaml").read_text(encoding="utf-8"), f"{recipe}.yaml"
    path = Path(recipe).expanduser()
    if not path.is_file():
        close = get_close_matches(recipe, names(), n=1)
        raise RecipeError(
            f"There is no recipe {recipe!r}.",
            expected=f"a YAML file, or one of {', '.join(names())}",
            try_next=f"curate run {close[0]}" if close else "curate run --list",
        )
    try:
        return path.read_text(encoding="utf-8"), path.name
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{recipe} cannot be read: {error}", expected="a YAML file in UTF-8") from error


def local_path(name: str) -> str:
    """A bundled file or folder as a path; any other name as it is."""
    if not name.startswith(BUNDLED):
        return name
    path = Path(__file__).parents[1] / name.removeprefix(BUNDLED)
    if not path.exists():
        raise RecipeError(f"There is no {name!r}.", expected="something that comes with curate, as bundled:world/model")
    return str(path)


def _own(help: str, kind: Any = str, default: Any = None) -> Setting:
    """A key that is no option of a command."""
    return Setting("", (kind,), "", default, {"help": help})


def _of(section: str, group: type[Settings], *names: str, without: Collection[str] = ()) -> dict[str, Setting]:
    """The keys of a section that are settings of a group: those named, or all but those that are said elsewhere."""
    found = {item.name: item for item in settings_of(group) if item.name not in without}
    return {f"{section}.{name}": found[name] for name in names or found}


SECTION_OF = {"sitelinks": "pageviews"}
"""An estimator whose settings are all among those of another one has them in its section."""

OTHERS = {
    f"estimators.{name}": found.Settings
    for name, found in ESTIMATORS.items()
    if name != "loss" and name not in SECTION_OF
}
"""Every other estimator but loss has a section of its own, without what it shares with loss."""

USAGE = ", ".join(found.usage for found in ESTIMATORS.values())

_SHARED = LossSettings.names()
_COLUMNS = [name for name in ReadSettings.names() if name.endswith("_column")]

KEYS: dict[str, Setting] = {
    "description": _own("What the experiment is, in one line."),
    "curate": _own("The version that filled in the defaults; curate run writes it."),
    "model.name": _own("Folder, .gguf file or Hub id of the pretrained base model."),
    **_of("model", ValidateSettings, "revision", "device", "token_budget"),
    "limit": _own(
        "Try out: a sample of so many examples of each arm and of the test set; ten times as many are scored.", int
    ),
    "dataset.train": _own("What is scored and selected from: anything that curate score reads."),
    "dataset.train_split": _own("Which part of it: a split on the Hub, or files or a folder of that name."),
    "dataset.test": _own("The test set; without it one is taken from the selection, or a split of train."),
    "dataset.test_split": _own("Which part of test, or of train if there is no test."),
    "dataset.where": _own(
        "Only rows with these values, of a column or a role: {relation: [country, sport]}.", Mapping, {}
    ),
    **_of("dataset", ReadSettings, "preset", *_COLUMNS),
    "dataset.template": _own(
        "The prompt of loss, finetuning and test; chat is the model's own. mmlu if there are choices, else qa."
    ),
    "dataset.system": _own("For the template chat: what the system says."),
    "estimators.by": _own(f"The estimators: {USAGE}.", tuple[str, ...], ()),
    **_of("estimators", LossSettings, without=ModelSettings.names()),
    "estimators.shots_split": _own("Which part of shots_from, or of train without it, the solved examples are."),
    **_of("estimators", ModelSettings, "dtype", "processes"),
    **{key: item for section, group in OTHERS.items() for key, item in _of(section, group, without=_SHARED).items()},
    **_of("selection", SelectSettings, "by", "top", "bottom", "random", "whole", "band"),
    **_of("selection", SelectSettings, "known", "mix", "size", "sizes", "stratify_by", "min_known", "dedup"),
    **_of("selection", SelectSettings, "controlled_by", "holdout", "holdout_by", "min_score", "max_score"),
    **_of("selection", SelectSettings, "missing", "order", "seed"),
    **_of("finetuning", FinetuneConfig),
    **_of(
        "validation",
        ValidateSettings,
        "seeds",
        "arm",
        "tune",
        "by",
        "dtype",
        "metric",
        "max_new_tokens",
        "answers_by",
        "base_shots",
        "knowledge",
        "arm_shots",
        "lm_eval",
        "along",
        "report_to",
    ),
}
"""Every key of a recipe, in the order in which a reader meets them: settings of the commands, and a few of its own."""

REQUIRED = {
    "model.name": setting("model", "MODEL"),
    "dataset.train": setting("data", "DATASET"),
    "estimators.by": setting("by", "column:NAME"),
}
"""The keys without a default, and the option of `curate run` that says them."""

GROUPS: dict[str, type[Settings]] = {
    "estimators": LossSettings,
    **OTHERS,
    "selection": SelectSettings,
    "finetuning": FinetuneConfig,
    "validation": ValidateSettings,
}
"""The group that checks what a section says."""

SECTIONS = {key.rpartition(".")[0] for key in KEYS}


@dataclass(frozen=True)
class Recipe:
    """One experiment, from a dataset to a verdict: `recipe["selection.top"]` is one of its settings."""

    values: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def changed(self, values: Mapping[str, Any]) -> Recipe:
        """The recipe with other values for these keys."""
        return Recipe({**self.values, **values})

    def section(self, name: str) -> dict[str, Any]:
        """The settings of a section by their names, without those of the sections within it."""
        return {key.rpartition(".")[2]: value for key, value in self.values.items() if key.rpartition(".")[0] == name}

    def given(self, name: str) -> dict[str, Any]:
        """Those of a section that are not at their defaults."""
        return {n: value for n, value in self.section(name).items() if value != KEYS[f"{name}.{n}"].default}

    def as_dict(self) -> dict[str, Any]:
        """All settings, a mapping for each section."""
        content: dict[str, Any] = {}
        for key, value in self.values.items():
            at = content
            *sections, name = key.split(".")
            for section in sections:
                at = at.setdefault(section, {})
            at[name] = value
        return content

    @property
    def finetuning(self) -> FinetuneConfig:
        """How every arm is finetuned."""
        return FinetuneConfig.of(self.section("finetuning"))

    @property
    def score_names(self) -> list[str]:
        """What the scores will be called: `s_pop` for `column:s_pop`."""
        return [spec.partition(":")[2] or spec for spec in self["estimators.by"]]

    @property
    def has_shots(self) -> bool:
        """Whether the solved examples are data of their own and not drawn from what is scored."""
        return bool(self["estimators.shots_from"] or self["estimators.shots_split"])

    @property
    def has_test_set(self) -> bool:
        """Whether the test set is data of its own and no part of the selection."""
        return self["dataset.test"] is not None or self["dataset.test_split"] is not None


# reading

NULLS = ("", "~", "null", "Null", "NULL")
TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
MAPPING = "the recipe"
"""The name of a recipe that is no file but a mapping in Python."""

KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class RunSettings(Settings):
    """What is given beside a recipe, in place of what it says."""

    panel = "In place of the recipe"

    model: str | Path | None = option(None, "Instead of model.name: folder or Hub id.")
    data: str | Path | None = option(None, "Instead of dataset.train: a file, folder or Hub id.")
    by: str | None = option(None, "Score and select by this estimator instead.")
    limit: int | None = option(None, "Try out: a sample of so many examples of each arm and of the test set.")
    seeds: int | None = option(None, "Finetunings per arm.")
    settings: Sequence[str] | Mapping[str, Any] = option((), on_command_line=False)

    def overrides(self) -> Iterator[tuple[str, str, str]]:
        """Each a dotted key, its value as YAML, and how it was said; the particular after the general."""
        keys = {"model": "model.name", "data": "dataset.train", "limit": "limit", "seeds": "validation.seeds"}
        given = [(keys[name], value, f"--{name}") for name, value in self.given().items() if name in keys]
        if self.by is not None:
            given += [("estimators.by", [self.by], "--by"), ("selection.by", None, "--by")]
        if isinstance(self.settings, Mapping):
            given += [(key, value, f"--set {key}") for key, value in self.settings.items()]
        yield from ((key, json.dumps(value, default=str), said) for key, value, said in given)
        for text in () if isinstance(self.settings, Mapping) else self.settings:
            key, sign, value = text.partition("=")
            if not sign or not key:
                raise RecipeError(f"--set {text} sets nothing.", "KEY=VALUE", "--set selection.top=0.3")
            yield key.strip(), value, f"--set {text}"


class Reader:
    """The values that a YAML text gives to keys, and the place where each key and section was said.

    Values are read by the type of their key, not by YAML's rules: `tune: off` is a text, `1e-4` a number, `30:70` a
    band. RecipeError with line and key for whatever is wrong.
    """

    def __init__(self, text: str, name: str) -> None:
        self.name = name
        self.values: dict[str, Any] = {}
        self.places: dict[str, str] = {}
        self._take("", compose(text, name), name)

    def put(self, key: str, text: str, said: str) -> None:
        """A value in place of what the text says."""
        for at, sign in enumerate(key):
            if sign == ".":
                self._check_known(key[:at], said, section=True)
        self._take(key, compose(text.strip() or "null", said), said)

    def recipe(self) -> Recipe:
        """All values, those that were not given at their defaults; RecipeError if one has to be given."""
        for key, given in REQUIRED.items():
            if key not in self.values:
                section = f"{key.partition('.')[0]}."
                where = next((place for said, place in self.places.items() if said.startswith(section)), self.name)
                raise RecipeError(f"{where}: {key} is missing.", KEYS[key].help, given)
        return Recipe({key: self.values.get(key, item.default) for key, item in KEYS.items()})

    def place(self, key: str) -> str:
        """Where a key was said, or else its section."""
        return self.places.get(key) or self.places.get(key.partition(".")[0]) or self.name

    def _take(self, path: str, node: Node, where: str) -> None:
        self._check_known(path, where)
        self.places[path] = where
        if path in KEYS:
            self.values[path] = _value(KEYS[path], node, path)
            return
        pairs = _pairs(node, path)
        self.values = {key: value for key, value in self.values.items() if not key.startswith(f"{path}.")}
        seen: dict[str, str] = {}
        for key_node, inner in pairs:
            key, said = f"{path}.{key_node.value}".lstrip("."), place(key_node.start_mark)
            if key in seen:
                raise RecipeError(f"{said}: {key} is given twice; first on {seen[key]}.", expected="one of them")
            seen[key] = said
            self._take(key, inner, said)

    def _check_known(self, path: str, where: str, section: bool = False) -> None:
        if path in SECTIONS or (path in KEYS and not section):
            return
        if path in KEYS:
            raise RecipeError(f"{where}: {path} is not a section.", expected=f"a value: {KEYS[path].help}")
        parent, _, name = path.rpartition(".")
        inside = f"{parent}." if parent else ""
        known = dict.fromkeys(key.removeprefix(inside).split(".")[0] for key in KEYS if key.startswith(inside))
        close = get_close_matches(name, known, n=1, cutoff=0.6)
        raise RecipeError(
            f"{where}: {path} is not a setting.",
            expected=", ".join(known),
            try_next=inside + close[0] if close else None,
        )


def compose(text: str, name: str) -> Node:
    """The tree of a YAML text, each node with the line it stands on; RecipeError if the text is no YAML."""
    import yaml

    try:
        loader = yaml.SafeLoader(text)
        loader.name = name
        root = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = text.splitlines()[mark.line] if mark and mark.line < len(text.splitlines()) else ""
        tab = "\t" in line[: mark.column + 1] if mark else False
        problem = "a tab indents this line" if tab else error.problem or error.context
        where = place(mark) if mark else name
        raise RecipeError(
            f"{where}: this is not YAML: {problem}.", expected="key: value, indented by spaces"
        ) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise RecipeError(f"{name}: this is not YAML: {str(error).splitlines()[0]}.", expected="plain text") from error
    if root is None:
        raise RecipeError(f"{name} is empty.", expected="a recipe", try_next="curate run popqa --show > my.yaml")
    return root


def place(mark: Any) -> str:
    """`popqa.yaml line 3`, or what said it where that has no lines."""
    without_lines = mark.name.startswith("--") or mark.name == MAPPING
    return str(mark.name) if without_lines else f"{mark.name} line {mark.line + 1}"


def _pairs(node: Any, path: str) -> list[tuple[Any, Any]]:
    """The keys and values of a mapping, none of an empty section."""
    if node.id == "mapping":
        return list(node.value)
    if path and _is_null(node):
        return []
    raise RecipeError(
        f"{place(node.start_mark)}: {path or 'the file'} is not {'a section' if path else 'a recipe'}.",
        expected=f"keys and values{', indented under ' + path if path else ''}",
    )


def _value(item: Setting, node: Any, path: str) -> Any:
    """The value of a node as the type of its key."""
    where = place(node.start_mark)
    if _is_null(node) and item.default in (None, (), {}):
        return item.default
    mapping = Mapping in (get_origin(kind) or kind for kind in item.kinds)
    if mapping and (node.id == "mapping" or str not in item.kinds):
        found = {str(key.value): _texts(inner, f"{path}.{key.value}") for key, inner in _pairs(node, path)}
        return ",".join(f"{name}={','.join(texts)}" for name, texts in found.items()) if str in item.kinds else found
    if item.item_kind is str:
        return _texts(node, path)
    if item.item_kind in (int, float):
        numbers = ",".join(_texts(node, path)).split(",")
        try:
            return tuple(map(item.item_kind, numbers))
        except ValueError:
            raise RecipeError(f"{where}: {path} is {','.join(numbers)!r}.", "numbers: [60, 240]") from None
    kinds = [kind for kind in KINDS if kind in item.kinds] or [str]
    expected = " or ".join(KINDS[kind] for kind in kinds)
    if node.id != "scalar":
        raise RecipeError(f"{where}: {path} holds a list or a section.", expected)
    if _is_null(node):
        raise RecipeError(f"{where}: {path} has no value.", expected)
    text, plain = str(node.value), node.style is None
    for kind in (int, float):
        if plain and (kind in kinds or (kind is int and float in kinds)):
            with suppress(ValueError):
                return kind(text)
    if bool in kinds and plain and text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    if str in kinds:
        return text
    raise RecipeError(f"{where}: {path} is {text!r}.", expected)


def _texts(node: Any, path: str) -> tuple[str, ...]:
    """A list of texts, or one text by itself."""
    items = node.value if node.id == "sequence" else [node]
    if not all(item.id == "scalar" and not _is_null(item) for item in items):
        raise RecipeError(f"{place(node.start_mark)}: {path} is no list of texts.", expected="[one, two], or one text")
    return tuple(str(item.value) for item in items)


def _is_null(node: Any) -> bool:
    return node.id == "scalar" and node.style is None and node.value in NULLS


# what cannot be meant


def check(recipe: Recipe, place: Callable[[str], str]) -> None:
    """RecipeError for what cannot be meant although each value has its type; `place` tells where a key was said."""
    _check_scores(recipe, place)
    _check_test_set(recipe, place)
    if recipe["limit"] is not None and recipe["limit"] < 2:
        raise RecipeError(
            f"{place('limit')}: limit is {recipe['limit']}.", "at least 2: a part of every arm is held out"
        )
    for section, group in GROUPS.items():
        with said_in(section, place):
            group.of(recipe.section(section))
    with said_in("selection", place):
        Rules.of(SelectSettings.of(recipe.section("selection")))


def _check_scores(recipe: Recipe, place: Callable[[str], str]) -> None:
    names, by = recipe.score_names, recipe["selection.by"] or ()
    if not names:
        raise RecipeError(f"{place('estimators.by')}: estimators.by names no estimator.", USAGE)
    with said_in("estimators.by", place):
        for spec in recipe["estimators.by"]:
            find_estimator(spec)
    for name in by:
        if name not in names:
            raise RecipeError(f"{place('selection.by')}: there will be no score {name!r}.", ", ".join(names))
    if len(names) > 1 and not by:
        raise RecipeError(
            f"{place('selection')}: selection.by is missing, and there are several scores.",
            expected=f"one of {', '.join(names)}",
        )
    if recipe["estimators.shots"] == 0 and recipe.has_shots:
        raise RecipeError(
            f"{place('estimators')}: estimators.shots is 0, and it says where they come from.",
            expected="how many solved examples, or nowhere to take them from",
        )


def _check_test_set(recipe: Recipe, place: Callable[[str], str]) -> None:
    made = [name for name in ("holdout", "controlled_by") if recipe[f"selection.{name}"] is not None]
    if not made and not recipe.has_test_set:
        raise RecipeError(
            f"{place('dataset')}: there is nothing to test on.",
            expected="dataset.test or dataset.test_split, or selection.holdout, or selection.controlled_by",
        )
    if len(made) == 2 and not recipe.has_test_set:
        raise RecipeError(
            f"{place('selection')}: selection makes two test sets.", expected="holdout or controlled_by, not both"
        )


@contextmanager
def said_in(section: str, place: Callable[[str], str]) -> Iterator[None]:
    """What is refused of a section is a RecipeError with the key, and the line that said it."""
    try:
        yield
    except CurateError as error:
        key = next((key for name in settings_in(error) if (key := f"{section}.{name}") in KEYS), section)
        found = error.spelled(lambda name, value: f"{name} {value}".rstrip())[0]
        words = in_recipe_words(error)
        raise RecipeError(f"{place(key)}: {key}: {found}", words.expected, words.try_next) from error


E = TypeVar("E", bound=CurateError)


def in_recipe_words(error: E) -> E:
    """The same error with the settings it names as keys of a recipe."""
    found, expected, try_next = error.spelled(as_key)
    if try_next != error.spelled(as_option)[2]:
        try_next = f"{try_next} (in the recipe, or by --set KEY=VALUE)"
    return type(error)(found, expected, try_next)


def as_key(name: str, value: str) -> str:
    """A setting as the key that is called like it, where only one is; what `curate run` has as an option stays one."""
    found = [key for key in KEYS if key.rpartition(".")[2] == name]
    return (
        f"{found[0]} {value}".rstrip() if len(found) == 1 and name not in ("limit", "seeds") else as_option(name, value)
    )
