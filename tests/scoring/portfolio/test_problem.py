"""The arrays of a round's portfolio problem: what is kept, what is left out, and what an operator hears."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from scoring.errors import OperatorError
from scoring.portfolio.problem import PortfolioTerms, auto_risk_aversion, portfolio_problem
from scoring.rounds import Universe
from tests.scoring.portfolio.problems import Shape, case, covariance, ids, universe

SHAPE = Shape(stocks=24, factors=3, sectors=4, countries=3)


def labelled(country: str, sector: str) -> Universe:
    """One letter a stock and kind."""
    n = len(country)
    exposures = np.random.default_rng(1).normal(size=(n, 1))
    return Universe(ids(n), tuple(country), tuple(sector), ("style",), exposures, np.full(n, 0.02))


def rank_of(columns: np.ndarray) -> int:
    return int(np.linalg.matrix_rank(columns, tol=1e-9))


# Neutrality ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("country", "sector", "rows"),
    [
        ("aaaaaa", "xxyyzz", 3),  # market and country are the sum of the sectors
        ("aabbcc", "xxyyzz", 3),  # the same groups under other names
        ("aaabbb", "xyzxyz", 4),  # crossed: both add up to the market
        ("aabbcc", "xxyyyy", 3),  # sectors that are sums of countries
        ("aaaaab", "xxyyyz", 3),  # a stock alone in both
        ("abcdef", "uvwxyz", 6),  # everyone alone: nothing can be held
        ("aaaaaa", "xxxxxx", 1),
    ],
)
def test_portfolio_problem__keeps_independent_rows_with_the_span_of_all(country: str, sector: str, rows: int) -> None:
    problem = portfolio_problem(labelled(country, sector), np.eye(1), PortfolioTerms())
    kept = problem.neutral_columns()
    every = [np.ones(len(country))]
    every += [np.array([label == group for label in labels], float) for labels in (country, sector) for group in labels]
    assert kept.shape == (len(country), rows)
    assert rank_of(kept) == rows == rank_of(np.column_stack([kept, *every]))
    assert set(np.unique(kept)) <= {0.0, 1.0}


def test_portfolio_problem__market_alone_is_one_row_and_nothing_is_none() -> None:
    stocks = universe(1, SHAPE)
    market = portfolio_problem(stocks, covariance(1, 3), PortfolioTerms(neutral=("market",)))
    free = portfolio_problem(stocks, covariance(1, 3), PortfolioTerms(neutral=()))
    assert market.neutral_columns().tolist() == [[1.0]] * 24
    assert len(free.rows) == 0
    assert free.neutral_columns().shape == (24, 0)
    assert free.stocks == 24


def test_portfolio_problem__leaves_out_the_market_where_sectors_say_it() -> None:
    """The finest partition's rows come first and stay whole."""
    problem = portfolio_problem(labelled("aaabbb", "xyzxyz"), np.eye(1), PortfolioTerms())
    sizes = problem.neutral_columns().sum(axis=0)
    assert sizes.max() < 6


@pytest.mark.parametrize("seed", range(5))
def test_portfolio_problem__rows_have_full_rank_whatever_the_labels(seed: int) -> None:
    rng = np.random.default_rng(seed)
    country, sector = ("".join(rng.choice(list("abcdefgh"), 30)) for _ in range(2))
    kept = portfolio_problem(labelled(country, sector), np.eye(1), PortfolioTerms()).neutral_columns()
    dummies = [[label == group for group in sorted(set(labels))] for labels in (country, sector) for label in labels]
    every = np.hstack([np.array(dummies[:30], float), np.array(dummies[30:], float), np.ones((30, 1))])
    assert rank_of(kept) == kept.shape[1] == rank_of(every)


# Factors ---------------------------------------------------------------------------------------------------------


def test_portfolio_problem__leaves_out_factors_inside_the_neutral_span() -> None:
    """Sector dummies among the factors, as in the S&P tournament; with their rows of the covariance."""
    stocks = universe(2, SHAPE)
    assert stocks.exposures is not None
    assert stocks.sector is not None
    dummy = np.array([label == "g001" for label in stocks.sector], float)
    mixed = 0.3 * dummy - 2.0
    exposures = np.column_stack([dummy, stocks.exposures[:, 0], mixed, stocks.exposures[:, 1], np.zeros(24)])
    full = covariance(2, 5)
    names = ("sector", "value", "mixed", "size", "empty")
    problem = portfolio_problem(
        replace(stocks, exposures=exposures, factor_names=names), full, PortfolioTerms(exposure_bound=0.5)
    )
    assert np.array_equal(problem.factors, exposures[:, [1, 3]])
    assert np.array_equal(problem.covariance, full[np.ix_([1, 3], [1, 3])])
    assert problem.bounds == pytest.approx([0.5 / np.sqrt(24)] * 2)


