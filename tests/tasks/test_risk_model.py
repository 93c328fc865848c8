"""The risk model of a round, and what was held before it: read where asked for, refused before any work where wrong."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from scoring.portfolio.problem import PortfolioTerms
from tasks.inputs import RoundInputs, read_round
from tasks.plan import RoundPlan, RoundRequest, plan_round
from tasks.store import open_store
from tasks.tournament import read_tournament
from tasks.true_contribution import portfolio_facts
from tests.tasks.fixtures import (
    FACTORS,
    TOURNAMENT,
    assert_refused,
    read,
    round_tables,
    with_column,
    with_value,
    write_round,
)

ASKED = TOURNAMENT + "[portfolio]\n"
LATER = datetime(2100, 1, 1, tzinfo=UTC)
TABLES = round_tables()
COVARIANCE, UNIVERSE, TARGETS = (TABLES[name] for name in ("factor_covariance", "universe", "targets"))
LAST = FACTORS[-1]


def plan(directory: Path, **files: object) -> object:
    write_round(directory / "data", **{"tournament": ASKED, **files})
    return plan_round(RoundRequest(str(directory / "data"), str(directory / "out"), 7), LATER)


def test_read_round__orders_the_covariance_as_the_universe_orders_its_factors(tmp_path: Path) -> None:
    values = np.arange(len(FACTORS) ** 2, dtype=float).reshape(len(FACTORS), -1)
    columns = {name: values[:, at] for at, name in enumerate(FACTORS)}
    shuffled = pa.table({"factor": FACTORS[::-1], **{name: columns[name][::-1] for name in FACTORS[::-1]}})
    found = read(tmp_path, tournament=ASKED, factor_covariance=shuffled).factor_covariance
    assert np.array_equal(found, values)


def test_read_round__leaves_the_covariance_unread_where_nobody_asks_for_true_contribution(tmp_path: Path) -> None:
    inputs = read(tmp_path, factor_covariance=pa.table({"nonsense": [1]}))
    assert inputs.factor_covariance is None
    assert not [path for path in inputs.hashes if "covariance" in path]


@pytest.mark.parametrize(
    ("table", "fragments"),
    [
        (None, ["factor_covariance.parquet: no such file"]),
        (COVARIANCE.drop([LAST]), ["its columns must be exactly the universe's 4 factors", f"1 missing ({LAST})"]),
        (COVARIANCE.slice(1), ["its rows must be exactly", "1 missing"]),
        (with_column(COVARIANCE, "extra", [0.0] * 4), ["its columns", "1 not in the universe (extra)"]),
        (with_value(COVARIANCE, LAST, 0, None), [f"column {LAST} must not be null, found null in row 0"]),
        (with_value(COVARIANCE, LAST, 0, float("inf")), [f"column {LAST} must be finite, found inf in row 0"]),
        (with_value(COVARIANCE, "factor", 0, LAST), ["column factor must name each only once"]),
    ],
    ids=["missing", "column", "row", "foreign", "null", "infinite", "twice"],
)
def test_read_round__refuses_the_covariance(tmp_path: Path, table: pa.Table | None, fragments: list[str]) -> None:
    assert_refused(lambda: read(tmp_path, tournament=ASKED, factor_covariance=table), *fragments)


@pytest.mark.parametrize(
    ("files", "fragments"),
    [
        ({"universe": UNIVERSE.drop(["specific_risk"])}, ["universe.parquet needs the column specific_risk"]),
        ({"universe": UNIVERSE.drop(["sector"])}, ["neutral to 'sector' needs the column 'sector'"]),
        ({"targets": TARGETS.drop(["return"])}, ["rounds/7/targets.parquet: column return is missing"]),
        ({"factor_covariance": with_value(COVARIANCE, LAST, 0, 0.005)}, ["must be symmetric, found 0.005"]),
        (
            {"factor_covariance": with_value(COVARIANCE, LAST, 3, 0.0)},
            ["must be positive definite, found the variance 0.0"],
        ),
        ({"tournament": TOURNAMENT + "[portfolio]\ncap = 0.5\n"}, ["cap must be at least 1, found 0.5"]),
    ],
    ids=["specific_risk", "sector", "return", "symmetric", "variance", "cap"],
)
def test_plan_round__stops_where_there_is_no_portfolio(
    tmp_path: Path, files: dict[str, object], fragments: list[str]
) -> None:
    assert_refused(lambda: plan(tmp_path, **files), *fragments)


def test_plan_round__names_the_covariance_among_the_inputs_and_takes_the_terms_into_its_identity(
    tmp_path: Path,
) -> None:
    found = plan(tmp_path)
    assert isinstance(found, RoundPlan)
    assert "rounds/7/factor_covariance.parquet" in found.inputs.hashes
    assert found.portfolio is not None
    assert not found.terms.rules.pays_true_contribution


# What was held before -------------------------------------------------------------------------------------------


STOCKS = sorted(UNIVERSE.column("id").to_pylist())
HELD = pa.table({"id": [STOCKS[5], STOCKS[0], STOCKS[9]], "weight": [0.25, -0.5, 0.0]})


def held(directory: Path, table: pa.Table | None, terms: PortfolioTerms | None) -> RoundInputs:
    """The tiny round's inputs with a table of what is held, under some terms."""
    store = open_store(write_round(directory, previous_portfolio=table))
    return read_round(store, replace(read_tournament(store), portfolio=terms), 7)


