"""How every figure looks, and how it is saved: PNG for papers and slides, SVG for a page that is light or dark."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

from curate.arm_names import is_untouched

if TYPE_CHECKING:
    from matplotlib.figure import Figure

P = ParamSpec("P")

INK = "#1b2026"
"""The colour of text and axes in a PNG; in a page they have the colour of its text."""

# After Okabe and Ito: told apart without red and green, and readable on white and on black.
COLOURS = {"base": "#868c96", "top": "#0a9270", "random": "#a667b0", "bottom": "#d55e00", "whole": "#2f7fc9"}
FEW_SHOT = "#5d6570"
"""The untouched model after solved examples."""
_OTHERS = ("#b8860b", "#3b8ea5", "#7a5cc0", "#5f7a2f", "#c2477f")

STYLE: dict[Any, Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 4.5,
    "text.parse_math": False,  # a relation called $x$ is no formula
    "svg.fonttype": "none",
    "svg.hashsalt": "curate",
}


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure, drawn."""

    png: bytes
    svg: str


def drawn(make: Callable[P, Figure]) -> Callable[P, Drawing]:
    """Decorates a function that makes a figure: its figure comes out drawn in the one style."""

    @wraps(make)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Drawing:
        import matplotlib

        with matplotlib.rc_context(STYLE), warnings.catch_warnings():
            # The PNG's font lacks some scripts; the page's text is set in the reader's own fonts.
            warnings.filterwarnings("ignore", message="Glyph .* missing from")
            figure = make(*args, **kwargs)
            return Drawing(png(figure), _svg(figure))

    return draw


def new_figure(height: float = 3.1, width: float = 5.0, columns: int = 1, rows: int = 1) -> tuple[Figure, Any]:
    """A figure (inches) and its axes, an array of them if there are several; narrow enough for a phone."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
        return figure, figure.subplots(rows, columns)


def colour(arm: str, position: int = 0) -> str:
    """The colour of an arm; that of an arm without one of the paper's names goes by its position among such arms."""
    if is_untouched(arm):
        return COLOURS.get(arm, FEW_SHOT)
    return COLOURS.get(arm) or _OTHERS[position % len(_OTHERS)]


def palette(arms: Sequence[str]) -> dict[str, str]:
    """The colour of every arm, the same in all figures of a run."""
    others = [arm for arm in arms if arm not in COLOURS and not is_untouched(arm)]
    return {arm: colour(arm, others.index(arm) if arm in others else 0) for arm in arms}


def line_style(arm: str) -> str:
    """Dashed for the untouched model."""
    return {"base": "--"}.get(arm, "-.") if is_untouched(arm) else "-"


def marker(arm: str) -> str:
    """A shape for each of the paper's arms, for readers who do not go by colour."""
    return {"base": "x", "top": "^", "random": "s", "bottom": "v", "whole": "D"}.get(
        arm, "+" if is_untouched(arm) else "o"
    )


def label(arm: str) -> str:
    """The paper's name for an arm: FT-Top for `top`."""
    return f"FT-{arm.capitalize()}" if arm in COLOURS and arm != "base" else arm


def short(text: str, longest: int = 28) -> str:
    """Text that fits beside an axis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def png(figure: Figure) -> bytes:
    """The figure as PNG, the same bytes every time."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _svg(figure: Figure) -> str:
    """SVG to stand inside a page: no XML prologue, no names, no size of its own, text in the page's colour."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = re.sub(r"<svg [^>]*viewBox=\"([^\"]*)\"[^>]*>", r'<svg viewBox="\1">', svg[svg.index("<svg") :])
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)  # it would apply to the whole page
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg).replace("xlink:href", "href").replace(INK, "currentColor")
    return re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]), svg)
