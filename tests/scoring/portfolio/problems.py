"""Seeded portfolio problems for the tests: an ordinary one, and every setting that is hard on a solver."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from scoring.portfolio.problem import PortfolioProblem, PortfolioTerms, auto_risk_aversion, portfolio_problem
from scoring.ranks import Ranks, gauss_table, rank, values
from scoring.rounds import Universe


@dataclass(frozen=True)
class Case:
    """A round's problem with everything that its True Contribution needs.

    Attributes:
        problem: the problem.
        risk_aversion: γ.
        ranks: the submissions.
        stakes: (model,) before dropout.
        bag_stakes: (bag, model) after it: the first bag is without dropout, the others drop half and double the rest.
        returns: (stock,) what happened.
    """

    problem: PortfolioProblem
    risk_aversion: float
    ranks: Ranks
    stakes: np.ndarray
    bag_stakes: np.ndarray
    returns: np.ndarray

    @property
    def gaussianised(self) -> np.ndarray:
        """(model, stock) U."""
        return values(self.ranks, gauss_table(self.ranks.stocks))

    @property
    def alpha(self) -> np.ndarray:
        """(bag, stock) the meta model of every bag."""
        return self.bag_stakes @ self.gaussianised / self.stakes.sum()


@dataclass(frozen=True)
class Shape:
    """What a problem is made of; `aversion` is in units of `auto`, `bins` of 0 gives submissions without ties."""

    stocks: int = 40
    factors: int = 4
    sectors: int = 3
    countries: int = 2
    bags: int = 3
    bins: int = 0
    twins: bool = False
    aversion: float = 1.0
    terms: PortfolioTerms = PortfolioTerms()  # noqa: RUF009  # frozen


def ids(count: int) -> tuple[str, ...]:
    """Sorted ids."""
    return tuple(f"s{number:05d}" for number in range(count))


def universe(seed: int, shape: Shape) -> Universe:
    """Stocks with labels in turns, style factors, and a daily specific risk of 1 to 3 %."""
    rng = np.random.default_rng([seed, 1])
    half = shape.stocks // 2 if shape.twins else shape.stocks
    twin = np.arange(shape.stocks) % half
    country = rng.permutation(np.arange(half) % shape.countries)[twin]
    return Universe(
        ids=ids(shape.stocks),
        country=tuple(f"c{number}" for number in country),
        sector=tuple(f"g{number:03d}" for number in (np.arange(half) % shape.sectors)[twin]),
        factor_names=tuple(f"f{number}" for number in range(shape.factors)),
        exposures=rng.normal(size=(half, shape.factors))[twin],
        specific_risk=rng.uniform(0.01, 0.03, half)[twin],
    )


def covariance(seed: int, factors: int) -> np.ndarray:
    """Of factor returns of about 0.3 % a day, correlated."""
    rng = np.random.default_rng([seed, 2])
    loadings = rng.normal(size=(factors, 2))
    spread = rng.uniform(0.002, 0.005, factors)
    together = loadings @ loadings.T / 4 + np.eye(factors)
    return together * np.outer(spread, spread)


def submissions(seed: int, shape: Shape, models: int = 9) -> Ranks:
    """Noisy views of one signal; the second is the first's opposite, the third its copy."""
    rng = np.random.default_rng([seed, 3])
    half = shape.stocks // 2 if shape.twins else shape.stocks
    twin = np.arange(shape.stocks) % half
    views = (0.5 * rng.normal(size=half) + rng.normal(size=(models, half)))[:, twin]
    if shape.bins:
        views = np.floor(shape.bins * views.argsort(axis=1).argsort(axis=1) / shape.stocks)
    views[1], views[2] = -views[0], views[0]
    return rank([f"m{number}" for number in range(models)], views)


