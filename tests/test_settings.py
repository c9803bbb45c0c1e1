"""A setting is declared once; the Python functions, the command line and recipes follow from it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import pytest

from curate.settings import Settings, option, takes


@dataclass(frozen=True)
class Oven(Settings):
    """How hot, and how long."""

    heat: int = option(180, "Degrees.", least=50)
    minutes: float | None = option(None, "How long; until it is done, if not said.")


@takes(Oven)
def bake(cake: str, *, minutes: float = 5, **options: Any) -> Oven:
    """Bake a cake."""
    return Oven.of(options, minutes=minutes)


def test_a_function_that_takes_settings_names_them_in_its_signature() -> None:
    assert str(inspect.signature(bake)) == "(cake: 'str', *, minutes: 'float' = 5, heat: 'int' = 180) -> 'Oven'"
    assert bake("apple", heat=200) == Oven(200, 5)
    assert (bake.__name__, bake.__doc__) == ("bake", "Bake a cake.")


def test_a_keyword_that_is_no_setting_is_refused_as_python_does() -> None:
    with pytest.raises(TypeError, match=r"^bake\(\) got an unexpected keyword argument 'heet'$"):
        bake("apple", heet=200)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'cake'"):
        bake(heat=200)
