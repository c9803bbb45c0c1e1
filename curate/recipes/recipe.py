"""A recipe: the settings of every step, read from YAML with line numbers."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, Field, asdict, dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from curate.data.formats import SUFFIXES, data_suffix
from curate.data.hub import downloaded, hub_problem, is_hub_id
from curate.data.sources import find_files, is_url
from curate.data.stores import file_fingerprint
from curate.errors import CurateError, DataError, RecipeError, SelectionError, SettingError, as_option
from curate.estimators.loss import ANSWERS, REDUCTIONS
from curate.estimators.registry import check_spec
from curate.selection.ranking import parse_band, parse_size
from curate.selection.rules import parse_request
from curate.settings import FinetuneConfig
from curate.wikipedia.options import PageviewSettings

if TYPE_CHECKING:
    from yaml import MappingNode, Node

BUNDLED = "bundled:"
"""What stands before the name of a file or folder that comes with curate: `bundled:world/model`."""


def names() -> list[str]:
    """The bundled recipes, the paper's experiments first in the order of its tables and figures."""
    order = ("popqa-controlled", "popqa", "entity-questions", "mmlu-history", "world")
    found = sorted(path.stem for path in _folder().glob("*.yaml"))
    return sorted(found, key=lambda name: order.index(name) if name in order else len(order))


def descriptions() -> dict[str, str]:
    """Every bundled recipe with its one line."""
    import yaml

    return {name: yaml.safe_load(recipe_text(name)[0])["description"] for name in names()}


def recipe_text(recipe: str) -> tuple[str, str]:
    """The YAML of a bundled recipe or a file, and what to call it in messages."""
    if recipe in names():
        return (_folder() / f"{recipe}.yaml").read_text(encoding="utf-8"), f"{recipe}.yaml"
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
    path = Path(str(files("curate"))) / name.removeprefix(BUNDLED)
    if not path.exists():
        raise RecipeError(f"There is no {name!r}.", expected="something that comes with curate, as bundled:world/model")
    return str(path)


def _folder() -> Path:
    return Path(str(files("curate"))) / "recipes" / "bundled"


NULLS = ("", "~", "null", "Null", "NULL")
TRUTHS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
MAPPING = "the recipe"
"""The name of a recipe that is no file but a mapping in Python."""

KINDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class Override:
    """A setting that was given beside the file: `key` is dotted, `text` is YAML, `said` is how it was given."""

    key: str
    text: str
    said: str


def override(assignment: str) -> Override:
    """From `selection.top=0.3`, as it follows --set."""
    key, sign, text = assignment.partition("=")
    if not sign or not key:
        raise RecipeError(f"--set {assignment} sets nothing.", expected="KEY=VALUE", try_next="--set selection.top=0.3")
    return Override(key.strip(), text, f"--set {assignment}")


def given(key: str, value: Any, said: str) -> Override:
    """A Python value for a key."""
    return Override(key, json.dumps(value, default=str), said)


def parse(text: str, name: str, cls: type, overrides: Sequence[Override] = ()) -> tuple[Any, dict[str, str]]:
    """The settings in a YAML text, overrides in place, and where each of them was said ("popqa.yaml line 3").

    Values are read by the type of their key, not by YAML's rules: `tune: off` is a text, `1e-4` a number, `30:70` a
    band. RecipeError with line and key for whatever is wrong.
    """
    root = compose(text, name)
    _expect_section(root, "", "a recipe")
    for setting in overrides:
        _put(root, setting)
    places: dict[str, str] = {}
    return _section(cls, root, "", places), places


def compose(text: str, name: str) -> Any:
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


def _put(root: MappingNode, setting: Override) -> None:
    """Set a value in the tree, making its section if there is none."""
    node: Any = compose(setting.text, setting.said) if setting.text.strip() else _null(setting.said)
    *sections, key = setting.key.split(".")
    at = root
    for depth, name in enumerate(sections, start=1):
        found = _child(at, name)
        if found is None or _is_null(found):
            found = _empty(_null(setting.said))
            _replace(at, name, found, setting)
        _expect_section(found, ".".join(sections[:depth]), "a section")
        at = found
    _replace(at, key, node, setting)


