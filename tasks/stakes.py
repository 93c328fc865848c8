"""The stakes tables: who is at risk with how much, whose multipliers, and who came late.

A stake is exact from the file to the ledger: decimal128 at rest, a whole number of atoms in memory. The
failures guarded against: a stake that went through a binary float, and one with more decimals than the
currency has, which some rounding would make larger or smaller.
"""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Context, Decimal, Inexact, InvalidOperation

import pyarrow as pa

from scoring.published import SCORE_KEYS
from scoring.rules import MAX_MULTIPLIER, MULTIPLIER_DECIMALS
from scoring.stakes import Stake, Stakes
from tasks.tables import Column, InputTable, parse_table

STAKES = (
    Column("model", "text"),
    Column("account", "text"),
    Column("stake", "money"),
    Column("submitted_at", "time", optional=True),
    *(Column(f"{key}_multiplier", "exact", optional=True) for key in SCORE_KEYS),
)
BENCHMARK_STAKES = (Column("model", "text"), Column("stake", "money"))

_MONEY_DECIMALS = 18  # of decimal128(38, 18)
_LARGEST_TOTAL = 10**38  # of decimal128(38, 18); twice, because a round may double every stake
_MULTIPLIER_STEP = Decimal(1).scaleb(-MULTIPLIER_DECIMALS)
_EXACT = Context(prec=80, rounding=ROUND_DOWN, traps=[Inexact, InvalidOperation])
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def parse_stakes(data: bytes, origin: str, *, decimals: int, closes_at: datetime) -> Stakes:
    """Reads the bytes of `stakes.parquet`.

    Args:
        data: the file's bytes.
        origin: the file, for messages.
        decimals: decimals of the currency, 0 to 18.
        closes_at: a model whose `submitted_at` is after this instant is late; null is on time.

    Raises:
        OperatorError: a column is missing, unknown or not exact; a name is null, empty or there twice; a
            stake is null, negative or finer than an atom; a multiplier is null, negative, too large or too
            fine.
    """
    table = parse_table(data, STAKES, origin)
    models = table.names("model", unique=True)
    accounts = table.names("account")
    atoms = _atoms(table, decimals)
    late = _late(table, closes_at)
    chosen = {key: _multipliers(table, f"{key}_multiplier") for key in SCORE_KEYS}
    table.finish()
    rows = [
        Stake(
            model=model,
            account=accounts[row],
            atoms=atoms[row],
            multipliers={key: values[row] for key, values in chosen.items() if values},
            late=late[row],
        )
        for row, model in enumerate(models)
    ]
    return Stakes(tuple(sorted(rows, key=lambda stake: stake.model)))


def parse_benchmark_stakes(data: bytes, origin: str, *, decimals: int) -> Stakes:
    """Reads the bytes of `benchmark_stakes.parquet`: the benchmark models' weights, owned by no account.

    Raises:
        OperatorError: as `parse_stakes`, of the columns `model` and `stake`.
    """
    table = parse_table(data, BENCHMARK_STAKES, origin)
    models = table.names("model", unique=True)
    atoms = _atoms(table, decimals)
    table.finish()
    rows = [Stake(model, None, amount) for model, amount in zip(models, atoms, strict=True)]
    return Stakes(tuple(sorted(rows, key=lambda stake: stake.model)))


def _atoms(table: InputTable, decimals: int) -> list[int]:
    """Returns the stakes in atoms; meaningless where the table has problems."""
    found = [_money_units(value) for value in table.values("stake")]
    atom = 10 ** (_MONEY_DECIMALS - decimals)
    table.refuse("stake", [units is None for units in found], "must not be null; write 0 for no stake")
    units = [0 if value is None else value for value in found]
    table.refuse("stake", [value < 0 for value in units], "must be ≥ 0")
    too_fine = f"must have at most the tournament's {decimals} decimals"
    table.refuse("stake", [value % atom != 0 for value in units], too_fine)
    if 2 * sum(units) >= _LARGEST_TOTAL:
        table.problems.append("column stake must add up to less than 5e19: a ledger holds 20 digits before the point")
    return [value // atom for value in units]


def _money_units(value: object) -> int | None:
    """Returns a decimal128(38, 18) as a whole number of 1e-18."""
    return int(value.scaleb(_MONEY_DECIMALS, _EXACT)) if isinstance(value, Decimal) else None


def _late(table: InputTable, closes_at: datetime) -> list[bool]:
    """Says for each row whether it was submitted after the close, compared in the file's own ticks."""
    if not table.has("submitted_at"):
        return [False] * table.arrow.num_rows
    column = table.arrow.column("submitted_at")
    ticks = _TICKS_PER_SECOND[column.type.unit]
    # Whole microseconds on both sides of the comparison: exact for every unit, and no date can overflow.
    close = (closes_at - _EPOCH) // timedelta(microseconds=1) * ticks
    submitted = column.cast(pa.int64()).to_pylist()
    return [at is not None and at * 10**6 > close for at in submitted]


def _multipliers(table: InputTable, name: str) -> list[Decimal]:
    """Returns the models' choices for one score; empty where the table has no such column."""
    if not table.has(name):
        return []
    found = [_multiplier(value) for value in table.values(name)]
    must = f"must be from 0 to {MAX_MULTIPLIER} with at most {MULTIPLIER_DECIMALS} decimals, 0 for no choice"
    table.refuse(name, [value is None for value in found], must)
    return [value or Decimal(0) for value in found]


def _multiplier(value: object) -> Decimal | None:
    """Returns a multiplier exactly as written, None where it is not one."""
    try:
        multiplier = value if isinstance(value, Decimal) else Decimal(str(value))
        multiplier.quantize(_MULTIPLIER_STEP, context=_EXACT)
    except ArithmeticError:
        return None
    return multiplier if multiplier.is_finite() and 0 <= multiplier <= MAX_MULTIPLIER else None
