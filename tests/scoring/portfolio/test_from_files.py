"""From a universe and a covariance to weights: against the definition itself, which knows no independent rows."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from scoring.portfolio.cvxpy_layer import CvxpyPortfolio
from scoring.portfolio.factor_portfolio import FactorPortfolio
from scoring.portfolio.problem import NEUTRALITIES, Neutrality, PortfolioTerms, auto_risk_aversion, portfolio_problem
from scoring.rounds import Universe
from tests.reference import raw_portfolio
from tests.scoring.portfolio.problems import Shape, covariance, universe


def with_dummies(seed: int, shape: Shape) -> tuple[Universe, np.ndarray]:
    """Style factors, then what a commercial risk model has besides: the market, a dummy a sector, a dummy a country."""
    stocks = universe(seed, shape)
    assert stocks.country is not None
    assert stocks.sector is not None
    columns = [np.ones(shape.stocks)]
    for labels in (stocks.sector, stocks.country):
        columns += [np.array([float(label == own) for own in labels]) for label in sorted(set(labels))]
    exposures = np.column_stack([np.asarray(stocks.exposures), *columns])
    names = tuple(f"factor_{place}" for place in range(exposures.shape[1]))
    return replace(stocks, factor_names=names, exposures=exposures), covariance(seed, len(names))


TERMS = {
    "default": PortfolioTerms(),
    "market alone": PortfolioTerms(neutral=("market",)),
    "sectors alone": PortfolioTerms(neutral=("sector",), cap=2.0),
    "nothing": PortfolioTerms(neutral=(), leverage=2.0),
    "no bound": PortfolioTerms(exposure_bound=None),
    "tight": PortfolioTerms(cap=1.3, exposure_bound=0.05),
}


@pytest.mark.parametrize("terms", TERMS.values(), ids=TERMS)
@pytest.mark.parametrize("seed", [1, 2])
def test_weights__equal_those_of_the_definition(terms: PortfolioTerms, seed: int) -> None:
    stocks, risk = with_dummies(seed, Shape(90, 5, 6, 4))
    alpha = np.random.default_rng([seed, 6]).normal(size=90)
    problem = portfolio_problem(stocks, risk, terms)
    aversion = auto_risk_aversion(alpha, problem)
    labels_of: dict[Neutrality, tuple[str, ...] | None] = dict(
        zip(NEUTRALITIES, (("all",) * 90, stocks.country, stocks.sector), strict=True)
    )
    labels = [of_kind for kind in terms.neutral if (of_kind := labels_of[kind]) is not None]
    exposures, specific = np.asarray(stocks.exposures), np.asarray(stocks.specific_risk)
    limits = (terms.leverage, terms.cap, terms.exposure_bound)
    expected = raw_portfolio.weights(alpha, labels, exposures, risk, specific, limits)
    for portfolio in (FactorPortfolio(problem, aversion), CvxpyPortfolio(problem, aversion)):
        solved = portfolio.solve(torch.tensor(alpha[None, :]))
        assert solved.reports[0].status == "converged"
        assert np.abs(solved.weights[0].numpy() - expected).max() <= 1e-7 * np.abs(expected).max()
    if terms.neutral == NEUTRALITIES:
        assert problem.factors.shape[1] == 5  # market, sectors and countries are neutral already