def _replace(at: MappingNode, name: str, node: Node, setting: Override) -> None:
    from yaml import ScalarNode

    key = ScalarNode("tag:yaml.org,2002:str", name, _null(setting.said).start_mark)
    at.value = [(k, v) for k, v in at.value if k.value != name] + [(key, node)]


def _empty(node: Any) -> Any:
    """A section without keys, standing where `node` does."""
    from yaml import MappingNode

    return MappingNode("tag:yaml.org,2002:map", [], node.start_mark)


def _child(at: MappingNode, name: str) -> Any:
    return next((value for key, value in at.value if key.value == name), None)


def _null(said: str) -> Any:
    return compose("null", said)


def _expect_section(node: Any, path: str, what: str) -> None:
    from yaml import MappingNode

    if not isinstance(node, MappingNode):
        raise RecipeError(
            f"{place(node.start_mark)}: {path or 'the file'} is not {what}.",
            expected=f"keys and values{', indented under ' + path if path else ''}",
        )


def _section(cls: type, node: Any, path: str, places: dict[str, str]) -> Any:
    _expect_section(node, path, "a section")
    known = {item.name: item for item in fields(cls)}
    hints = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        name, where = str(key_node.value), place(key_node.start_mark)
        inner = f"{path}.{name}" if path else name
        if name not in known:
            raise _unknown(where, inner, name, list(known))
        if name in values:
            raise RecipeError(f"{where}: {inner} is given twice; first on {places[inner]}.", expected="one of them")
        places[inner] = where
        values[name] = _value(hints[name], value_node, inner, places)
        _check_alone(cls, name, values[name], where, inner)
    for name, item in known.items():
        if name not in values and not _has_default(item):
            values[name] = _absent(hints[name], item, f"{path}.{name}" if path else name, node, places)
    return cls(**values)


def _absent(kind: Any, item: Field[Any], path: str, node: Any, places: dict[str, str]) -> Any:
    """A section that is left out has its defaults, if all its keys have; else something is missing."""
    if is_dataclass(kind):
        return _section(kind, _empty(node), path, places)  # type: ignore[arg-type]
    where = place(node.start_mark) if node.value else node.start_mark.name
    raise RecipeError(f"{where}: {path} is missing.", item.metadata["about"], item.metadata["flag"])


def _has_default(item: Field[Any]) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


def _check_alone(cls: type, name: str, value: Any, where: str, path: str) -> None:
    """What the class itself refuses of this one key, said with its line."""
    required = {item.name: _stand_in(item) for item in fields(cls) if not _has_default(item)}
    try:
        cls(**(required | {name: value}))
    except RecipeError:
        raise
    except CurateError as error:
        found = error.found.replace(f"--{name.replace('_', '-')} ", f"{name} ")
        raise RecipeError(f"{where}: {path}: {found}", error.expected, error.try_next) from error


def _stand_in(item: Field[Any]) -> Any:
    return () if "tuple" in str(item.type) else ""


def _unknown(where: str, path: str, name: str, known: Sequence[str]) -> RecipeError:
    close = get_close_matches(name, known, n=1, cutoff=0.6)
    section = path.rpartition(".")[0]
    return RecipeError(
        f"{where}: {path} is not a setting.",
        expected=", ".join(known),
        try_next=f"{section + '.' if section else ''}{close[0]}" if close else None,
    )


