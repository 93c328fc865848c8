"""Records of tensors whose first axis is the bag: some bags of one, and putting them back.

Bags finish at different steps and leave the batch; these two functions do it for any nested frozen dataclass.
"""

from dataclasses import fields, is_dataclass
from typing import Any, TypeVar, cast

from jaxtyping import Int64
from torch import Tensor

Record = TypeVar("Record")


def take(record: Record, rows: Int64[Tensor, " some"]) -> Record:
    """Returns some bags of a record."""
    if isinstance(record, Tensor):
        return cast(Record, record.index_select(0, rows))
    taken = (take(getattr(record, field.name), rows) for field in fields(record))  # type: ignore[arg-type]  # a dataclass
    return type(record)(*taken)


def put(record: Record | None, rows: Int64[Tensor, " some"], part: Record, bags: int) -> Record:
    """Returns a record with some bags replaced; in place, as far as its tensors exist.

    Args:
        record: None for one of zeros, of so many bags.
    """
    if is_dataclass(part):
        inside = (
            put(None if record is None else getattr(record, field.name), rows, getattr(part, field.name), bags)
            for field in fields(part)
        )
        kind = cast(Any, type(part))
        return cast(Record, kind(*inside))
    values = cast(Tensor, part)
    whole = values.new_zeros(bags, *values.shape[1:]) if record is None else cast(Tensor, record)
    whole.index_copy_(0, rows, values)
    return cast(Record, whole)
