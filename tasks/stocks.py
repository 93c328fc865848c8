"""The tables with a row a stock: universe, targets and features.

Their rows come in any order and leave in the order of the sorted ids. The failures guarded against: the
targets of another round (few ids are common then), and a stock without an exposure or feature, whose NaN
would spread to everybody's score.
"""

import math

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int8, Int64

from scoring.errors import OperatorError
from scoring.rounds import MIN_COMMON_SHARE, Features, Targets, Universe
from tasks.tables import Column, InputTable, parse_table

UNIVERSE = (
    Column("id", "text"),
    Column("country", "text", optional=True),
    Column("sector", "text", optional=True),
    Column("factor_*", "number", optional=True),
    Column("specific_risk", "number", optional=True),
)
TARGETS = (Column("id", "text"), Column("target", "number"), Column("return", "number", optional=True))
FACTOR_COVARIANCE = (Column("factor", "text"), Column("*", "number"))
FEATURES = (Column("id", "text"), Column("feature_*", "number"))
PREVIOUS_PORTFOLIO = (Column("id", "text"), Column("weight", "number"))


def parse_universe(data: bytes, origin: str) -> Universe:
    """Reads the bytes of `universe.parquet`.

    Raises:
        OperatorError: a column is missing or unknown; an id is null, empty or there twice; a label is null or
            empty; an exposure is null or not finite; a specific risk is not a positive number.
    """
    table = parse_table(data, UNIVERSE, origin)
    ids = table.names("id", unique=True)
    labels = {name: table.names(name) for name in ("country", "sector") if table.has(name)}
    factors = table.family("factor_")
    exposures = [table.numbers(name) for name in factors]
    risk = table.numbers("specific_risk") if table.has("specific_risk") else None
    if risk is not None:
        table.refuse("specific_risk", risk <= 0, "must be above 0")
    table.finish()
    if not ids:
        raise OperatorError(f"{origin}: must hold the stocks of the round, found no rows")
    order = np.array(sorted(range(len(ids)), key=ids.__getitem__))
    sorted_labels = {name: tuple(values[row] for row in order) for name, values in labels.items()}
    return Universe(
        ids=tuple(ids[row] for row in order),
        country=sorted_labels.get("country"),
        sector=sorted_labels.get("sector"),
        factor_names=tuple(name.removeprefix("factor_") for name in factors),
        exposures=np.column_stack(exposures)[order] if exposures else None,
        specific_risk=None if risk is None else risk[order],
    )


def parse_targets(data: bytes, origin: str, universe: Universe) -> Targets:
    """Reads the bytes of `targets.parquet`; a null target counts as an id that is missing.

    Raises:
        OperatorError: a column is missing or unknown; an id is null, empty or there twice; a target is
            outside [0, 1] or not finite; all targets are equal; a return is not finite, or null where there
            is a target; fewer than 80 % of the universe's or of the targets' ids are common to both.
    """
    table = parse_table(data, TARGETS, origin)
    ids = table.names("id", unique=True)
    target = table.numbers("target", nulls=True)
    table.refuse("target", (target < 0) | (target > 1), "must be from 0 to 1")
    has_target = ~np.isnan(target)
    realised = table.numbers("return", nulls=True) if table.has("return") else None
    if realised is not None:
        table.refuse("return", np.isnan(realised) & has_target, "must be a number where there is a target")
    table.finish()
    rows = {ids[row]: int(row) for row in np.flatnonzero(has_target)}
    _check_common(origin, universe, rows.keys() & set(universe.ids), len(rows))
    if np.ptp(target[has_target]) == 0:
        raise OperatorError(f"{origin}: column target must not be the same for all stocks")
    positions = np.array([at for at, stock in enumerate(universe.ids) if stock in rows], dtype=np.int64)
    order = [rows[universe.ids[at]] for at in positions]
    return Targets(
        positions=positions,
        target=target[order],
        full_mean=math.fsum(target[has_target]) / len(rows),
        realised=None if realised is None else realised[order],
    )


def parse_features(data: bytes, origin: str, universe: Universe) -> Features:
    """Reads the bytes of `features.parquet`.

    Raises:
        OperatorError: a column is missing or unknown; the ids are not exactly the universe's, each once; a
            feature is null or not a whole number from -128 to 127.
    """
    table = parse_table(data, FEATURES, origin)
    ids = table.names("id", unique=True)
    table.finish()
    order = _rows_of(universe, ids, origin)
    names = table.family("feature_")
    columns = np.empty((len(names), len(order)), dtype=np.int8)
    for position, name in enumerate(names):
        columns[position] = _small_integers(table, name)[order]
    table.finish()
    return Features(tuple(names), np.ascontiguousarray(columns.T))


