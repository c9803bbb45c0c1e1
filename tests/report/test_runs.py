"""Several runs beside each other."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.report.made_up import BAD, made_up_run


@pytest.fixture
def two_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, rate, arms in (("one", 0.1, ("base", "top", "bottom")), ("two", 0.2, ("base", "top", "whole"))):
        summary = json.loads(json.dumps(made_up_run(10).summary))
        summary["config"]["finetune"] = {"learning_rate": rate, "epochs": 5}
        summary["arms"] = [row for row in summary["arms"] if row["arm"] in arms]
        Path(name).mkdir()
        Path(name, "summary.json").write_text(json.dumps(summary))


def test_runs_stand_side_by_side_with_what_differs_in_their_settings(
    two_runs: None, curate: Callable[..., Any]
) -> None:
    result = curate("show", "one/", "two/", "--html", "runs.html")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert any(line.split()[:5] == ["one/", "10", "20.0", "50.0", "38.0"] for line in lines)
    assert any(line.split()[:4] == ["two/", "10", "20.0", "50.0"] and "47.0" in line for line in lines)
    assert any(line.split() == ["finetune.learning_rate", "0.1", "0.2"] for line in lines)
    assert "finetune.epochs" not in result.stdout
    page = Path("runs.html").read_text()
    assert "2 validations" in page and "<td>0.2</td>" in page
    assert BAD.split()[0] not in page.replace("</script>\n</body>", ""), "text of the data is escaped"
    again = curate("show", "one/", "two/", "--html", "runs.html")
    assert again.exit_code == 1 and "--force" in again.stderr
    assert curate("show", "one/", "two/", "--html", "runs.html", "--force").exit_code == 0


def test_a_page_is_for_runs_only(two_runs: None, curate: Callable[..., Any]) -> None:
    result = curate("show", "one/", "--html", "runs.html")
    assert result.exit_code == 1 and "--html is for several runs" in result.stderr
