"""How far an accuracy could have come out otherwise: test examples are resampled, seeds enter by Student's t.

A bootstrap of three seeds would be too narrow, since the three that were drawn say little about how far seeds
scatter. So the seeds' part is a parametric one: their standard error times Student's t with S - 1 degrees of
freedom. Test examples are many and are resampled as they are; those that ask about one subject stay together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

RESAMPLES = 10_000
CHUNK = 4_000_000
"""Counts held at a time: resamples by clusters."""
TAKEN_OFF = 0.5
"""Share of the seeds' scatter explained by examples that is not counted twice. All of it would be right on average,
but the estimate is noisy: simulated pairs of equal arms then lay in 93 of 100 intervals with 3 seeds, not in 95."""


def cluster_codes(names: Sequence[str | None]) -> NDArray[np.int64]:
    """A number for each example, equal where the names are; an example without a name stands alone. -> (N,)"""
    import numpy as np

    codes: dict[object, int] = {}
    return np.array([codes.setdefault(i if name is None else name, len(codes)) for i, name in enumerate(names)])


def resampled_means(
    values: NDArray[np.float64],
    clusters: NDArray[np.int64],
    groups: NDArray[np.bool_] | None = None,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Means of K rows of values within G groups of examples, once a resample. (K, N), (N,), (G, N) -> (R, G, K)

    Each resample draws as many clusters as there are, with replacement, the same ones for every row and group, so
    that what an example does to two arms cancels in their difference. Without `groups` there is one, of all.
    NaN where a resample holds no example of a group.
    """
    import numpy as np

    members = np.ones((1, values.shape[1]), dtype=bool) if groups is None else groups
    within = members[:, None, :] * np.concatenate([np.ones((1, values.shape[1])), values])  # (G, 1 + K, N)
    sums = np.zeros((int(clusters.max()) + 1, within.shape[0] * within.shape[1]))
    np.add.at(sums, clusters, within.reshape(-1, within.shape[2]).T)
    drawn = np.concatenate([counts @ sums for counts in _draws(len(sums), seed)]).reshape(-1, *within.shape[:2])
    with np.errstate(invalid="ignore"):
        return np.asarray(drawn[:, :, 1:] / drawn[:, :, :1])


def seed_variance(values: NDArray[np.float64], clusters: NDArray[np.int64], taken_off: float = TAKEN_OFF) -> float:
    """Variance of a mean over seeds that comes from the seeds themselves; 0 for one seed. (S, N), (N,) -> scalar

    The means of the seeds also scatter because each seed errs on other examples. That part shrinks with more
    examples and is in `resampled_means` already; 1 takes all of it off (the two-way random effects estimate).
    """
    import numpy as np

    seeds, n = values.shape
    if seeds < 2:
        return 0.0
    by_seed = values.mean(axis=1)
    residual = values - values.mean(axis=0) - by_seed[:, None] + values.mean()  # (S, N)
    sums = np.zeros((int(clusters.max()) + 1, seeds))
    np.add.at(sums, clusters, residual.T)
    from_examples = (sums**2).sum() / (seeds - 1) / n**2
    return float(max(0.0, by_seed.var(ddof=1) - taken_off * from_examples) / seeds)


def seed_noise(variance: float, seeds: int, seed: int = 0) -> NDArray[np.float64]:
    """What the choice of seeds could have moved a mean by: its standard error × Student's t. -> (R,)"""
    import numpy as np

    if seeds < 2:
        return np.zeros(RESAMPLES)
    return np.asarray(np.sqrt(variance) * np.random.default_rng(seed + 1).standard_t(seeds - 1, RESAMPLES))


def interval(means: NDArray[np.float64]) -> tuple[float, float]:
    """The 2.5th and the 97.5th percentile."""
    import numpy as np

    low, high = np.nanpercentile(means, [2.5, 97.5])
    return float(low), float(high)


def _draws(clusters: int, seed: int) -> Iterator[NDArray[np.float64]]:
    """How often each cluster is in each resample, some resamples at a time. -> (B, C)"""
    import numpy as np

    rng = np.random.default_rng(seed)
    size = max(1, CHUNK // clusters)
    for start in range(0, RESAMPLES, size):
        rows = min(size, RESAMPLES - start)
        drawn = rng.integers(clusters, size=(rows, clusters)) + clusters * np.arange(rows)[:, None]
        yield np.bincount(drawn.ravel(), minlength=rows * clusters).reshape(rows, clusters).astype(float)