def _value(kind: Any, node: Any, path: str, places: dict[str, str]) -> Any:
    """The value of a node as the type of its key."""
    if is_dataclass(kind):
        return _section(kind, _empty(node) if _is_null(node) else node, path, places)  # type: ignore[arg-type]
    kinds = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
    if _is_null(node) and (type(None) in kinds or get_origin(kind) in (tuple, Mapping)):
        return None if type(None) in kinds else () if get_origin(kind) is tuple else {}
    if get_origin(kind) is Mapping:
        _expect_section(node, path, "a column and its values")
        return {str(k.value): _texts(v, f"{path}.{k.value}") for k, v in node.value}
    if any(get_origin(k) is tuple for k in kinds):
        return _texts(node, path)
    return _scalar([k for k in kinds if k is not type(None)], node, path)


def _texts(node: Any, path: str) -> tuple[str, ...]:
    """A list of texts, or one text by itself."""
    from yaml import ScalarNode, SequenceNode

    items = node.value if isinstance(node, SequenceNode) else [node]
    if not all(isinstance(item, ScalarNode) and not _is_null(item) for item in items):
        raise RecipeError(f"{place(node.start_mark)}: {path} is no list of texts.", expected="[one, two], or one text")
    return tuple(str(item.value) for item in items)


def _scalar(kinds: Sequence[Any], node: Any, path: str) -> Any:
    from yaml import ScalarNode

    said = " or ".join(KINDS[kind] for kind in kinds)
    if not isinstance(node, ScalarNode):
        raise RecipeError(f"{place(node.start_mark)}: {path} holds a list or a section.", expected=said)
    text, plain = str(node.value), node.style is None
    if _is_null(node):
        raise RecipeError(f"{place(node.start_mark)}: {path} has no value.", expected=said)
    if plain and (int in kinds or float in kinds):
        with suppress(ValueError):
            return int(text)
        with suppress(ValueError):
            if float in kinds:
                return float(text)
    if bool in kinds and plain and text.lower() in TRUTHS:
        return TRUTHS[text.lower()]
    if str in kinds:
        return text
    raise RecipeError(f"{place(node.start_mark)}: {path} is {text!r}.", expected=said)


def _is_null(node: Any) -> bool:
    from yaml import ScalarNode

    return isinstance(node, ScalarNode) and node.style is None and node.value in NULLS


def _key(about: str, default: Any = MISSING, flag: str | None = None) -> Any:
    """A key that is no option of a command, and what it means; one without a default has to be given (or `flag`)."""
    return field(default=default, metadata={"about": about, "flag": flag})


@dataclass(frozen=True)
class ModelSettings:
    """The pretrained model that is finetuned, and that scores by loss."""

    name: str = _key("Folder or Hub id of the pretrained base model.", flag="--model MODEL")
    revision: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class DatasetSettings:
    """What is scored and selected from, and what every arm is tested on."""

    train: str = _key("What is scored and selected from: anything that curate score reads.", flag="--data DATASET")
    train_split: str | None = _key("Which part of it: a split on the Hub, or files or a folder of that name.", None)
    test: str | None = _key("The test set; without it one is taken from the selection, or a split of train.", None)
    test_split: str | None = _key("Which part of test, or of train if there is no test.", None)
    where: Mapping[str, tuple[str, ...]] = field(
        default_factory=dict,
        metadata={"about": "Only rows with these values, of a column or a role: {relation: [country, sport]}."},
    )
    preset: str | None = None
    question_column: str | None = None
    answer_column: str | None = None
    subject_column: str | None = None
    relation_column: str | None = None
    choices_column: str | None = None
    id_column: str | None = None
    template: str | None = _key("The prompt of loss, finetuning and test. mmlu if there are choices, else qa.", None)

    def columns(self) -> dict[str, Any]:
        """The arguments of `curate.read` that say what the columns are."""
        return {name: value for name, value in vars(self).items() if name == "preset" or name.endswith("_column")}


