"""The index of a pandas DataFrame, where Arrow does not keep it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray


def keep_range_index(restored: Any, schema: pa.Schema, rows: NDArray[np.int64]) -> Any:
    """A DataFrame of some rows with the labels they had, if these were a range: Arrow would count from 0 again.

    `schema` is that of the whole DataFrame's table, `rows` (k,) are row numbers; anything else is given back as it is.
    """
    described = (schema.pandas_metadata or {}).get("index_columns", [])
    if not type(restored).__module__.startswith("pandas") or not described or not isinstance(described[0], dict):
        return restored
    import pandas as pd

    whole = pd.RangeIndex(*(described[0][bound] for bound in ("start", "stop", "step")), name=described[0]["name"])
    return restored.set_axis(whole.take(rows))
