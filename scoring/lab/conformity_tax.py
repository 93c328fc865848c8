"""The conformity tax as it was proposed, and the simulation it was proposed with.

    P' = min(P, T) + max(P − T, 0)·(1 − clip(M, 0, 1))      P payout, M correlation with the meta model, T threshold

The simulation is kept draw for draw, so that its totals are the proposal's own digits; what a tournament pays is
computed elsewhere in whole atoms. The failure guarded against: a comparison with a proposal that was restated wrongly,
e.g. by a tax that also lowers losses, or by other draws.

References:
    "A Payout Scheme that Directly Encourages Unique Models", the tournament's forum: its code and its first total,
    30192.954174991097, printed there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from scoring.errors import OperatorError

SEED = 1
THRESHOLDS = (100.0, 50.0, 10.0)
"""The thresholds that the proposal compares, in its order."""

CURVE_THRESHOLD = 50.0
CURVE_CORRELATIONS = (0.0, 0.2, 0.8, 0.95)
"""The correlations whose payout curves the proposal draws at `CURVE_THRESHOLD`; 0.95 stands for the example model."""

_MODELS = 1_000
_LARGEST_PAYOUT = 600.0
_PARETO_SHAPE = 2.0
_MEAN_CORRELATION, _SPREAD_OF_CORRELATION = 0.6, 0.15
_CURVE = (-75.0, 200.0, 100)


@dataclass(frozen=True, slots=True)
class Simulation:
    """What the proposal assumes of a round.

    Attributes:
        payouts: (model,) in the currency, > 0, ascending: the last has rank 1.
        meta_model_corr: (model,) in 0 … 1, drawn without regard to the payouts.
    """

    payouts: Float64[np.ndarray, " model"]
    meta_model_corr: Float64[np.ndarray, " model"]


def conformity_tax(
    payouts: Float64[np.ndarray, " model"], meta_model_corr: Float64[np.ndarray, " model"], threshold: float
) -> Float64[np.ndarray, " model"]:
    """Returns payouts after the tax: what is above the threshold is scaled by 1 − M, losses are untouched.

    Args:
        payouts: in the currency; a loss is negative.
        meta_model_corr: a correlation below 0 counts as 0, one above 1 as 1.
        threshold: ≥ 0, in the currency.

    Raises:
        OperatorError: the threshold is negative, or not a number.
    """
    if not threshold >= 0.0:
        raise OperatorError(
            f"conformity tax: the threshold must be at least 0, found {threshold}: losses stay untouched"
        )
    kept = 1.0 - np.clip(meta_model_corr, 0.0, 1.0)
    return np.minimum(payouts, threshold) + np.maximum(payouts - threshold, 0.0) * kept


def simulation(seed: int = SEED) -> Simulation:
    """Returns the proposal's draws: payouts first, then correlations, from one stream of numpy's old generator."""
    stream = np.random.RandomState(seed)
    drawn = stream.pareto(_PARETO_SHAPE, _MODELS)
    payouts = np.sort(drawn) * (_LARGEST_PAYOUT / np.max(drawn))
    return Simulation(payouts, np.clip(stream.normal(_MEAN_CORRELATION, _SPREAD_OF_CORRELATION, _MODELS), 0.0, 1.0))


def by_threshold(
    simulated: Simulation, thresholds: Sequence[float] = THRESHOLDS
) -> Mapping[float | None, Float64[np.ndarray, " model"]]:
    """Returns the payouts under each threshold, ascending by payout before tax; under None those without a tax."""
    found: dict[float | None, Float64[np.ndarray, " model"]] = {None: simulated.payouts}
    for each in thresholds:
        found[each] = conformity_tax(simulated.payouts, simulated.meta_model_corr, each)
    return found


def total(payouts: Float64[np.ndarray, " model"]) -> float:
    """Returns the sum as the proposal takes it, by `np.sum`: another order of summation changes its last digits."""
    return float(np.sum(payouts))


def curves(
    correlations: Sequence[float] = CURVE_CORRELATIONS, threshold: float = CURVE_THRESHOLD
) -> tuple[Float64[np.ndarray, " point"], Mapping[float, Float64[np.ndarray, " point"]]]:
    """Returns payouts from −75 to 200, and what is left of each by correlation with the meta model."""
    payouts = np.linspace(*_CURVE)
    return payouts, {each: conformity_tax(payouts, np.full(payouts.size, each), threshold) for each in correlations}
