"""The portfolio problem of a round.

    maximise    aᵀw − (γ/2) (yᵀΩy + Σ_j d_j w_j²)        y = Fᵀw
    subject to  Eᵀw = 0        neutral to market, countries, sectors: 0/1 columns, one a group
                |y_f| ≤ e_f    bounded exposure to the factors that have a bound
                |w_j| ≤ u      no position above the cap
                Σ|w_j| ≤ L     leverage

Weights are fractions of the capital; `a` (alpha) is a meta model, dimensionless; Ω and d are covariance and specific
variance of returns as fractions; so γ, the risk aversion, is what makes the two comparable. The risk term makes the
problem strictly convex: `w*` is unique and piecewise linear in `a`, and has a gradient almost everywhere. A linear
programme would have the gradient zero almost everywhere. A cost of leaving what is held may be added (`turnover`).

The failures guarded against: neutrality rows that depend on each other (market = sum of the sectors = the only
country), a factor that is neutral already and would get a bound that never moves, a risk model that is no covariance.

References:
    Numerai docs, True Contribution (2022): what the portfolio is neutral to. Its exact terms were never published.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int64

from scoring.errors import OperatorError
from scoring.portfolio.features import with_features
from scoring.rounds import Features, Universe

Neutrality = Literal["market", "country", "sector"]
NEUTRALITIES: tuple[Neutrality, ...] = ("market", "country", "sector")

_DEPENDENT = 1e-9
"""A column whose distance from the span of others is below this share of its length counts as inside it."""


@dataclass(frozen=True, slots=True)
class PortfolioTerms:
    """The operator's choices under `[portfolio]`.

    Attributes:
        risk_aversion: γ > 0; None for `auto`, see `auto_risk_aversion`.
        leverage: L > 0, Σ|w| as a fraction of capital.
        cap: the largest position is cap · L / n, with cap > 1 where n stocks have to carry the leverage.
        exposure_bound: |exposure| to a factor is at most exposure_bound · L / √n; None for no bound.
        neutral: what the portfolio is exactly neutral to.
        feature_bound: |exposure| to a standardised feature is at most feature_bound · L / √n; None for no bound.
        feature_penalty: variance of the return, as a fraction squared, that a unit of exposure to a feature counts
            as; None for none.
        turnover_cost: c > 0, in units of the risk aversion, see `turnover`; never for True Contribution; None for none.
        solver: `factor`, the structured solver, or `module:function`, a problem of the operator's own.
    """

    risk_aversion: float | None = None
    leverage: float = 1.0
    cap: float = 5.0
    exposure_bound: float | None = 0.3
    neutral: tuple[Neutrality, ...] = NEUTRALITIES
    feature_bound: float | None = None
    feature_penalty: float | None = None
    turnover_cost: float | None = None
    solver: str = "factor"

    def __post_init__(self) -> None:
        limits = ("leverage", "cap", "exposure_bound", "feature_bound")
        for name in ("risk_aversion", *limits, "feature_penalty", "turnover_cost"):
            value = getattr(self, name)
            if value is not None and not (np.isfinite(value) and value > 0):
                raise OperatorError(f"portfolio: {name} must be a number above 0, found {value}")


@dataclass(frozen=True, slots=True)
class PortfolioProblem:
    """Everything about a round's portfolio but alpha and risk aversion.

    Attributes:
        factors: (stock, factor) F, no column in the span of the neutrality rows.
        covariance: (factor, factor) Ω, symmetric positive definite.
        bounds: (factor,) e ≥ 0; inf where a factor has no bound.
        specific: (stock,) d > 0.
        groups: (partition, stock) for each kind of neutrality the number of each stock's group, from 0.
        rows: (row, 2) the independent neutrality rows as pairs (partition, group).
        cap: u, as a fraction of capital.
        leverage: L.
        turnover_cost: c ≥ 0, see `turnover`.
        previous: (stock,) w⁰, fractions of capital; None where trades cost nothing.
    """

    factors: Float64[np.ndarray, "stock factor"]
    covariance: Float64[np.ndarray, "factor factor"]
    bounds: Float64[np.ndarray, " factor"]
    specific: Float64[np.ndarray, " stock"]
    groups: Int64[np.ndarray, "partition stock"]
    rows: Int64[np.ndarray, "row 2"]
    cap: float
    leverage: float
    turnover_cost: float = 0.0
    previous: Float64[np.ndarray, " stock"] | None = None

    @property
    def stocks(self) -> int:
        """Number of stocks."""
        return int(self.specific.size)

    def neutral_columns(self) -> Float64[np.ndarray, "stock row"]:
        """Returns E, dense: 1 where the stock belongs to the row's group."""
        parts, groups = self.rows.T
        return np.ascontiguousarray((self.groups[parts] == groups[:, None]).T, dtype=np.float64)


