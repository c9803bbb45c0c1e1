"""The bins of a histogram of scores."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def is_skewed(values: NDArray[np.float64]) -> bool:
    """Whether a few huge values (raw page views) would leave one full bin of equally wide ones."""
    import numpy as np

    return bool(values.min() >= 0 and values.max() > 100 * (1 + float(np.median(values))))


def bin_edges(values: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Edges of equal width, or of equal ratio where the values are skewed: (bins + 1,). All of `values` are finite."""
    import numpy as np

    if not is_skewed(values):
        return np.histogram_bin_edges(values, bins=bins)
    low, high = float(values.min()), float(values.max())
    edges = np.expm1(np.linspace(np.log1p(low), np.log1p(high), bins + 1))
    edges[0], edges[-1] = low, high  # what rounding would cut off
    return edges