COSTLY = PortfolioTerms(turnover_cost=1.0)


def test_read_round__orders_what_is_held_as_the_universe_and_has_0_for_the_rest(tmp_path: Path) -> None:
    inputs = held(tmp_path, HELD, COSTLY)
    assert inputs.previous_portfolio is not None
    assert inputs.previous_portfolio.tolist() == [-0.5, 0, 0, 0, 0, 0.25, *[0] * (len(STOCKS) - 6)]
    assert "rounds/7/previous_portfolio.parquet" in inputs.hashes


def test_read_round__holds_nothing_where_no_table_says_so(tmp_path: Path) -> None:
    inputs = held(tmp_path, None, COSTLY)
    assert inputs.previous_portfolio is None
    assert not [path for path in inputs.hashes if "previous" in path]


@pytest.mark.parametrize("terms", [None, PortfolioTerms()], ids=["no_portfolio", "no_cost"])
def test_read_round__leaves_what_is_held_unread_where_turnover_costs_nothing(
    tmp_path: Path, terms: PortfolioTerms | None
) -> None:
    inputs = held(tmp_path, pa.table({"nonsense": [1]}), terms)
    assert inputs.previous_portfolio is None
    assert not [path for path in inputs.hashes if "previous" in path]


@pytest.mark.parametrize(
    ("table", "fragments"),
    [
        (HELD.drop(["weight"]), ["column weight is missing"]),
        (with_value(HELD, "id", 1, "stock_77"), ["hold the universe's ids only", "1 not in it (stock_77)"]),
        (with_value(HELD, "id", 1, STOCKS[5]), ["column id must name each only once", "row 1"]),
        (with_value(HELD, "weight", 1, None), ["column weight must not be null, found null in row 1"]),
        (with_value(HELD, "weight", 1, float("nan")), ["column weight must be finite, found nan in row 1"]),
        (with_column(HELD, "capital", [1.0, 1.0, 1.0]), ["column capital"]),
    ],
    ids=["missing", "foreign", "twice", "null", "nan", "unknown"],
)
def test_read_round__refuses_what_is_held(tmp_path: Path, table: pa.Table, fragments: list[str]) -> None:
    assert_refused(lambda: held(tmp_path, table, COSTLY), "rounds/7/previous_portfolio.parquet", *fragments)


def test_portfolio_facts__hand_on_what_is_held(tmp_path: Path) -> None:
    found = plan(tmp_path)
    assert isinstance(found, RoundPlan)
    inputs = held(tmp_path / "again", HELD, COSTLY)
    facts = portfolio_facts(replace(found, inputs=inputs))
    assert facts is not None
    assert facts.previous is inputs.previous_portfolio
