"""The pictures of the pages, from what the commands on them leave behind; needs Chromium for the report.

curate demo -o demo
python docs/tables/quickstart.py reader
python docs/tables/pictures.py --quickstart reader --demo demo
"""

from __future__ import annotations

import argparse
import io
import shutil
from pathlib import Path

from PIL import Image

FIGURES = Path(__file__).parents[1] / "figures"
WIDTH = 1000
COLORS = 64


def keep(picture: Image.Image, name: str) -> None:
    """A picture as a small PNG: at most 1,000 pixels wide, 64 colours."""
    FIGURES.mkdir(exist_ok=True)
    height = round(picture.height * WIDTH / picture.width)
    small = picture.convert("RGB").resize((WIDTH, height)) if picture.width > WIDTH else picture.convert("RGB")
    small.quantize(COLORS, dither=Image.Dither.NONE).save(FIGURES / f"{name}.png", optimize=True)


def screenshot(report: Path, height: int) -> Image.Image:
    """The top of a report as a browser shows it."""
    from playwright.sync_api import sync_playwright

    browser_path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=browser_path, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": WIDTH, "height": height}, color_scheme="light")
        tab.goto(report.resolve().as_uri())
        taken = tab.screenshot()
        browser.close()
    return Image.open(io.BytesIO(taken))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quickstart", type=Path, help="the folder in which the quickstart was followed")
    parser.add_argument("--demo", type=Path, help="the folder of curate demo")
    given = parser.parse_args()
    if given.quickstart:
        keep(Image.open(given.quickstart / "splits" / "histogram.png"), "quickstart-histogram")
        keep(screenshot(given.quickstart / "run" / "report.html", 1100), "quickstart-report")
    if given.demo:
        run = given.demo / "run-by-views"
        keep(Image.open(run / "figures" / "curves.png"), "demo-curves")
        keep(screenshot(run / "report.html", 1500), "demo-report")


if __name__ == "__main__":
    main()