@dataclass(frozen=True)
class EstimatorSettings:
    """What makes the scores."""

    by: tuple[str, ...] = _key("The estimators: column:NAME, loss, pageviews.", flag="--by column:NAME")
    reduction: str = "token-mean"
    answers: str = "first"
    shots: int = 0
    shots_from: str | None = None
    shots_split: str | None = _key("Which part of shots_from, or of train without it, the solved examples are.", None)
    dtype: str = "float32"
    processes: int | None = None
    pageviews: PageviewSettings = field(default_factory=PageviewSettings)

    def __post_init__(self) -> None:
        for spec in self.by:
            check_spec(spec)
        _one_of("reduction", self.reduction, REDUCTIONS)
        _one_of("answers", self.answers, tuple(ANSWERS))


@dataclass(frozen=True)
class SelectionSettings:
    """Which splits are cut; each but the evaluation sets is an arm."""

    by: tuple[str, ...] = ()
    top: str | float | None = None
    bottom: str | float | None = None
    random: str | float | None = None
    whole: bool = False
    band: str | None = None
    stratify_by: str | None = None
    controlled_by: str | None = None
    holdout: str | float | None = None
    holdout_by: str = "subject"
    min_score: float | None = None
    max_score: float | None = None
    missing: str = "exclude"
    order: str = "source"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("top", "bottom", "random", "holdout"):
            if getattr(self, name) is not None:
                parse_size(getattr(self, name), name)
        if self.band is not None:
            parse_band(self.band)

    def options(self) -> dict[str, Any]:
        """The arguments of `curate.select`."""
        return vars(self) | {"by": list(self.by) or None}


@dataclass(frozen=True)
class ValidationSettings:
    """How the arms are tuned, tested and compared."""

    seeds: int = 3
    tune: str = "off"
    by: str | None = None
    dtype: str = "auto"
    base_shots: int = 0
    lm_eval: tuple[str, ...] = ()
    along: int = 0
    report_to: str = "none"

    def __post_init__(self) -> None:
        _one_of("tune", self.tune, ("off", "quick", "paper"))
        if self.seeds < 1:
            raise SettingError(f"seeds is {self.seeds}.", expected="at least 1")


@dataclass(frozen=True)
class Recipe:
    """One experiment: from a dataset to a verdict."""

    dataset: DatasetSettings
    estimators: EstimatorSettings
    model: ModelSettings
    selection: SelectionSettings = field(default_factory=SelectionSettings)
    finetuning: FinetuneConfig = field(default_factory=FinetuneConfig)
    validation: ValidationSettings = field(default_factory=ValidationSettings)
    description: str | None = _key("What the experiment is, in one line.", None)
    limit: int | None = _key(
        "Try out: a sample of so many examples of each arm and of the test set; ten times as many are scored.", None
    )
    curate: str | None = _key("The version that filled in the defaults; curate run writes it.", None)

    def as_dict(self) -> dict[str, Any]:
        """All settings, in the order in which a reader meets them."""
        content = asdict(self)
        first = ("description", "curate", "model", "limit", "dataset")
        return {name: content[name] for name in (*first, *(k for k in content if k not in first))}

    @property
    def has_test_set(self) -> bool:
        """Whether the test set is data of its own and no part of the selection."""
        return self.dataset.test is not None or self.dataset.test_split is not None

    @property
    def test_split(self) -> str:
        """The split of the selection that is the test set."""
        return "holdout" if self.selection.holdout is not None else "test"


