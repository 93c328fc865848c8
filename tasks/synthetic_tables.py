"""A synthetic round as the Arrow tables of the contract: all of it but the submissions of its models."""

from datetime import timedelta
from decimal import Context, Decimal

import pyarrow as pa

from scoring.rounds import Universe
from scoring.stakes import Stakes
from scoring.synthetic import (
    BENCHMARKS,
    Market,
    SyntheticSpec,
    attendance,
    benchmark_stakes,
    benchmarks,
    calendar,
    make_market,
    make_stakes,
)
from tasks.contract import MONEY

DECIMALS = 18
"""Stakes are in atoms of 10^-18 NMR."""

_EXACT = Context(prec=38)


def round_tables(spec: SyntheticSpec, round_number: int) -> dict[str, pa.Table]:
    """Returns the tables of a round by their paths in its folder, without `.parquet`.

    Raises:
        OperatorError: the tournament has no such round.
    """
    market = make_market(spec, round_number)
    ids = pa.array(market.universe.ids, pa.string())
    tables = _market_tables(market)
    tables["stakes"] = _stakes_table(spec, round_number)
    tables["benchmark_stakes"] = _benchmark_stakes_table()
    for name, values in zip(BENCHMARKS, benchmarks(spec, round_number), strict=True):
        tables[f"benchmarks/{name}"] = pa.table({"id": ids, "prediction": values})
    return tables


def _market_tables(market: Market) -> dict[str, pa.Table]:
    """Returns the tables of stocks and risk by the names of their files."""
    ids = pa.array(market.universe.ids, pa.string())
    factor_names, features, targets = market.universe.factor_names, market.features, market.targets
    covariance = {"factor": pa.array(factor_names, pa.string())}
    covariance |= dict(zip(factor_names, market.factor_covariance, strict=True))
    return {
        "universe": _universe_table(market.universe),
        "factor_covariance": pa.table(covariance),
        "features": pa.table({"id": ids, **dict(zip(features.names, features.values.T, strict=True))}),
        "targets": pa.table({"id": ids, "target": targets.target, "return": targets.realised}),
    }


def _universe_table(universe: Universe) -> pa.Table:
    columns = {
        "id": pa.array(universe.ids, pa.string()),
        "country": pa.array(universe.country, pa.string()),
        "sector": pa.array(universe.sector, pa.string()),
    }
    if universe.exposures is not None:
        factors = [f"factor_{name}" for name in universe.factor_names]
        columns |= dict(zip(factors, universe.exposures.T, strict=True))
    return pa.table({**columns, "specific_risk": universe.specific_risk})


def _stakes_table(spec: SyntheticSpec, round_number: int) -> pa.Table:
    stakes, opens_at = make_stakes(spec, round_number), calendar(spec, round_number).opens_at
    presence = attendance(spec, round_number)
    submitted_at = [
        opens_at + timedelta(seconds=seconds) if submits else None
        for submits, seconds in zip(presence.submits.tolist(), presence.seconds.tolist(), strict=True)
    ]
    return pa.table(
        {
            "model": pa.array([row.model for row in stakes.rows], pa.string()),
            "account": pa.array([row.account for row in stakes.rows], pa.string()),
            "stake": _amounts(stakes),
            "submitted_at": pa.array(submitted_at, pa.timestamp("us", tz="UTC")),
        }
    )


def _benchmark_stakes_table() -> pa.Table:
    stakes = benchmark_stakes()
    models = pa.array([row.model for row in stakes.rows], pa.string())
    return pa.table({"model": models, "stake": _amounts(stakes)})


def _amounts(stakes: Stakes) -> pa.Array:
    """Returns the stakes as exact decimals."""
    return pa.array([Decimal(row.atoms).scaleb(-DECIMALS, _EXACT) for row in stakes.rows], MONEY)
