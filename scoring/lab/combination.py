"""The best combination of submissions by a convex fit: which weights ≥ 0 would have followed the target most closely.

    least  Σ_r ‖y_r − s·Σ_i x_i g_ir‖²/n_r + ridge·t·s²‖x‖²        x ≥ 0, Σx = 1, s ≥ 0

The scale s is free, because a meta model is ranked after it is blended: only the ratios of weights matter. With s·x as
the unknown it is a non-negative least-squares problem, convex, and its solution has the highest correlation with the
target over all rounds together. A fixed scale would be another problem: a target is followed so loosely that of
s = 1 little is left but the combination with the smallest variance, whoever is right. `t`, the mean diagonal of the
rounds' products, makes the ridge a pure number.

A model that is absent in a round adds nothing to it, and the others' weights are what they are up to scale: the same
as dropping it and letting the others fill the whole. The failure guarded against: a fit that looks ahead. It is given
rounds, and says nothing about others; which rounds were known when is the caller's to decide.

The solution is an analysis of doubles by LAPACK, and nothing is paid by it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import nnls

from scoring.errors import OperatorError

RIDGE = 1e-3
"""Small: it settles how copies of one submission share a weight, and changes little else."""


@dataclass(frozen=True, slots=True)
class Gram:
    """What a least-squares fit of a round's submissions to its target needs.

    Attributes:
        models: names, each once.
        gram: (model, model) inner products of their values g.
        moment: (model,) inner products of g with the target y.
        target_square: yᵀy.
        stocks: n, how many stocks the products run over.
    """

    models: tuple[str, ...]
    gram: Float64[np.ndarray, "model model"]
    moment: Float64[np.ndarray, " model"]
    target_square: float
    stocks: int


@dataclass(frozen=True, slots=True)
class Combination:
    """The found weights.

    Attributes:
        weights: share of each model with one, > 0, summing to 1, by name.
        rounds: how many rounds it was fitted on.
        correlation: with the target over those rounds together, each round's stocks weighing 1/n; not centred.
    """

    weights: Mapping[str, float]
    rounds: int
    correlation: float


def fit(grams: Sequence[Gram], ridge: float = RIDGE) -> Combination | None:
    """Returns the combination that follows the rounds' targets most closely.

    Args:
        grams: of the rounds that it may look at.
        ridge: > 0, in units of the mean diagonal.

    Returns:
        None where there is no round, or where no submission has a positive product with the targets: every combination
        then does worse than none.

    Raises:
        OperatorError: the ridge is not above 0.
    """
    if not ridge > 0.0:
        raise OperatorError(
            f"combination: the ridge must be above 0, found {ridge}; else copies have no unique weights"
        )
    models, gram, moment, square = summed(grams)
    if not models or not moment.max() > 0.0:
        return None
    scaled = solve(gram + ridge * float(np.mean(np.diag(gram))) * np.eye(len(models)), moment)
    weights = scaled / scaled.sum()
    length = float(np.sqrt((weights @ gram @ weights) * square))
    found = {model: float(weight) for model, weight in zip(models, weights, strict=True) if weight > 0.0}
    return Combination(found, len(grams), float(moment @ weights) / length)


def summed(
    grams: Sequence[Gram],
) -> tuple[tuple[str, ...], Float64[np.ndarray, "model model"], Float64[np.ndarray, " model"], float]:
    """Returns the models of all rounds by name, and the sums over rounds of gram/n, moment/n and yᵀy/n."""
    models = tuple(sorted({model for each in grams for model in each.models}))
    place = {model: index for index, model in enumerate(models)}
    gram, moment, square = np.zeros((len(models), len(models))), np.zeros(len(models)), 0.0
    for each in grams:
        at = np.array([place[model] for model in each.models], dtype=np.intp)
        gram[np.ix_(at, at)] += each.gram / each.stocks
        moment[at] += each.moment / each.stocks
        square += each.target_square / each.stocks
    return models, gram, moment, square


def solve(
    matrix: Float64[np.ndarray, "model model"], vector: Float64[np.ndarray, " model"]
) -> Float64[np.ndarray, " model"]:
    """Returns x ≥ 0 with the least ½xᵀAx − bᵀx, by an active-set method.

    Args:
        matrix: A, positive definite.
        vector: b.

    Raises:
        OperatorError: A is not positive definite.
    """
    try:
        upper = cholesky(matrix)
    except ValueError as error:  # numpy's LinAlgError is one
        raise OperatorError("combination: the submissions' products must be finite and positive definite") from error
    # ‖Ux − U⁻ᵀb‖² = xᵀAx − 2bᵀx + a constant.
    found, _ = nnls(upper, solve_triangular(upper, vector, trans="T"))
    return np.asarray(found, dtype=np.float64)
