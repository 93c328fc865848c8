"""Limits on features: kept, exact like all others, and refused where they cannot be had."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scoring.errors import OperatorError
from scoring.portfolio.factor_portfolio import FactorPortfolio
from scoring.portfolio.features import MOST_FEATURES
from scoring.portfolio.problem import PortfolioProblem, PortfolioTerms, auto_risk_aversion, portfolio_problem
from scoring.rounds import Features
from tests.reference import portfolio as reference
from tests.scoring.portfolio.problems import Case, Shape, case, covariance, universe

SHAPE = Shape(80, 4, 3, 2, bags=3)
SEED = 9
VALUES = np.random.default_rng(SEED).integers(0, 5, (SHAPE.stocks, 6)).astype(np.int8)
VALUES[:, 4] = VALUES[:, 0]  # a copy, and a feature that says nothing
VALUES[:, 5] = 3
FEATURES = Features(tuple(f"feature_{at}" for at in range(6)), VALUES)
UNIT = 1 / np.sqrt(SHAPE.stocks)


def problem_of(terms: PortfolioTerms, features: Features | None = FEATURES) -> PortfolioProblem:
    return portfolio_problem(universe(SEED, SHAPE), covariance(SEED, SHAPE.factors), terms, features)


def solve(terms: PortfolioTerms, features: Features = FEATURES) -> tuple[Case, np.ndarray, np.ndarray]:
    """Weights and gradients of the bags, each converged."""
    problem = problem_of(terms, features)
    c = case(SEED, SHAPE)
    c = replace(c, problem=problem, risk_aversion=auto_risk_aversion(c.alpha[0], problem))
    portfolio = FactorPortfolio(problem, c.risk_aversion)
    solved = portfolio.solve(torch.tensor(c.alpha))
    assert {report.status for report in solved.reports} == {"converged"}
    return c, solved.weights.numpy(), portfolio.pull_back(solved, torch.tensor(c.returns)).numpy()


def exposures(weights: np.ndarray) -> np.ndarray:
    standardised = (VALUES[:, :5] - VALUES[:, :5].mean(axis=0)) / VALUES[:, :5].std(axis=0)
    return np.abs(weights @ standardised)


def test_portfolio_problem__keeps_bounds_on_features_that_would_be_broken_without_them() -> None:
    bound = 0.05
    assert exposures(solve(PortfolioTerms())[1]).max() > 2 * bound * UNIT
    assert exposures(solve(PortfolioTerms(feature_bound=bound))[1]).max() <= bound * UNIT * (1 + 1e-9)


def test_portfolio_problem__a_penalty_draws_exposures_to_0() -> None:
    free, mild, strong = (
        exposures(solve(PortfolioTerms(feature_penalty=penalty))[1]).mean() for penalty in (None, 1e-4, 1e-2)
    )
    assert strong < mild / 2 < free / 2


@pytest.mark.parametrize(
    "terms",
    [
        PortfolioTerms(feature_bound=0.05),
        PortfolioTerms(feature_penalty=1e-4),
        PortfolioTerms(None, 1.0, 5.0, None, feature_bound=0.1),
    ],
    ids=["bound", "penalty", "features_only"],
)
def test_portfolio_problem__with_features_is_solved_as_exactly_as_without(terms: PortfolioTerms) -> None:
    # Without the copy, whose bound is another one's: Clarabel, the oracle, gives up a few digits for it.
    c, weights, gradients = solve(terms, Features(FEATURES.names[:4], VALUES[:, :4]))
    for alpha, found, gradient in zip(c.alpha, weights, gradients, strict=True):
        expected = reference.weights(c.problem, c.risk_aversion, alpha)
        assert np.abs(found - expected).max() <= 1e-7 * np.abs(expected).max()
        for along in c.gaussianised[:3]:
            slope = reference.slope(c.problem, c.risk_aversion, alpha, c.returns, along)
            assert abs(gradient @ along - slope) <= 1e-6 * np.linalg.norm(gradient) * np.linalg.norm(along)


def test_portfolio_problem__leaves_out_features_that_are_the_same_for_all_stocks() -> None:
    assert problem_of(PortfolioTerms(feature_bound=0.1)).factors.shape[1] == SHAPE.factors + 5
    assert problem_of(PortfolioTerms()).factors.shape[1] == SHAPE.factors


def test_portfolio_problem__refuses_limits_on_features_that_are_missing_or_too_many() -> None:
    limited = PortfolioTerms(feature_bound=0.1)
    with pytest.raises(OperatorError, match=r"need features\.parquet, found none"):
        problem_of(limited, None)
    names = tuple(f"feature_{at}" for at in range(MOST_FEATURES + 1))
    many = Features(names, np.ones((SHAPE.stocks, len(names)), np.int8))
    with pytest.raises(OperatorError, match="at most 200 of them, found 201"):
        problem_of(limited, many)