def portfolio_problem(
    universe: Universe,
    covariance: Float64[np.ndarray, "every every"],
    terms: PortfolioTerms,
    features: Features | None = None,
) -> PortfolioProblem:
    """Returns a round's problem.

    Factors in the span of the neutrality rows (sector dummies, say) have exposure 0 in every feasible portfolio: they
    add no risk and are left out.

    Args:
        universe: with exposures, specific risk, and the labels that the terms are neutral to.
        covariance: of the factor returns, in the order of the universe's factors; as fractions, over one horizon.
        terms: the operator's.
        features: of the same stocks; needed where the terms limit them.

    Raises:
        OperatorError: the universe lacks what is needed; the covariance is not symmetric positive definite; the cap
            leaves no room for the leverage; features are limited and there are none, or too many.
    """
    exposures, specific_risk = universe.exposures, universe.specific_risk
    if exposures is None or specific_risk is None:
        lacking = "factor_<name>" if exposures is None else "specific_risk"
        raise OperatorError(f"portfolio: universe.parquet needs the column {lacking}, which True Contribution rests on")
    _check_covariance(covariance, universe.factor_names)
    stocks = len(universe.ids)
    if terms.cap < 1:
        raise OperatorError(
            f"portfolio: cap must be at least 1, found {terms.cap}: {stocks} positions of at most "
            f"{terms.cap} · leverage / {stocks} could never reach the leverage"
        )
    groups = _partitions(universe, terms.neutral)
    rows, basis = _independent_rows(groups)
    columns, risk, bounds = with_features(exposures, covariance, features, terms)
    kept = np.flatnonzero(~_inside(columns, basis))
    return PortfolioProblem(
        factors=np.ascontiguousarray(columns[:, kept]),
        covariance=np.ascontiguousarray(risk[np.ix_(kept, kept)]),
        bounds=bounds[kept],
        specific=specific_risk**2,
        groups=groups,
        rows=rows,
        cap=terms.cap * terms.leverage / stocks,
        leverage=terms.leverage,
    )


def auto_risk_aversion(alpha: Float64[np.ndarray, " stock"], problem: PortfolioProblem) -> float:
    """Returns Σ|a_j|/d_j / (2L): without other limits the portfolio would have twice the leverage.

    It is computed once a round, from the full meta model, and is a constant: never differentiated.
    """
    total = float(np.sum(np.abs(alpha) / problem.specific))
    if not total > 0:
        raise OperatorError("portfolio: risk_aversion = auto needs a meta model that is not 0 for all stocks")
    return total / (2 * problem.leverage)


def _check_covariance(covariance: Float64[np.ndarray, "every every"], names: Sequence[str]) -> None:
    if covariance.shape != (len(names), len(names)):
        raise OperatorError(
            f"factor_covariance.parquet: must have one row and one column for each of the universe's {len(names)} "
            f"factors, found {covariance.shape[0]} × {covariance.shape[1]}"
        )
    for name, row, variance in zip(names, covariance, np.diag(covariance).tolist(), strict=True):
        if not np.isfinite(row).all():
            raise OperatorError(f"factor_covariance.parquet: must be finite, found otherwise in the row of {name}")
        if not variance > 0:
            raise OperatorError(
                f"factor_covariance.parquet: must be positive definite, found the variance {variance} for {name}"
            )
    apart = np.abs(covariance - covariance.T) > 1e-9 * np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    if apart.any():
        row, column = np.argwhere(apart)[0]
        raise OperatorError(
            f"factor_covariance.parquet: must be symmetric, found {float(covariance[row, column])!r} for {names[row]}, "
            f"{names[column]} and {float(covariance[column, row])!r} the other way round"
        )
    scale = np.sqrt(np.diag(covariance))
    smallest = float(np.linalg.eigvalsh(covariance / np.outer(scale, scale)).min())
    if smallest < 1e-12:
        raise OperatorError(
            "factor_covariance.parquet: must be positive definite, the smallest eigenvalue of its correlations is "
            f"{smallest:.3g}; is a factor there twice?"
        )


def _partitions(universe: Universe, neutral: Sequence[Neutrality]) -> Int64[np.ndarray, "partition stock"]:
    partitions = []
    for kind in NEUTRALITIES:
        if kind not in neutral:
            continue
        labels = ("all",) * len(universe.ids) if kind == "market" else getattr(universe, kind)
        if labels is None:
            raise OperatorError(f"portfolio: neutral to {kind!r} needs the column {kind!r} in universe.parquet")
        number = {label: place for place, label in enumerate(sorted(set(labels)))}
        partitions.append([number[label] for label in labels])
    return np.array(partitions, dtype=np.int64).reshape(len(partitions), len(universe.ids))


def _independent_rows(
    groups: Int64[np.ndarray, "partition stock"],
) -> tuple[Int64[np.ndarray, "row 2"], Float64[np.ndarray, "stock row"]]:
    """Returns neutrality rows that do not depend on each other, and an orthonormal basis of their span.

    The finest partitions come first, so that the market goes where sectors or countries already say it.
    """
    stocks = groups.shape[1]
    rows: list[tuple[int, int]] = []
    basis = np.zeros((stocks, 0))
    for part in sorted(range(len(groups)), key=lambda part: -int(groups[part].max())):
        for group in range(int(groups[part].max()) + 1):
            column = (groups[part] == group).astype(np.float64)
            rest = _rest(column[:, None], basis)[:, 0]
            length = np.linalg.norm(rest)
            if length > _DEPENDENT * np.linalg.norm(column):
                rows.append((part, group))
                basis = np.column_stack([basis, rest / length])
    return np.array(rows, dtype=np.int64).reshape(len(rows), 2), basis


def _rest(
    columns: Float64[np.ndarray, "stock column"], basis: Float64[np.ndarray, "stock row"]
) -> Float64[np.ndarray, "stock column"]:
    """Returns what of each column is outside the span of the basis; twice, which makes it exact to rounding."""
    for _ in range(2):
        columns = columns - basis @ (basis.T @ columns)
    return columns


def _inside(exposures: Float64[np.ndarray, "stock every"], basis: Float64[np.ndarray, "stock row"]) -> np.ndarray:
    """Says which columns lie in the span of the basis."""
    lengths = np.linalg.norm(exposures, axis=0)
    outside = np.linalg.norm(_rest(exposures, basis), axis=0)
    return np.asarray(outside <= _DEPENDENT * np.maximum(lengths, np.finfo(np.float64).tiny))
