"""Ranks: what a submission is.

Every score depends on a submission only through its tie-kept ranks, so a round is kept as ranks: one small integer a
stock and model, twice the average rank (a whole number even in ties). Two bytes a cell: 120 MB for 10 000 models of
6 000 stocks. A function of a rank is then a table of 2n + 1 entries, and mirrored tables make `1 − p` score exactly the
negative of `p`: the failure guarded against is a pair of opposite submissions that does not cancel.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float64, Int64, Shaped

from scoring.kernels.ranking import break_ties_rows, rank_rows, restrict_rows
from scoring.normal import normal_quantile

MAX_STOCKS_16_BIT = 32_767


@dataclass(frozen=True, slots=True)
class Ranks:
    """The tie-kept ranks of some models over the same stocks.

    Attributes:
        models: their names, one a row.
        doubled: (model, stock) twice the average rank, 2 … 2n; uint16 up to 32 767 stocks, else uint32. Stocks stand
            in the order of their sorted ids.
    """

    models: tuple[str, ...]
    doubled: Shaped[np.ndarray, "model stock"]

    def __post_init__(self) -> None:
        if self.doubled.shape[0] != len(self.models):
            raise ValueError(f"ranks need one row a model: {len(self.models)} models, {self.doubled.shape[0]} rows")

    @property
    def stocks(self) -> int:
        """The number of stocks, n."""
        return int(self.doubled.shape[1])


def rank(models: Sequence[str], predictions: Float64[np.ndarray, "model stock"]) -> Ranks:
    """Ranks each row of predictions, ties kept.

    Args:
        models: one name a row.
        predictions: (model, stock) finite; only their order matters.
    """
    doubled = _empty_like(predictions, predictions.shape[1])
    rank_rows(np.ascontiguousarray(predictions), doubled)
    return Ranks(tuple(models), doubled)


def rank_vector(values: Float64[np.ndarray, " stock"]) -> Ranks:
    """Ranks one vector over stocks, such as a meta model.

    Raises:
        ValueError: it holds a NaN or an infinity, which have no rank.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"only finite numbers have ranks, found {values[~np.isfinite(values)][0]}")
    return rank(("",), values[None, :])


def restrict(ranks: Ranks, positions: Int64[np.ndarray, " scored"]) -> Ranks:
    """Ranks anew among the stocks at ascending `positions`; the same object where that is all of them."""
    if positions.size == ranks.stocks:
        return ranks
    doubled = _empty_like(ranks.doubled, positions.size)
    restrict_rows(ranks.doubled, positions, doubled)
    return Ranks(ranks.models, doubled)


def break_ties(ranks: Ranks) -> Ranks:
    """Breaks ties by sorted id: the stock whose id comes first gets the lower rank."""
    doubled = np.empty_like(ranks.doubled)
    break_ties_rows(ranks.doubled, doubled)
    return Ranks(ranks.models, doubled)


def is_constant(ranks: Ranks) -> Bool[np.ndarray, " model"]:
    """Says of each model whether it puts all stocks into one tie."""
    return (ranks.doubled == ranks.doubled[:, :1]).all(axis=1)


def select(ranks: Ranks, rows: Sequence[int]) -> Ranks:
    """Returns the models at `rows`, in that order."""
    return Ranks(tuple(ranks.models[row] for row in rows), ranks.doubled[list(rows)])


def values(ranks: Ranks, table: Float64[np.ndarray, " rank"]) -> Float64[np.ndarray, "model stock"]:
    """Returns table[rank] for each model and stock: 8 bytes a cell, so for few models at a time."""
    found: Float64[np.ndarray, "model stock"] = table[ranks.doubled]
    return found


@lru_cache(maxsize=8)
def uniform_table(stocks: int) -> Float64[np.ndarray, " rank"]:
    """Returns (rank − 0.5)/n − 0.5 for each doubled rank: uniform, centred so that it mirrors exactly.

    The constant 0.5 that this leaves out changes no score that is built on a centred vector.
    """
    doubled = np.arange(2 * stocks + 1)
    return _mirrored((doubled - 1) / (2 * stocks) - 0.5, stocks)


@lru_cache(maxsize=8)
def gauss_table(stocks: int) -> Float64[np.ndarray, " rank"]:
    """Returns Φ⁻¹((rank − 0.5)/n) for each doubled rank."""
    table = np.zeros(2 * stocks + 1)
    table[2 : stocks + 1] = normal_quantile(np.arange(1, stocks) / (2 * stocks))
    return _mirrored(table, stocks)


@lru_cache(maxsize=8)
def power_table(stocks: int) -> Float64[np.ndarray, " rank"]:
    """Returns sign(g)·|g|^1.5 for each doubled rank, g = Φ⁻¹((rank − 0.5)/n)."""
    return power(gauss_table(stocks))


def power(vector: Float64[np.ndarray, " any"]) -> Float64[np.ndarray, " any"]:
    """Returns sign(x)·|x|^1.5 as x·√|x|: multiplication and square root are exact to the last bit everywhere,
    `np.power` is not."""
    return vector * np.sqrt(np.abs(vector))


def _mirrored(table: Float64[np.ndarray, " rank"], stocks: int) -> Float64[np.ndarray, " rank"]:
    """Makes table[2n + 2 − d] = −table[d] hold exactly; entries 0 and 1 belong to no rank."""
    table[stocks + 2 :] = -table[stocks:1:-1]
    table[stocks + 1] = 0.0
    table[:2] = 0.0
    table.setflags(write=False)
    return table


def _empty_like(rows: Shaped[np.ndarray, "model any"], stocks: int) -> Shaped[np.ndarray, "model stock"]:
    dtype = np.uint16 if stocks <= MAX_STOCKS_16_BIT else np.uint32
    return np.empty((rows.shape[0], stocks), dtype)
