"""The picture in a folder of splits: where in the scores each split lies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from curate.bins import bin_edges, is_skewed
from curate.report.figures import colour, new_figure, png

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

BINS = 40


def histogram_figure(name: str, scores: NDArray[np.float64], splits: dict[str, NDArray[np.bool_]]) -> bytes:
    """How many rows of all, and of each split, have which score; `scores` (N,) with NaN where there is none."""
    import numpy as np

    finite = np.isfinite(scores)
    edges: Any = bin_edges(scores[finite], BINS) if finite.any() else np.array([0.0, 1.0])
    figure, axes = new_figure()
    axes.hist(scores[finite], bins=edges, color="#d5d8dc", label="all rows")
    for position, (split, mask) in enumerate(splits.items()):
        values = scores[mask & finite]
        axes.hist(
            values,
            bins=edges,
            histtype="step",
            linewidth=1.5,
            color=colour(split, position),
            label=split,
            zorder=2 + len(splits) - position,  # whole, which comes last, hides none of the others
        )
    if finite.any() and is_skewed(scores[finite]):
        axes.set_xscale("symlog", linthresh=1)
        axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel(f"{name} (higher is better known)")
    axes.set_ylabel("rows")
    axes.legend(frameon=False)
    return png(figure)
