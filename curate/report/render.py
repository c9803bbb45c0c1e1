"""A template made into a page that stands alone: style, script and data inside it, and nothing fetched."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from curate.report.drawing import label


def render(template: str, script: str | None = None, **context: Any) -> str:
    """A template with the page's style and, where it has one, a script: the only one the page will run."""
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("curate.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = lambda share: "" if share is None else f"{100 * share:.1f}"
    environment.filters["points"] = lambda share: f"{100 * share:+.1f}".replace("-", "−")
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["place"] = lambda share, reach: f"{50 + 50 * max(-1, min(1, share / reach)):.2f}%"
    environment.filters["label"] = label
    code = _source(environment, script) if script else ""
    return environment.get_template(template).render(
        style=Markup(_source(environment, "style.css")),
        script=Markup(code),
        script_hash=base64.b64encode(hashlib.sha256(code.encode()).digest()).decode(),
        **context,
    )


def _source(environment: Any, name: str) -> str:
    text, _, _ = environment.loader.get_source(environment, name)
    return str(text)
