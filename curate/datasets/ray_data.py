"""Between `ray.data.Dataset` and Arrow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa


def is_ray_dataset(data: Any) -> bool:
    """Whether it is one; Ray is not imported to find out."""
    kinds = {f"{kind.__module__.split('.')[0]}.{kind.__name__}" for kind in type(data).__mro__}
    return "ray.Dataset" in kinds


def read_ray_dataset(data: Any) -> pa.Table:
    """All rows in the dataset's order, in this process."""
    import pyarrow as pa
    import ray

    context = ray.data.DataContext.get_current()
    before = context.execution_options.preserve_order
    context.execution_options.preserve_order = True
    try:
        tables = [ray.get(block) for block in data.to_arrow_refs()]
    finally:
        context.execution_options.preserve_order = before
    return pa.concat_tables([pa.table({}), *(t for t in tables if t.num_columns)], promote_options="permissive")


def to_ray_dataset(table: pa.Table) -> Any:
    """A dataset of these rows."""
    import ray

    return ray.data.from_arrow(table)
