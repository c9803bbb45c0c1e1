"""A setting is declared once; the Python functions, the command line and recipes follow from it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

import pytest

from curate.errors import SettingError
from curate.settings import FinetuneConfig, Settings, ValidateSettings, grid, option, takes


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


CONFIG = FinetuneConfig(max_steps=2, batch_size=4, held_out=0.3)


def test_settings_by_themselves_replace_those_of_the_config_they_belong_to() -> None:
    given = {"config": FinetuneConfig(batch_size=4, max_steps=8), "max_steps": 3}
    assert ValidateSettings.of(given).config == FinetuneConfig(batch_size=4, max_steps=3)


def test_paper_is_table_4() -> None:
    settings = grid("paper", CONFIG)
    assert len(settings) == len(set(settings)) == 3 * 5 * 4 + 3 * 5
    assert {(s.lora_rank, s.lora_alpha) for s in settings if s.method == "lora"} == {
        (8, 16), (16, 32), (32, 64), (64, 128)
    }  # fmt: skip
    assert {s.method for s in grid("paper", replace(CONFIG, method="qlora"))} == {"qlora"}


def test_off_tries_nothing_and_nothing_can_be_tuned_without_a_held_out_part() -> None:
    assert grid("off", CONFIG) == [CONFIG]
    with pytest.raises(SettingError, match="Nothing is held out"):
        grid("quick", replace(CONFIG, held_out=0))
    with pytest.raises(SettingError, match="no tune='all'"):
        ValidateSettings(tune="all")


@pytest.mark.parametrize(
    "setting",
    [{"learning_rate": -1}, {"learning_rate": float("nan")}, {"epochs": 0}, {"max_steps": 0}, {"weight_decay": -1}],
)
def test_settings_out_of_range_are_refused_before_any_work(setting: dict[str, float]) -> None:
    with pytest.raises(SettingError, match="out of range"):
        FinetuneConfig(**setting)  # type: ignore[arg-type]