def case(seed: int, shape: Shape = Shape()) -> Case:
    """A problem and its submissions; the last model has no stake."""
    rng = np.random.default_rng([seed, 4])
    ranks = submissions(seed, shape)
    stakes = np.round(rng.pareto(1.2, len(ranks.models)) * 10 + 1, 2)
    stakes[1], stakes[-1] = stakes[1] / 4, 0.0
    kept = rng.random((shape.bags, stakes.size)) < 0.5
    kept[0], bag_stakes = True, np.zeros((shape.bags, stakes.size))
    bag_stakes[kept] = np.broadcast_to(2 * stakes, kept.shape)[kept]
    bag_stakes[0] = stakes
    problem = portfolio_problem(universe(seed, shape), covariance(seed, shape.factors), shape.terms)
    made = Case(problem, 1.0, ranks, stakes, bag_stakes, rng.normal(0, 0.02, shape.stocks))
    return replace(made, risk_aversion=shape.aversion * auto_risk_aversion(made.alpha[0], problem))


def equality_only(seed: int) -> Case:
    """No limit but neutrality: no bound, a cap out of reach, and so averse that the leverage is not used up."""
    return case(seed, Shape(aversion=20.0, terms=PortfolioTerms(cap=1000.0, exposure_bound=None)))


def scale_free(seed: int, stocks: int = 40) -> Case:
    """A forecast of up or down, little aversion, leverage the only limit: the portfolio ignores the forecast's size.

    Any portfolio with the forecast's signs and all of the leverage earns the same, the most; among these the risk
    alone decides. So a larger alpha changes nothing, though alpha's direction does.
    """
    rng = np.random.default_rng([seed, 5])
    up = rng.permutation(np.arange(stocks) % 2).astype(float)
    ranks = rank(["up", "down", "copy", "unstaked"], np.stack([up, -up, up, up]))
    stakes = np.array([30.0, 5.0, 11.0, 0.0])
    terms = PortfolioTerms(cap=1000.0, exposure_bound=None, neutral=())
    shape = Shape(stocks=stocks, terms=terms)
    problem = portfolio_problem(universe(seed, shape), covariance(seed, shape.factors), terms)
    dropped = np.array([[1, 1, 1, 1], [2, 0, 0, 0], [0, 2, 2, 2], [2, 2, 0, 2], [0, 2, 0, 0]])
    made = Case(problem, 1.0, ranks, stakes, dropped * stakes, rng.normal(0, 0.02, stocks))
    return replace(made, risk_aversion=auto_risk_aversion(made.alpha[0], problem) / 200)


HARD: dict[str, Callable[[int], Case]] = {
    "duplicated stocks": lambda seed: case(seed, Shape(60, twins=True)),
    "duplicated stocks, tight leverage": lambda seed: case(seed, Shape(60, twins=True, aversion=0.05)),
    "five bins": lambda seed: case(seed, Shape(60, bins=5)),
    "five bins, tight leverage": lambda seed: case(seed, Shape(60, bins=5, aversion=0.05)),
    "caps of 1.2/n": lambda seed: case(seed, Shape(60, terms=PortfolioTerms(cap=1.2))),
    "caps of 1.2/n, tight leverage": lambda seed: case(seed, Shape(60, aversion=0.02, terms=PortfolioTerms(cap=1.2))),
    "single-stock groups": lambda seed: case(seed, Shape(48, sectors=40)),
    "groups of two": lambda seed: case(seed, Shape(60, sectors=30)),
    "tight leverage": lambda seed: case(seed, Shape(60, aversion=0.01)),
    "no leverage": lambda seed: case(seed, Shape(60, aversion=30.0)),
    "no leverage, caps of 1.2/n": lambda seed: case(seed, Shape(60, aversion=4.0, terms=PortfolioTerms(cap=1.2))),
    "tight exposures": lambda seed: case(seed, Shape(60, 12, terms=PortfolioTerms(exposure_bound=0.001))),
    "everything tight": lambda seed: case(
        seed, Shape(60, 8, aversion=0.02, terms=PortfolioTerms(cap=1.3, exposure_bound=0.01))
    ),
    "100 factors, 100 groups": lambda seed: case(seed, Shape(240, 100, sectors=97, countries=4, bags=2)),
    "100 factors, 100 groups, averse": lambda seed: case(
        seed, Shape(240, 100, sectors=97, countries=4, bags=2, aversion=10.0)
    ),
}
