"""Correlations: CORR, its tie-broken ancestor, FNC's last step, and CWMM.

    corr            ρ(pow(g(p)), pow(y − mean y))     numerai-tools 0.7.2, `numerai_corr`
    corr_tie_broken ρ(rank of p with ties broken, y)  Numerai docs, 2019–2023
    cwmm            ρ(pow(g(p)), meta model)          Numerai docs, definitions

One side of each correlation is the same vector for all models, so a correlation is a dot product a model and a division.
The moments of a submission depend on its ties alone and come from the same pass.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from scoring.kernels.passes import dot, dot_rows
from scoring.ranks import Ranks, break_ties, power, power_table, square_table, uniform_table
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
class Moments:
    """Mean and length of pow(g(p)) for each model: not 0 and not constant, because of ties.

    Attributes:
        mean: (model,).
        norm: (model,) length of the centred vector.
    """

    mean: Float64[np.ndarray, " model"]
    norm: Float64[np.ndarray, " model"]


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
    ranks: Ranks, table: Float64[np.ndarray, " rank"], vectors: Float64[np.ndarray, "k stock"]
) -> Float64[np.ndarray, "model k"]:
    """Returns Σ_stock table[rank] · vector for each model and vector, in fixed lanes."""
    out = np.empty((len(ranks.models), vectors.shape[0]))
    dot_rows(ranks.doubled, table, np.ascontiguousarray(vectors), out)
    return out


def power_moments(ranks: Ranks) -> Moments:
    """Returns mean and centred length of pow(g(p))."""
    n = ranks.stocks
    ones = np.ones((1, n))
    mean = products(ranks, power_table(n), ones)[:, 0] / n
    squares = products(ranks, square_table(n, powered=True), ones)[:, 0]
    return Moments(mean, np.sqrt(squares - n * (mean * mean)))


def correlation(
    inner: Float64[np.ndarray, " model"], moments: Moments, fixed: Reference
) -> Float64[np.ndarray, " model"]:
    """Returns Pearson correlations of submissions with a reference, given their inner products with it."""
    return (inner - moments.mean * fixed.total) / (moments.norm * fixed.norm)


def corr(ranks: Ranks, fixed: Reference) -> Float64[np.ndarray, " model"]:
    """Returns ρ(pow(g(p)), reference): CORR with `corr_reference`, CWMM with the meta model.

    Args:
        ranks: over the same stocks as the reference; no constant submission.
    """
    inner = products(ranks, power_table(ranks.stocks), fixed.vector[None, :])[:, 0]
    return correlation(inner, power_moments(ranks), fixed)


def corr_tie_broken(ranks: Ranks, fixed: Reference) -> Float64[np.ndarray, " model"]:
    """Returns ρ(rank, reference), ties of the submission broken by sorted id.

    The ranks are 1 … n in some order for every model, so their length is one number: √((n² − 1)/(12 n)) in units of
    the uniform table.
    """
    n = ranks.stocks
    inner = products(break_ties(ranks), uniform_table(n), fixed.vector[None, :])[:, 0]
    return inner / (np.sqrt((n * n - 1) / (12 * n)) * fixed.norm)