def check(recipe: Recipe, said: Callable[[str], str]) -> None:
    """RecipeError for what cannot be meant although each of its keys could; `said` tells where a section stands."""
    estimators, selection = recipe.estimators, recipe.selection
    names = score_names(recipe)
    if not names:
        raise RecipeError(f"{said('estimators.by')}: estimators.by names no estimator.", "column:NAME, loss, pageviews")
    for name in selection.by:
        if name not in names:
            raise RecipeError(f"{said('selection.by')}: there will be no score {name!r}.", ", ".join(names))
    if len(names) > 1 and not selection.by:
        raise RecipeError(
            f"{said('selection')}: selection.by is missing, and there are several scores.",
            expected=f"one of {', '.join(names)}",
        )
    if recipe.limit is not None and recipe.limit < 2:
        raise RecipeError(f"{said('limit')}: limit is {recipe.limit}.", "at least 2: a part of every arm is held out")
    solved = estimators.shots_from or estimators.shots_split
    if (estimators.shots > 0) != bool(solved):
        raise RecipeError(
            f"{said('estimators')}: estimators.shots is {estimators.shots}, and they come from {solved or 'nowhere'}.",
            expected="shots with shots_split (a part of the dataset) or shots_from (another one), or none of them",
        )
    _check_test_set(recipe, said)
    try:
        parse_request(**selection.options())
    except SelectionError as error:
        raise RecipeError(f"{said('selection')}: {error.found}", error.expected, error.try_next) from error


def _check_test_set(recipe: Recipe, said: Callable[[str], str]) -> None:
    made = [name for name in ("holdout", "controlled_by") if getattr(recipe.selection, name) is not None]
    if not made and not recipe.has_test_set:
        raise RecipeError(
            f"{said('dataset')}: there is nothing to test on.",
            expected="dataset.test or dataset.test_split, or selection.holdout, or selection.controlled_by",
        )
    if len(made) == 2 and not recipe.has_test_set:
        raise RecipeError(
            f"{said('selection')}: selection makes two test sets.", expected="holdout or controlled_by, not both"
        )


def score_names(recipe: Recipe) -> list[str]:
    """What the scores will be called: `s_pop` for `column:s_pop`."""
    return [spec.partition(":")[2] or spec for spec in recipe.estimators.by]


def with_names(recipe: Recipe) -> Recipe:
    """The recipe with what it ranks by and tests by said in full, where it was left to be the only score."""
    by = recipe.selection.by or tuple(score_names(recipe))
    return replace(
        recipe,
        selection=replace(recipe.selection, by=by),
        validation=replace(recipe.validation, by=recipe.validation.by or by[0]),
    )


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise SettingError(f"{name} is {value!r}.", expected=f"one of {', '.join(known)}")


E = TypeVar("E", bound=CurateError)


def in_recipe_words(error: E) -> E:
    """The same error with the options it names as keys of a recipe."""
    found, expected, typed = error.spelled(as_option)
    try_next = _said(typed)
    if try_next != typed:
        try_next = f"{try_next} (in the recipe, or by --set KEY=VALUE)"
    return type(error)(_said(found) or "", _said(expected), try_next)


def _said(text: str | None) -> str | None:
    return text and re.sub(r"--[a-z][a-z-]+", lambda match: keys().get(match[0], match[0]), text)


@cache
def keys() -> dict[str, str]:
    """An option to the key that is called like it, where only one is; options of `curate run` stay what they are."""
    named = list(_keys(Recipe, ""))
    times = Counter(option for option, _ in named)
    return {option: key for option, key in named if times[option] == 1 and option not in ("--limit", "--seeds")}


def _keys(section: Any, path: str) -> Iterator[tuple[str, str]]:
    hints = get_type_hints(section)
    for item in fields(section):
        if is_dataclass(hints[item.name]):
            yield from _keys(hints[item.name], f"{path}{item.name}.")
        else:
            yield f"--{item.name.replace('_', '-')}", f"{path}{item.name}"


ALIASES = {"validation": ("val", "valid", "dev"), "val": ("validation",), "dev": ("validation", "val")}
"""Other names that a part of a dataset goes by, where there is none of the name that was asked for."""


@dataclass(frozen=True)
class Origin:
    """What `curate.read` is given: a name and, on the Hub, a split."""

    name: str
    split: str | None = None

    def fingerprint(self) -> dict[str, Any]:
        """What changes whenever the data does; for a Hub id without a revision only its name."""
        paths = [] if is_url(self.name) else find_files(self.name)
        return {"sha256": file_fingerprint(paths)} if paths else {"name": self.name, "split": self.split}


