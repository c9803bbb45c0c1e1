"""Results as a prompt and a notebook show them."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import curate
from curate.display import LINES, Outline, Shown, bar_in_python
from tests.validation.made import COLOURED, SHORT

pytestmark = pytest.mark.usefixtures("blank_figures")

BAD = "<script>alert(1)</script>\x1b[2J"


class Long(Shown):
    """A result with more rows than there is room for."""

    def outline(self) -> Outline:
        return Outline(BAD, ["arm", "accuracy %"], [[BAD, n] for n in range(50)], ["a note"])


def test_a_result_takes_ten_lines_and_says_what_it_leaves_out() -> None:
    lines = repr(Long()).splitlines()
    assert len(lines) == LINES
    assert lines[-1] == "a note" and re.fullmatch(r"  … \d+ more", lines[-2])
    assert "\x1b" not in repr(Long())


def test_a_notebook_shows_a_table_and_runs_nothing_of_the_data() -> None:
    page = Long()._repr_html_()
    assert page.count("<tr>") == 51
    assert "<script" not in page and "\x1b" not in page


def test_a_selection_is_like_a_mapping_and_shows_its_splits() -> None:
    rows = [{"question": f"Who is {n}?", "answer": "x", "views": n} for n in range(10)]
    selection = curate.select(curate.score(rows, "column:views"), top=0.3, whole=True)
    assert len(selection) == 2 and selection.keys() == ["top", "whole"]
    assert [len(found) for _, found in selection.items()] == [3, 10]
    frame = selection.to_pandas()
    assert frame.groupby("split").size().to_dict() == {"top": 3, "whole": 10}
    assert repr(selection).splitlines()[0] == "Selection by views"
    assert "top" in repr(selection) and "<table>" in selection._repr_html_()


def test_a_validation_shows_its_arms_and_gives_answers_as_frames(
    tiny_model: Callable[[str], Path], tmp_path: Path
) -> None:
    result = curate.validate(
        {"top": COLOURED, "whole": COLOURED}, eval=COLOURED, model=tiny_model("llama"), output=tmp_path / "run",
        seeds=2, config=SHORT,
    )  # fmt: skip
    assert len(repr(result).splitlines()) <= LINES
    assert "top" in repr(result) and "TRIAL RUN: 8 steps" in repr(result)
    assert len(result) == 3 and result.keys() == list(result) == ["base", "top", "whole"]
    assert result.report == tmp_path / "run" / "report.html" and result.report.is_file()
    assert len(result.to_pandas()) == 6 * 5
    assert {name: len(frame) for name, frame in result.items()} == {"base": 6, "top": 12, "whole": 12}
    assert set(result["top"]["arm"]) == {"top"}
    with pytest.raises(KeyError):
        result["nobody"]


def test_a_bar_is_drawn_on_a_terminal_and_not_into_a_log(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stream, drawn in ((Terminal(), True), (io.StringIO(), False)):
        monkeypatch.setattr(sys, "stderr", stream)
        with bar_in_python() as show:
            show("loss", 1, 2)
        assert ("loss" in stream.getvalue()) is drawn
