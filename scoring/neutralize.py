"""Feature-neutral CORR: CORR of what features cannot explain.

`g(p)` is neutralised to the features and a constant by least squares, and the residual is scored as CORR scores a
submission, which ranks it again. Dividing the residual by its standard deviation, as the definition does, changes no
rank and is left out. The features are small integers: their Gram matrix is exact and dependent columns are found and
dropped (a feature that is constant in a round, a full set of dummies).

References:
    numerai-tools 0.7.2, `feature_neutral_corr`.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from scoring.kernels.cholesky import pivoted_cholesky
from scoring.kernels.passes import residual_rows
from scoring.ranks import Ranks, gauss_table, rank
from scoring.rounds import Features


@dataclass(frozen=True, slots=True)
class FeatureBasis:
    """Independent columns and the Cholesky factor of their Gram matrix.

    Attributes:
        columns: (rank, stock) the constant and those features that do not depend on the columns before them.
        factor: (rank, rank) lower triangular.
    """

    columns: Float64[np.ndarray, "rank stock"]
    factor: Float64[np.ndarray, "rank rank"]


def feature_basis(features: Features) -> FeatureBasis:
    """Returns the basis to neutralise to, over all stocks of the universe."""
    stocks = features.values.shape[0]
    columns = np.concatenate([np.ones((1, stocks)), features.values.T.astype(np.float64)])
    gram = columns @ columns.T  # whole numbers below 2^53: exact in any order, and 160 times faster than in integers
    factor = np.zeros_like(gram)
    pivots = np.zeros(len(columns), np.int64)
    rank_of_columns = int(pivoted_cholesky(gram, factor, pivots))
    kept = pivots[:rank_of_columns]
    square = np.ascontiguousarray(factor[:rank_of_columns, :rank_of_columns])
    return FeatureBasis(np.ascontiguousarray(columns[kept]), square)


def neutralized(ranks: Ranks, basis: FeatureBasis) -> Ranks:
    """Returns the ranks of each model's residual on the basis, residuals rounded to 12 decimals.

    A model that the features explain completely has a constant residual: all its ranks tie.
    """
    residuals = np.empty(ranks.doubled.shape)
    residual_rows(ranks.doubled, gauss_table(ranks.stocks), basis.columns, basis.factor, residuals)
    return rank(ranks.models, residuals)
