"""Where a recipe's data lies: which file, folder or split, pinned to what it holds now."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from curate.datasets.hub import is_hub_id
from curate.datasets.remote import is_url
from curate.datasets.sources import SUFFIXES, data_suffix, file_fingerprint, find_files
from curate.errors import DataError
from curate.hub import downloaded, hub_problem
from curate.recipes.catalogue import BUNDLED, local_path
from curate.recipes.recipe import Recipe

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