def test_portfolio_problem__keeps_a_factor_that_is_almost_neutral() -> None:
    stocks = universe(3, SHAPE)
    exposures = np.ones((24, 1))
    exposures[0, 0] += 1e-6
    problem = portfolio_problem(
        replace(stocks, exposures=exposures, factor_names=("near",)), np.eye(1), PortfolioTerms()
    )
    assert problem.factors.shape == (24, 1)


def test_portfolio_problem__limits_scale_with_leverage_and_stocks() -> None:
    terms = PortfolioTerms(leverage=2.0, cap=3.0, exposure_bound=None)
    stocks = universe(4, SHAPE)
    problem = portfolio_problem(stocks, covariance(4, 3), terms)
    assert problem.cap == pytest.approx(3 * 2 / 24)
    assert problem.leverage == 2.0
    assert np.isinf(problem.bounds).all()
    assert stocks.specific_risk is not None
    assert problem.specific == pytest.approx(stocks.specific_risk**2)


def test_auto_risk_aversion__leaves_twice_the_leverage_to_an_unlimited_portfolio() -> None:
    """Where γ d_j w_j = a_j, Σ|w_j| = 2L."""
    c = case(5, SHAPE)
    aversion = auto_risk_aversion(c.alpha[0], c.problem)
    assert np.abs(c.alpha[0] / (aversion * c.problem.specific)).sum() == pytest.approx(2 * c.problem.leverage)


# What an operator hears ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["risk_aversion", "leverage", "cap", "exposure_bound", "turnover_cost"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_portfolio_terms__must_be_above_0(name: str, value: float) -> None:
    with pytest.raises(OperatorError, match=f"portfolio: {name} must be a number above 0, found {value}"):
        PortfolioTerms(**{name: value})


@pytest.mark.parametrize(
    ("without", "message"),
    [
        ("exposures", "needs the column factor_<name>"),
        ("specific_risk", "needs the column specific_risk"),
        ("country", "neutral to 'country' needs the column 'country'"),
        ("sector", "neutral to 'sector' needs the column 'sector'"),
    ],
)
def test_portfolio_problem__says_which_column_is_missing(without: str, message: str) -> None:
    lacking: dict[str, Any] = {without: None}
    with pytest.raises(OperatorError, match=message):
        portfolio_problem(replace(universe(6, SHAPE), **lacking), covariance(6, 3), PortfolioTerms())


def test_portfolio_problem__needs_no_label_that_it_is_not_neutral_to() -> None:
    stocks = replace(universe(6, SHAPE), country=None)
    assert portfolio_problem(stocks, covariance(6, 3), PortfolioTerms(neutral=("market", "sector"))).stocks == 24


def test_portfolio_problem__says_that_the_cap_leaves_no_room() -> None:
    with pytest.raises(OperatorError, match=r"cap must be at least 1, found 0\.9: 24 positions"):
        portfolio_problem(universe(6, SHAPE), covariance(6, 3), PortfolioTerms(cap=0.9))


ASYMMETRIC = np.eye(3) + np.array([[0, 0, 0.1], [0, 0, 0], [0, 0, 0]])
TWICE = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (np.eye(2), "one row and one column for each of the universe's 3 factors, found 2 × 2"),
        (ASYMMETRIC, "must be symmetric, found .*0.1.* for f0, f2 and .*0.0.* the other way round"),
        (TWICE, "must be positive definite.*is a factor there twice\\?"),
        (np.diag([1.0, -1.0, 1.0]), "must be positive definite"),
        (np.diag([1.0, 0.0, 1.0]), "must be positive definite"),
        (np.full((3, 3), np.nan), "factor_covariance.parquet"),
    ],
)
def test_portfolio_problem__says_what_is_wrong_with_the_covariance(matrix: np.ndarray, message: str) -> None:
    with pytest.raises(OperatorError, match=message):
        portfolio_problem(universe(6, SHAPE), matrix, PortfolioTerms())


def test_portfolio_problem__takes_a_covariance_of_any_unit() -> None:
    """Variances of 1e-12 are small, not singular."""
    small = covariance(6, 3) * 1e-8
    problem = portfolio_problem(universe(6, SHAPE), small, PortfolioTerms())
    assert np.array_equal(problem.covariance, small)


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_auto_risk_aversion__needs_a_meta_model(value: float) -> None:
    c = case(7, SHAPE)
    with pytest.raises(OperatorError, match="needs a meta model that is not 0"):
        auto_risk_aversion(np.full(24, value), c.problem)
