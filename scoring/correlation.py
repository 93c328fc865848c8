"""Correlations: CORR, its tie-broken ancestor, FNC's last step, and CWMM.

    corr            ρ(pow(g(p)), pow(y − mean y))     numerai-tools 0.7.2, `numerai_corr`
    corr_tie_broken ρ(rank of p with ties broken, y)  Numerai docs, 2019–2023
    cwmm            ρ(pow(g(p)), meta model)          Numerai docs, definitions

One side of each correlation is the same vector for all models, so a correlation is a dot product a model and a
division. Mean and length of a submission depend on its ties alone and come from the same pass.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from scoring.kernels.passes import dot, dot_rows
from scoring.ranks import Ranks, break_ties, power, power_table, uniform_table
from scoring.rounds import Targets


@dataclass(frozen=True, slots=True)
class Reference:
    """The fixed side of a Pearson correlation.

    Attributes:
        vector: (stock,) centred.
        total: what is left of its sum after centring, 0 up to rounding.
        norm: its length, > 0.
    """

    vector: Float64[np.ndarray, " stock"]
    total: float
    norm: float


@dataclass(frozen=True, slots=True)
class Products:
    """What one pass over submissions gives.

    Attributes:
        inner: (model, k) inner product of each submission with each of k vectors.
        mean: (model,) of the submission's values: not 0, because of ties.
        norm: (model,) length of its centred values.
    """

    inner: Float64[np.ndarray, "model k"]
    mean: Float64[np.ndarray, " model"]
    norm: Float64[np.ndarray, " model"]

    def correlation(self, column: int, fixed: Reference) -> Float64[np.ndarray, " model"]:
        """Returns Pearson correlations with a reference whose vector was number `column` of the pass; NaN where the
        submission is constant."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return (self.inner[:, column] - self.mean * fixed.total) / (self.norm * fixed.norm)


def total(vector: Float64[np.ndarray, " stock"]) -> float:
    """Returns the sum of a vector in fixed lanes: `np.sum` blocks differently on different processors."""
    return float(dot(vector, np.ones(vector.size)))


def centre(vector: Float64[np.ndarray, " stock"]) -> Float64[np.ndarray, " stock"]:
    """Returns the vector less its mean."""
    return vector - total(vector) / vector.size


def reference(vector: Float64[np.ndarray, " stock"]) -> Reference | None:
    """Returns the vector prepared for correlations, or None where it is constant and no correlation exists."""
    centred = centre(vector)
    norm = float(np.sqrt(dot(centred, centred)))
    if not norm > 1e-12 * (1.0 + float(np.abs(vector).max())):
        return None
    return Reference(centred, total(centred), norm)


def corr_reference(targets: Targets) -> Reference | None:
    """Returns pow(y − mean y), the mean taken over the full target before ids were aligned."""
    return reference(power(targets.target - targets.full_mean))


def products(
    ranks: Ranks, table: Float64[np.ndarray, " rank"], vectors: Sequence[Float64[np.ndarray, " stock"]]
) -> Products:
    """Returns the products of table[rank] with some vectors, in fixed lanes, for each model.

    Args:
        ranks: over the same stocks as the vectors.
        table: the value of each doubled rank.
        vectors: each (stock,).
    """
    n = ranks.stocks
    inner, moments = np.empty((len(ranks.models), len(vectors))), np.empty((len(ranks.models), 2))
    stacked = np.stack(vectors) if vectors else np.empty((0, n))
    dot_rows(ranks.doubled, table, stacked, inner, moments)
    mean = moments[:, 0] / n
    return Products(inner, mean, np.sqrt(np.maximum(moments[:, 1] - n * (mean * mean), 0.0)))


def corr(ranks: Ranks, fixed: Reference) -> Float64[np.ndarray, " model"]:
    """Returns ρ(pow(g(p)), reference): CORR with `corr_reference`, CWMM with the meta model.

    Args:
        ranks: over the same stocks as the reference; no constant submission.
        fixed: the other side.
    """
    return products(ranks, power_table(ranks.stocks), [fixed.vector]).correlation(0, fixed)


def corr_tie_broken(ranks: Ranks, fixed: Reference) -> Float64[np.ndarray, " model"]:
    """Returns ρ(rank, reference), ties of the submission broken by sorted id.

    Args:
        ranks: over the same stocks as the reference.
        fixed: the centred target.
    """
    return products(break_ties(ranks), uniform_table(ranks.stocks), [fixed.vector]).correlation(0, fixed)
