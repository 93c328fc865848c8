"""How alike submissions are: CWMM's relatives over all pairs.

    cwmm_mean   mean over the other submissions of ρ(pow(g(p_i)), pow(g(p_j)))
    cwmm_max    the greatest of them

The others are the round's valid, on-time submissions. The mean is linear and costs one more weighted sum. The maximum
needs all pairs: values rounded to small integers screen them with exact integer products, and a proven bound on what
the rounding can do leaves few pairs to compute exactly. The result is the exact maximum whatever was screened.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int16

from scoring.correlation import Products, Reference, products, total
from scoring.kernels.pairs import integer_products, look_up_rows, products_of
from scoring.meta_model import Sums, from_sums, weighted_sums
from scoring.ranks import Ranks, power_table, select

PANEL_MODELS = 512
"""Models a panel: two panels and their 512 × 512 products stay below 20 MB at 6 000 stocks."""
_INT32_MAX = 2**31 - 1
_ROUNDING = 1e-7
"""What float rounding can add to a bound that is itself a square root of a difference near 0."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Some of the round's models that meet others all at once.

    Attributes:
        ranks: their ranks.
        counted: (model,) which of them are valid and on time, and so count as others' company.
    """

    ranks: Ranks
    counted: Bool[np.ndarray, " model"]


def mean_sums(ranks: Ranks, counted: Bool[np.ndarray, " model"], others: int) -> Sums:
    """Returns Σ pow(g(p))/|pow(g(p))| / others over the counted models, in fixed point; blocks merge by `+`.

    Args:
        counted: which models are valid and on time.
        others: the number of counted models in the whole round, > 0; it keeps the sum below the fixed point's range.
    """
    weights = np.where(counted, 1.0 / (power_products(ranks).norm * others), 0.0)
    return weighted_sums(ranks, power_table(ranks.stocks), weights[None, :])


def cwmm_mean(
    ranks: Ranks, counted: Bool[np.ndarray, " model"], sums: Sums, others: int
) -> Float64[np.ndarray, " model"]:
    """Returns the mean correlation with the other counted submissions; NaN where there are none.

    Args:
        sums: (1, stock) merged `mean_sums` of the whole round.
        others: as for `mean_sums`.
    """
    if others < 2:
        return np.full(len(ranks.models), np.nan)
    mean_submission = from_sums(sums[0])
    fixed = Reference(mean_submission, total(mean_submission), 1.0)
    summed = power_products(ranks, mean_submission).correlation(0, fixed) * others
    return np.where(counted, (summed - 1.0) / (others - 1), summed / others)


def power_products(ranks: Ranks, *vectors: Float64[np.ndarray, " stock"]) -> Products:
    """Returns the products of pow(g(p)) with some vectors, and its mean and length."""
    return products(ranks, power_table(ranks.stocks), vectors)


def cwmm_max(ranks: Ranks, counted: Bool[np.ndarray, " model"]) -> Float64[np.ndarray, " model"]:
    """Returns the greatest correlation with another counted submission of models that are all at hand; NaN for none."""
    panels = cut_panels(ranks, counted)
    best = panels_best([pair_maxima(panels, start) for start in range(len(panels))])
    return np.concatenate(best)


def cut_panels(ranks: Ranks, counted: Bool[np.ndarray, " model"]) -> list[Panel]:
    """Returns the models in panels of at most `PANEL_MODELS`."""
    cuts = range(0, len(ranks.models), PANEL_MODELS)
    return [
        Panel(select(ranks, range(at, min(at + PANEL_MODELS, len(ranks.models)))), counted[at : at + PANEL_MODELS])
        for at in cuts
    ]


def panels_best(maxima: Sequence[list[Float64[np.ndarray, " model"]]]) -> list[Float64[np.ndarray, " model"]]:
    """Merges what all starts of `pair_maxima` say: the elementwise maximum, NaN where nobody else counted."""
    merged = [np.max(np.stack(of_panel), axis=0) for of_panel in zip(*maxima, strict=True)]
    return [np.where(np.isfinite(best), best, np.nan) for best in merged]


def pair_maxima(panels: Sequence[Panel], start: int) -> list[Float64[np.ndarray, " model"]]:
    """Returns what the pairs (start, start), (start, start + 1), … say about the maximum of each panel's models.

    The round's `cwmm_max` is the elementwise maximum over all starts; -inf stands for no other submission.

    Args:
        panels: the round's models, cut into panels of at most `PANEL_MODELS`, all with the same stocks.
        start: the panel that meets itself and every panel after it.
    """
    best = [np.full(len(panel.ranks.models), -np.inf) for panel in panels]
    left = _screen(panels[start])
    for index in range(start, len(panels)):
        right = left if index == start else _screen(panels[index])
        screened = _screened(left, right)
        if index == start:
            np.fill_diagonal(screened, -np.inf)
        _raise_best(best[start], left, right, screened)
        if index > start:
            _raise_best(best[index], right, left, screened.T)
    return best


@dataclass(frozen=True, slots=True)
class _Screen:
    """A panel as small integers.

    Attributes:
        panel: what it stands for.
        exact: mean and length of its exact values.
        rounded: mean and length of its rounded values.
        integers: (padded, stock) rounded values; rows padded with zeros to a multiple of four.
        error: (model,) length of the difference between the exact unit vector and the rounded one.
    """

    panel: Panel
    exact: Products
    rounded: Products
    integers: Int16[np.ndarray, "padded stock"]
    error: Float64[np.ndarray, " model"]


def _screen(panel: Panel) -> _Screen:
    ranks = panel.ranks
    n, models = ranks.stocks, len(ranks.models)
    table = power_table(n)
    level = min(int(np.sqrt(_INT32_MAX / n)), 2**15 - 1)  # n products of two levels fit in 32 bits
    whole = np.rint(table * (level / table[2 * n]))
    integers = np.zeros((models + -models % 4, n), np.int16)
    look_up_rows(ranks.doubled, whole.astype(np.int16), integers)
    exact, rounded = power_products(ranks), products(ranks, whole, [])
    both = products(ranks, whole * table, [np.ones(n)]).inner[:, 0] - n * (exact.mean * rounded.mean)
    error = np.sqrt(np.maximum(2.0 - 2.0 * both / (exact.norm * rounded.norm), 0.0)) + _ROUNDING
    return _Screen(panel, exact, rounded, integers, error)


def _screened(left: _Screen, right: _Screen) -> Float64[np.ndarray, "left right"]:
    """Returns the correlations of the rounded values; the integer products are exact."""
    out = np.empty((left.integers.shape[0], right.integers.shape[0]), np.int32)
    integer_products(left.integers, right.integers, out)
    stocks = left.integers.shape[1]
    inner = out[: left.error.size, : right.error.size] - stocks * np.outer(left.rounded.mean, right.rounded.mean)
    return inner / np.outer(left.rounded.norm, right.rounded.norm)


def _raise_best(
    best: Float64[np.ndarray, " left"],
    left: _Screen,
    right: _Screen,
    screened: Float64[np.ndarray, "left right"],
) -> None:
    """Raises each left model's best by its exact correlations with those right models that can hold the maximum.

    |exact − screened| ≤ e + f + e·f for unit vectors that are off by e and f.
    """
    n, table = left.integers.shape[1], power_table(left.integers.shape[1])
    reach = left.error[:, None] + right.error[None, :] + np.outer(left.error, right.error)
    screened = np.where(right.panel.counted[None, :], screened, -np.inf)
    certain = np.maximum((screened - reach).max(axis=1), best)
    for row in range(best.size):
        near = np.flatnonzero((screened[row] + reach[row] >= certain[row]) & np.isfinite(screened[row]))
        if near.size == 0:
            continue
        inner = np.empty(near.size)
        products_of(left.panel.ranks.doubled[row], right.panel.ranks.doubled[near], table, inner)
        exact = (inner - n * (left.exact.mean[row] * right.exact.mean[near])) / (
            left.exact.norm[row] * right.exact.norm[near]
        )
        best[row] = max(best[row], float(exact.max()))

