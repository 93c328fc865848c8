"""Features as further factors of a portfolio: their exposures bounded, or priced as if they were risk.

A feature is standardised over the stocks. `feature_penalty` is the variance of the return that a unit of exposure is
held to have, independent of everything else; `feature_bound` limits the exposure. A feature with a bound alone gets a
negligible variance, which keeps the risk model positive definite and the portfolio unique.

The failure guarded against: thousands of features, whose products of pairs would not fit into memory.
"""

from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float64

from scoring.errors import OperatorError
from scoring.rounds import Features

if TYPE_CHECKING:
    from scoring.portfolio.problem import PortfolioTerms

MOST_FEATURES = 200
_NEGLIGIBLE = 1e-6
"""Of the smallest variance of a factor: what an exposure that is bounded but not penalised counts as risk."""


def with_features(
    exposures: Float64[np.ndarray, "stock every"],
    covariance: Float64[np.ndarray, "every every"],
    features: Features | None,
    terms: "PortfolioTerms",
) -> tuple[Float64[np.ndarray, "stock all"], Float64[np.ndarray, "all all"], Float64[np.ndarray, " all"]]:
    """Returns exposures, covariance and bounds of the factors and, where the terms ask for it, of the features.

    Args:
        exposures: of the risk factors.
        covariance: theirs.
        features: of the round, over the same stocks.
        terms: the operator's.

    Raises:
        OperatorError: the terms limit features, and the round has none or too many.
    """
    stocks, factors = exposures.shape
    unit = terms.leverage / np.sqrt(stocks)
    bounds = np.full(factors, np.inf if terms.exposure_bound is None else terms.exposure_bound * unit)
    if terms.feature_bound is None and terms.feature_penalty is None:
        return exposures, covariance, bounds
    columns = _standardised(features)
    count = columns.shape[1]
    variance = terms.feature_penalty or _NEGLIGIBLE * float(np.diag(covariance).min(initial=1.0))
    joined = np.zeros((factors + count, factors + count))
    joined[:factors, :factors] = covariance
    joined[range(factors, factors + count), range(factors, factors + count)] = variance
    limits = np.full(count, np.inf if terms.feature_bound is None else terms.feature_bound * unit)
    return np.column_stack([exposures, columns]), joined, np.concatenate([bounds, limits])


def _standardised(features: Features | None) -> Float64[np.ndarray, "stock feature"]:
    """Returns the features with mean 0 and standard deviation 1, without those that are the same for all stocks."""
    if features is None:
        raise OperatorError("portfolio: limits on features need features.parquet, found none")
    if len(features.names) > MOST_FEATURES:
        raise OperatorError(
            f"portfolio: limits on features are for at most {MOST_FEATURES} of them, found {len(features.names)}"
        )
    values = features.values.astype(np.float64)
    centred = values - values.mean(axis=0)
    spread = np.sqrt((centred**2).mean(axis=0))
    differing = spread > 0
    return centred[:, differing] / spread[differing]