def origins(recipe: Recipe) -> dict[str, Origin]:
    """Where each kind of data comes from: `train`, and `test` and `shots` where they are data of their own."""
    dataset, estimators = recipe.dataset, recipe.estimators
    found = {"train": locate(dataset.train, dataset.train_split)}
    if recipe.has_test_set:
        found["test"] = locate(dataset.test or dataset.train, dataset.test_split)
    if estimators.shots:
        found["shots"] = locate(estimators.shots_from or dataset.train, estimators.shots_split)
    return found


def locate(name: str, split: str | None) -> Origin:
    """The path or Hub id to read; a split of a local folder is the files, or the folder, of that name in it."""
    path = Path(local_path(name)).expanduser()
    if not path.exists() or split is None:
        return Origin(local_path(name), split)
    if path.is_file():
        raise DataError(
            f"{name} is one file, and the recipe takes its part {split!r}.",
            expected=f"a folder with {split}/ or {split}{SUFFIXES[0]}, or a dataset on the Hub with such a split",
            try_next="--set dataset.train_split=null, to read the whole file",
        )
    for alias in (split, *ALIASES.get(split, ())):
        if (path / alias).is_dir():
            return Origin(str(path / alias))
        inside = [p for p in sorted(path.iterdir()) if data_suffix(p) in SUFFIXES]
        inside = [p for p in inside if p.name.split(".")[0] == alias and not p.name.endswith(".manifest.json")]
        if inside:
            return Origin(str(inside[0]))
    raise DataError(
        f"The folder {name} has no part {split!r}.",
        expected=f"{split}/ or {split}{SUFFIXES[0]} in it",
        try_next=f"ls {name}, then --set dataset.train_split=NAME",
    )


def pinned(recipe: Recipe) -> Recipe:
    """The recipe with local paths made absolute and Hub names at the revision they have now.

    A name on the Hub stays as it is where the Hub cannot be asked and no copy is on this machine.
    """
    dataset, estimators, model = recipe.dataset, recipe.estimators, recipe.model
    name, revision = _absolute(model.name), model.revision
    if not is_local(name) and is_hub_id(name):
        revision = _revision(name, "model", revision) or revision
    views = _absolute(estimators.pageviews.views_from)
    return replace(
        recipe,
        model=replace(model, name=name, revision=revision),
        dataset=replace(dataset, train=_pin(dataset.train), test=_pin(dataset.test)),
        estimators=replace(
            estimators,
            shots_from=_pin(estimators.shots_from),
            pageviews=replace(estimators.pageviews, views_from=views),
        ),
    )


def _absolute(name: str) -> str:
    return str(Path(name).expanduser().absolute()) if is_local(name) and not name.startswith(BUNDLED) else name


def is_local(name: str) -> bool:
    """Whether a name is that of something on this machine: bundled, a file, a folder, or a glob that finds some."""
    if name.startswith(BUNDLED):
        return True
    return not is_url(name) and (Path(name).expanduser().exists() or bool(find_files(name)))


def _pin(name: Any) -> Any:
    """A dataset by its absolute path, or with @ and the commit."""
    if name is None or is_local(name) or not is_hub_id(name):
        return name and _absolute(name)
    plain, _, asked = name.partition("@")
    revision = _revision(plain.partition(":")[0], "dataset", asked or None)
    return f"{plain}@{revision}" if revision else name


def _revision(name: str, kind: str, asked: str | None = None) -> str | None:
    """The commit that a branch (or `asked`) of a repository on the Hub stands for, by asking it, else by the copy here.

    None where neither knows: offline, or for a name that is none. Whoever loads it says so better.
    """
    from huggingface_hub import HfApi

    if hub_problem() is None:
        with suppress(Exception):  # the Hub's client raises many kinds
            return str(HfApi().repo_info(name, repo_type=kind, revision=asked).sha)
    copy = downloaded(name, kind, asked)
    return copy.name if copy else None
