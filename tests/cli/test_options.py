"""A group of settings stands for the options of a command."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from curate.cli.console import Output, command
from curate.settings import Settings, option


@dataclass(frozen=True)
class Top(Settings):
    """What is on a cake."""

    nuts: bool = option(False, "With nuts.")
    candles: int = option(1, "How many.", least=0)


@dataclass(frozen=True)
class Cake(Settings):
    """A cake."""

    size: str | float | None = option(None, "In cm.", shown_default="as the tin is")
    heat: float = option(180, "Degrees.", above=0)
    top: Top = field(default_factory=Top)
    fruit: tuple[str, ...] = option((), "A fruit. Repeatable.")
    layers: tuple[int, ...] = option((1,), "How high; several to try.")


@pytest.fixture
def run() -> Any:
    app, made = typer.Typer(rich_markup_mode=None), []

    @command(app)
    def bake(out: Output, name: str, cake: Cake, often: int = 1) -> None:
        """Bake.

        Example: bake apple
        """
        made.append((name, cake, often))

    def run(*words: str) -> Any:
        result = CliRunner().invoke(app, [*words])
        return made.pop() if made else result

    return run


def test_a_command_is_given_the_group_with_what_was_typed(run: Any) -> None:
    assert run("apple") == ("apple", Cake(layers=(1,)), 1)
    typed = "--size 24 --heat 200 --nuts --candles 3 --fruit pear --fruit plum --layers 1,2 --often 2"
    assert run("apple", *typed.split()) == ("apple", Cake("24", 200, Top(True, 3), ("pear", "plum"), (1, 2)), 2)


def test_the_help_page_says_of_every_setting_what_it_is(run: Any) -> None:
    page = " ".join(run("--help").stdout.split())
    for part in (
        "--size <str> In cm. [default: (as the tin is)]",
        "--heat <float> Degrees. [default: 180]",
        "--nuts With nuts. --candles <int range> How many. [default: 1; x>=0]",
        "--fruit <list[str]> A fruit. Repeatable. --layers <str> How high; several to try. [default: 1]",
        "Example: bake apple",
    ):
        assert part in page
    assert "--no-nuts" not in page


def test_a_value_that_cannot_be_ends_in_a_message_that_names_the_option(run: Any) -> None:
    wrong = run("apple", "--heat", "-3")
    assert (wrong.exit_code, wrong.stderr.split("\n")[0]) == (1, "curate: --heat -3.0 is out of range.")
    wrong = run("apple", "--layers", "few")
    assert (wrong.exit_code, wrong.stderr.split("\n")[1]) == (1, "Try: --layers 1,2")
    assert run("apple", "--candles", "-1").exit_code == 2
