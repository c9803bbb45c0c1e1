from __future__ import annotations

import pytest

from tests.report.made_up import made_up_run


@pytest.fixture(scope="session")
def page() -> str:
    """The report of a made-up run of 120 questions, 4 arms and 2 seeds."""
    from curate.report.page import draw_figures, report_page

    run = made_up_run(120)
    return report_page(run, draw_figures(run))
