"""The page as a reader's browser has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.report.made_up import BAD

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def opened(page: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The page in a tab, with what the console said in `said`."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    path: Path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page, encoding="utf-8")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 1200, "height": 900})
        tab.said = []
        tab.on("console", lambda message: tab.said.append(message.text))
        tab.on("pageerror", lambda error: tab.said.append(str(error)))
        tab.on("request", lambda request: tab.said.append(request.url) if request.url[:4] == "http" else None)
        tab.goto(path.as_uri())
        yield tab
        browser.close()


@pytest.fixture
def tab(opened: Any) -> Any:
    """The tab with no filter set."""
    opened.set_viewport_size({"width": 1200, "height": 900})
    opened.locator("form").evaluate("form => { form.reset(); form.dispatchEvent(new Event('input')) }")
    return opened


def questions(tab: Any) -> list[str]:
    texts: list[str] = tab.locator("#answers-table .question > div").all_inner_texts()
    return texts


def test_opening_it_leaves_no_message_in_the_console_and_asks_no_server(tab: Any) -> None:
    assert tab.said == []


def test_markup_in_the_data_stays_text(tab: Any) -> None:
    tab.fill("input[name=text]", "window.broken")
    assert any(BAD.split()[0] in question for question in questions(tab))
    assert tab.evaluate("window.broken") is None
    assert tab.locator("#answers-table b").count() == 0


def test_a_few_rows_come_first_and_fifty_at_a_time_after_them(tab: Any) -> None:
    assert len(questions(tab)) == 6
    tab.click("#more")
    assert len(questions(tab)) == 56
    tab.click("#more")
    tab.click("#more")
    assert len(questions(tab)) == 120
    assert not tab.locator("#more").is_visible()


def test_search_looks_in_questions_subjects_and_answers(tab: Any) -> None:
    tab.fill("input[name=text]", "PERSON number 77")
    assert len(questions(tab)) == 1
    assert tab.inner_text("#count") == "1 of 120 questions"
    tab.fill("input[name=text]", "nobody said this")
    assert questions(tab) == []


def test_filters_narrow_together(tab: Any) -> None:
    tab.select_option("select[name=relation]", "sport")
    assert tab.inner_text("#count") == "24 of 120 questions"
    tab.select_option("select[name=right]", label="FT-Top")
    tab.select_option("select[name=wrong]", label="FT-Bottom")
    rows = tab.locator("#answers-table tbody tr")
    assert 0 < rows.count() < 24
    for row in rows.all():
        assert "✗" not in row.locator("[data-label=FT-Top]").inner_text()
        assert "✓" not in row.locator("[data-label=FT-Bottom]").inner_text()


def test_the_untouched_model_top_and_bottom_stand_side_by_side_and_all_arms_on_demand(tab: Any) -> None:
    heads = "#answers-table thead th"
    assert tab.locator(heads).all_inner_texts() == ["question", "accepted", "base", "FT-Top", "FT-Bottom"]
    tab.select_option("select[name=columns]", label="all arms")
    assert tab.locator(heads).count() == 7
    tab.select_option("select[name=columns]", index=0)
    assert tab.locator(heads).count() == 5


def test_long_lists_of_accepted_answers_are_folded(tab: Any) -> None:
    tab.fill("input[name=text]", "person number 77")
    cell = tab.locator("#answers-table td[data-label=accepted]")
    assert "politician, political leader, pol" in cell.inner_text() and "polit.," not in cell.inner_text()
    cell.locator("summary").click()
    assert "polit., " in cell.inner_text() and tab.evaluate("window.broken") is None


def test_what_an_arm_lost_and_what_tells_two_arms_apart_can_be_looked_at(tab: Any) -> None:
    tab.select_option("select[name=only]", label="lost by FT-Bottom")
    lost = tab.locator("#answers-table tbody tr")
    assert lost.count() > 0
    assert all("✗" in row.locator("[data-label=FT-Bottom]").inner_text() for row in lost.all())
    labels = tab.locator("select[name=only] option").all_inner_texts()
    assert "lost by base" not in labels
    tab.select_option("select[name=only]", label="FT-Top right, FT-Bottom wrong")
    for row in tab.locator("#answers-table tbody tr").all():
        assert "✗" not in row.locator("[data-label=FT-Top]").inner_text()
        assert "✓" not in row.locator("[data-label=FT-Bottom]").inner_text()


def test_a_sheet_of_a4_has_every_column(tab: Any) -> None:
    """Between the margins there are 182 mm, 688 pixels."""
    tab.emulate_media(media="print")
    tab.set_viewport_size({"width": 688, "height": 900})
    wide = "[...document.querySelectorAll('table')].filter(t => t.getBoundingClientRect().right > 689).length"
    assert tab.evaluate(wide) == 0
    assert tab.evaluate("document.documentElement.scrollWidth") <= 688
    drawn = "getComputedStyle(document.querySelector('.forest'), '::after').printColorAdjust"
    assert tab.evaluate(drawn) == "exact", "points and intervals are backgrounds, which are not printed unasked"
    tab.emulate_media(media="screen")


def test_the_head_says_what_was_asked_of_which_model(tab: Any) -> None:
    told = tab.locator("dl.told").inner_text()
    for part in (
        "Model",
        "Trained on",
        "FT-Top (1,500)",
        "Seeds",
        "0, 1",
        "Date",
        "--learning-rate 0.001 --arm-shots 4",
        "--arm top --arm top+distill",
    ):
        assert part in told


def test_answers_that_metrics_mark_differently_can_be_looked_at_alone(tab: Any) -> None:
    tab.select_option("select[name=columns]", label="all arms")
    tab.select_option("select[name=only]", label="metrics disagree")
    rows = tab.locator("#answers-table tbody tr")
    assert 0 < rows.count() < 120
    assert all("✓ actor and singer" in row.inner_text() for row in rows.all())


def test_order_by_popularity(tab: Any) -> None:
    tab.select_option("select[name=order]", "obscure")
    assert "number 119?" in questions(tab)[0]
    tab.select_option("select[name=order]", "popular")
    assert "percentile 0" in questions(tab)[0]


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_phone_has_nothing_to_scroll_sideways(tab: Any, width: int) -> None:
    tab.set_viewport_size({"width": width, "height": 700})
    assert tab.evaluate("document.documentElement.scrollWidth") == width


def test_text_is_readable_in_the_dark(tab: Any) -> None:
    """Text, in figures too, is light on dark when the reader's system asks for it."""
    tab.emulate_media(color_scheme="dark")
    luminance = "c => c.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0)"
    page, text = (
        tab.evaluate(f"({luminance})(getComputedStyle({element}).{style})")
        for element, style in (("document.body", "backgroundColor"), ("document.querySelector('svg text')", "fill"))
    )
    tab.emulate_media(color_scheme="light")
    assert page < 100 < 500 < text
