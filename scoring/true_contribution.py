"""True Contribution: how the return of the optimised portfolio changes with a model's stake.

    x = Σ_i s_i g(p_i)        the meta model as a linear layer over the stakes, as shares of the round's total
    w*(x)                     the portfolio with x as alpha (scoring.portfolio)
    R = rᵀ w*                 its realised return
    TC_i = dR/ds_i = g(p_i)·v        v = (∂w*/∂x)ᵀ r

The stakes go through dropout bags: each bag drops every stake independently and doubles the survivors (at dropout ½),
and TC is the mean over the bags of the gradient taken there. It is the same price vector for every model, staked or
not: `price = mean_b v_b`, which is published, so that anyone can check his own score with one dot product.

`tc_raw` is the gradient for the whole round's stake: what R would gain if a model's share grew by 1. Money is paid on
`tc`, which is `tc_raw` brought to a stated spread. Late submissions have neither.

References:
    Numerai docs, True Contribution (2022). Srivastava et al., Dropout (JMLR 15, 2014), for the scaling of survivors.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from jaxtyping import Float64, Int64

from scoring.correlation import products
from scoring.meta_model import from_sums
from scoring.portfolio.report import BagReport
from scoring.published import score_units, units_to_float
from scoring.ranks import Ranks, gauss_table
from scoring.rounds import Targets, TrueContributionOptions

_UNITS = 10**12


@dataclass(frozen=True, slots=True)
class TrueContribution:
    """What a round's dropout bags give.

    Attributes:
        price: (stock,) mean of the bags' gradients, over the universe.
        portfolio: (stock,) w* of the full meta model, fractions of capital; the price knows nothing of what was held.
        risk_aversion: γ in force.
        reports: how each bag went, in the order of their numbers.
        device: kind of device that solved them, cpu or cuda.
        solver: by which they were solved, see `PortfolioTerms`.
    """

    price: Float64[np.ndarray, " stock"]
    portfolio: Float64[np.ndarray, " stock"]
    risk_aversion: float
    reports: tuple[BagReport, ...]
    device: str = "cpu"
    solver: str = "factor"


@dataclass(frozen=True, slots=True)
class Scaling:
    """How `tc` follows from `tc_raw`: (tc_raw − centre) · factor, in doubles."""

    centre: float = 0.0
    factor: float = 1.0

    def apply(self, raw: int) -> int:
        """Returns the published `tc` of a published `tc_raw`, both in units of 1e-12."""
        return score_units((units_to_float(raw) - self.centre) * self.factor)


def bag_alphas(
    sums: Int64[np.ndarray, "bag stock"], options: TrueContributionOptions
) -> Float64[np.ndarray, "bag stock"]:
    """Returns the alphas of dropout bags: the survivors' meta models, scaled by 1/(1 − dropout)."""
    survivors = float(1 / (1 - options.dropout))
    return np.stack([from_sums(row) for row in sums]) * survivors


def returns_of_universe(targets: Targets, stocks: int) -> Float64[np.ndarray, " stock"]:
    """Returns r over the universe; a stock without a return counts as one that did not move.

    Args:
        targets: with realised returns.
        stocks: of the universe.
    """
    returns = np.zeros(stocks)
    if targets.realised is not None:
        returns[targets.positions] = targets.realised
    return returns


def true_contribution(ranks: Ranks, price: Float64[np.ndarray, " stock"]) -> Float64[np.ndarray, " model"]:
    """Returns `tc_raw` = g(p)·price for each model, over the universe."""
    return products(ranks, gauss_table(ranks.stocks), [price]).inner[:, 0]


def flagged(reports: Iterable[BagReport]) -> int:
    """Returns the number of bags whose gradient cannot be trusted."""
    return sum(report.status != "converged" for report in reports)


def scaling(raw: Sequence[int], options: TrueContributionOptions) -> Scaling:
    """Returns how a round's `tc` follows from its published `tc_raw`.

    Mean and spread are those of the published numbers, summed exactly.

    Args:
        raw: published `tc_raw` of all models that have one, in units of 1e-12.
        options: the operator's.
    """
    if options.scaling == "raw" or not raw:
        return Scaling()
    mean = Fraction(sum(raw), len(raw)) if options.scaling == "z_score" else Fraction(0)
    variance = Fraction(sum(value * value for value in raw), len(raw)) - mean * mean
    spread = math.sqrt(variance / _UNITS**2)
    return Scaling(float(mean / _UNITS), float(options.spread) / spread if spread > 0 else 0.0)
