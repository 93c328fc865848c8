"""The stakes tables: who is at risk with how much, whose multipliers, and who came late.

A stake is exact from the file to the ledger: decimal128 at rest, a whole number of atoms in memory. The
failures guarded against: a stake that went through a binary float, and one with more decimals than the
currency has, which some rounding would make larger or smaller.
"""

from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Context, Decimal, Inexact, InvalidOperation

import pyarrow as pa

from scoring.chain import Transfer
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
CHAINED_STAKES = tuple(Column("stake", "money", optional=True) if each.name == "stake" else each for each in STAKES)
"""With chained stakes a table says who takes part; what stands in `stake` is not read."""
BENCHMARK_STAKES = (Column("model", "text"), Column("stake", "money"))
TRANSFERS = (Column("time", "time"), Column("model", "text"), Column("amount", "money"))

_MONEY_DECIMALS = 18  # of decimal128(38, 18)
_LARGEST_TOTAL = 10**38  # of decimal128(38, 18); twice, because a round may double every stake
_MULTIPLIER_STEP = Decimal(1).scaleb(-MULTIPLIER_DECIMALS)
_EXACT = Context(prec=80, rounding=ROUND_DOWN, traps=[Inexact, InvalidOperation])
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_TICKS_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def parse_stakes(data: bytes, origin: str, *, decimals: int, closes_at: datetime, chained: bool = False) -> Stakes:
    """Reads the bytes of `stakes.parquet`.

    Args:
        data: the file's bytes.
        origin: the file, for messages.
        decimals: decimals of the currency, 0 to 18.
        closes_at: a model whose `submitted_at` is after this instant is late; null is on time.
        chained: stakes are balances that the caller fills in; here they are all 0.

    Raises:
        OperatorError: a column is missing, unknown or not exact; a name is null, empty or there twice; a
            stake is null, negative or finer than an atom; a multiplier is null, negative, too large or too
            fine.
    """
    table = parse_table(data, CHAINED_STAKES if chained else STAKES, origin)
    models = table.names("model", unique=True)
    accounts = table.names("account")
    atoms = [0] * len(models) if chained else _stakes(table, decimals)
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
    atoms = _stakes(table, decimals)
    table.finish()
    rows = [Stake(model, None, amount) for model, amount in zip(models, atoms, strict=True)]
    return Stakes(tuple(sorted(rows, key=lambda stake: stake.model)))


def parse_transfers(data: bytes, origin: str, *, decimals: int) -> tuple[Transfer, ...]:
    """Reads the bytes of `transfers.parquet`: deposits above 0, withdrawals below.

    Args:
        data: the file's bytes.
        origin: the file, for messages.
        decimals: decimals of the currency, 0 to 18.

    Returns:
        In the order of the rows, their times to the microsecond.

    Raises:
        OperatorError: a column is missing, unknown or not exact; a name or a time is null; an amount is null, zero or
            finer than an atom.
    """
    table = parse_table(data, TRANSFERS, origin)
    models = table.names("model")
    times = [at or _EPOCH for at in _times(table, "time")]
    atoms = _atoms(table, "amount", decimals)
    table.refuse("amount", [amount == 0 for amount in atoms], "must not be 0")
    table.finish()
    return tuple(Transfer(*each) for each in zip(times, models, atoms, strict=True))


def _times(table: InputTable, name: str) -> list[datetime | None]:
    """Returns times to the microsecond, rounded down; None where a row has none that a calendar holds."""
    column = table.arrow.column(name)
    ticks = column.cast(pa.int64()).to_pylist()
    table.refuse(name, [at is None for at in ticks], "must not be null")
    per_second = _TICKS_PER_SECOND[column.type.unit]
    found = [None if at is None else _time(at * 10**6 // per_second) for at in ticks]
    beyond = [at is None and tick is not None for at, tick in zip(found, ticks, strict=True)]
    table.refuse(name, beyond, "must be a time in the years 1 to 9999")
    return found


def _time(microseconds: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=microseconds)
    except OverflowError:
        return None


def _stakes(table: InputTable, decimals: int) -> list[int]:
    """Returns the stakes in atoms; meaningless where the table has problems."""
    atoms = _atoms(table, "stake", decimals)
    table.refuse("stake", [value < 0 for value in atoms], "must be ≥ 0")
    return atoms


def _atoms(table: InputTable, name: str, decimals: int) -> list[int]:
    """Returns amounts in atoms; meaningless where the table has problems."""
    found = [_money_units(value) for value in table.values(name)]
    atom = 10 ** (_MONEY_DECIMALS - decimals)
    hint = "; write 0 for no stake" if name == "stake" else ""
    table.refuse(name, [units is None for units in found], f"must not be null{hint}")
    units = [0 if value is None else value for value in found]
    too_fine = f"must have at most the tournament's {decimals} decimals"
    table.refuse(name, [value % atom != 0 for value in units], too_fine)
    if 2 * sum(map(abs, units)) >= _LARGEST_TOTAL:
        table.problems.append(f"column {name} must add up to less than 5e19: a ledger holds 20 digits before the point")
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