def parse_factor_covariance(data: bytes, origin: str, universe: Universe) -> Float64[np.ndarray, "factor factor"]:
    """Reads the bytes of `factor_covariance.parquet`, in the order of the universe's factors.

    Raises:
        OperatorError: rows or columns are not exactly the universe's factors, each once; a number is not finite.
    """
    table = parse_table(data, FACTOR_COVARIANCE, origin)
    rows = table.names("factor", unique=True)
    columns = [name for name in table.arrow.column_names if name != "factor"]
    numbers = {name: table.numbers(name) for name in columns}
    table.finish()
    wanted = set(universe.factor_names)
    for what, names in (("rows", rows), ("columns", columns)):
        if set(names) != wanted or len(names) != len(wanted):
            lacking, foreign = sorted(wanted - set(names)), sorted(set(names) - wanted)
            raise OperatorError(
                f"{origin}: its {what} must be exactly the universe's {len(wanted)} factors; "
                f"{_count(lacking, 'missing')}, {_count(foreign, 'not in the universe')}"
            )
    order = [rows.index(name) for name in universe.factor_names]
    return np.column_stack([numbers[name][order] for name in universe.factor_names])


def parse_previous_portfolio(data: bytes, origin: str, universe: Universe) -> Float64[np.ndarray, " stock"]:
    """Reads the bytes of `previous_portfolio.parquet`: weights as fractions of the capital, 0 for a stock not named.

    What is held outside the universe cannot be traded in this round: it must be sold, or left out, before.

    Raises:
        OperatorError: a column is missing or unknown; an id is null, empty, there twice or not in the universe; a
            weight is null or not finite.
    """
    table = parse_table(data, PREVIOUS_PORTFOLIO, origin)
    held = dict(zip(table.names("id", unique=True), table.numbers("weight").tolist(), strict=True))
    table.finish()
    if foreign := sorted(held.keys() - set(universe.ids)):
        raise OperatorError(f"{origin}: column id must hold the universe's ids only; {_count(foreign, 'not in it')}")
    return np.array([held.get(stock, 0.0) for stock in universe.ids])


def _check_common(origin: str, universe: Universe, common: set[str], found: int) -> None:
    """Refuses targets that share too few ids with the universe, in either direction."""
    of_universe, of_targets = len(common) / len(universe.ids), len(common) / max(1, found)
    if min(of_universe, of_targets) >= MIN_COMMON_SHARE:
        return
    raise OperatorError(
        f"{origin}: at least {MIN_COMMON_SHARE:.0%} of the ids of universe and targets must be common to both, found "
        f"{len(common)} common ids of {len(universe.ids)} stocks ({of_universe:.1%}) and "
        f"{found} targets ({of_targets:.1%}); are these the targets of another round?"
    )


def _rows_of(universe: Universe, ids: list[str], origin: str) -> Int64[np.ndarray, " stock"]:
    """Returns the row of each stock of the universe in a table that must have exactly these stocks."""
    rows = {stock: row for row, stock in enumerate(ids)}
    missing = [stock for stock in universe.ids if stock not in rows]
    foreign = sorted(rows.keys() - set(universe.ids))
    if missing or foreign:
        raise OperatorError(
            f"{origin}: column id must hold exactly the universe's ids; {_count(missing, 'missing')}, "
            f"{_count(foreign, 'not in the universe')}"
        )
    return np.array([rows[stock] for stock in universe.ids], dtype=np.int64)


def _count(ids: list[str], what: str) -> str:
    """Returns how many ids there are and the first of them."""
    return f"{len(ids)} {what}" + (f" ({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''})" if ids else "")


def _small_integers(table: InputTable, name: str) -> Int8[np.ndarray, " row"]:
    """Returns a feature as int8, or zeros and a problem of the table."""
    column = table.arrow.column(name)
    if column.type == pa.int8() and not column.null_count:
        return np.asarray(column.to_numpy(), dtype=np.int8)  # half the time for 2 500 features
    numbers = table.numbers(name)
    fits = (numbers == np.trunc(numbers)) & (numbers >= -128) & (numbers <= 127)
    table.refuse(name, ~fits & np.isfinite(numbers), "must hold whole numbers from -128 to 127")
    return np.where(fits, numbers, 0).astype(np.int8)
