"""How alike submissions are: CWMM's relatives over all pairs.

    cwmm_mean   mean over the other submissions of ρ(pow(g(p_i)), pow(g(p_j)))
    cwmm_max    the greatest of them

The others are the round's valid, on-time, staked submissions: nobody moves another's score for free. The mean is linear
and costs one more weighted sum. The maximum needs all pairs, fifty million for 10 000 models: a single-precision matrix
product screens them, and a proven bound on its rounding errors leaves few pairs to compute exactly. So the result does
not depend on the bits of the screening, and BLAS may be used for it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from scoring.correlation import Products, Reference, products, total
from scoring.kernels.passes import products_of
from scoring.meta_model import Sums, from_sums, weighted_sums
from scoring.ranks import Ranks, power_table, select, values

PANEL_MODELS = 512
"""Models a panel: the unit vectors of one take 12 MB at 6 000 stocks."""
_UNIT_ROUNDOFF = 2.0**-24

Maxima = list[Float64[np.ndarray, "_"]]
"""One value a model, panel by panel; the last panel may be shorter."""


@dataclass(frozen=True, slots=True)
class Panel:
    """Some of the round's models that meet others all at once.

    Attributes:
        ranks: their ranks.
        counted: (model,) which of them are valid, on time and staked, and so count as others' company.
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


def panels_best(maxima: Sequence[Maxima]) -> Maxima:
    """Merges what all starts of `pair_maxima` say: the elementwise maximum, NaN where nobody else counted."""
    merged = [np.max(np.stack(of_panel), axis=0) for of_panel in zip(*maxima, strict=True)]
    return [np.where(np.isfinite(best), best, np.nan) for best in merged]


def pair_maxima(panels: Sequence[Panel], start: int) -> Maxima:
    """Returns what the pairs (start, start), (start, start + 1), … say about the maximum of each panel's models.

    The round's `cwmm_max` is the elementwise maximum over all starts; -inf stands for no other submission.

    Args:
        panels: the round's models, cut into panels of at most `PANEL_MODELS`, all with the same stocks.
        start: the panel that meets itself and every panel after it.
    """
    best = [np.full(len(panel.ranks.models), -np.inf) for panel in panels]
    left = _side(panels[start])
    for index in range(start, len(panels)):
        right = left if index == start else _side(panels[index])
        screened = left.units @ right.units.T
        if index == start:
            np.fill_diagonal(screened, -np.inf)
        _raise_best(best[start], left, right, screened)
        if index > start:
            _raise_best(best[index], right, left, screened.T)
    return best


@dataclass(frozen=True, slots=True)
class _Side:
    """A panel ready to meet another one.

    Attributes:
        panel: its ranks.
        exact: mean and length of its values.
        units: (model, stock) float32 unit vectors.
        twin: (model,) the first model of the panel with the same ranks.
    """

    panel: Panel
    exact: Products
    units: Float32[np.ndarray, "model stock"]
    twin: Int64[np.ndarray, " model"]


def _side(panel: Panel) -> _Side:
    exact = power_products(panel.ranks)
    first: dict[bytes, int] = {}
    twin = [first.setdefault(row.tobytes(), place) for place, row in enumerate(panel.ranks.doubled)]
    return _Side(panel, exact, unit_vectors(panel.ranks, exact), np.array(twin, dtype=np.int64))


def unit_vectors(ranks: Ranks, exact: Products) -> Float32[np.ndarray, "model stock"]:
    """Returns pow(g(p)), centred and of length 1, in single precision.

    Args:
        ranks: the models'.
        exact: their `power_products`.
    """
    centred = values(ranks, power_table(ranks.stocks)) - exact.mean[:, None]
    return (centred / exact.norm[:, None]).astype(np.float32)


def exact_correlations(
    left: tuple[Ranks, Products], row: int, right: tuple[Ranks, Products], chosen: Int64[np.ndarray, " some"]
) -> Float64[np.ndarray, " some"]:
    """Returns the correlations of one model with some others, in fixed lanes.

    Args:
        left: models, and their `power_products`.
        row: the one.
        right: models, and theirs.
        chosen: the rows of the others.
    """
    (ranks, one), (others, other) = left, right
    inner = np.empty(chosen.size)
    products_of(ranks.doubled[row], others.doubled, chosen, power_table(ranks.stocks), inner)
    means = ranks.stocks * (one.mean[row] * other.mean[chosen])
    return (inner - means) / (one.norm[row] * other.norm[chosen])


def screening_error(stocks: int) -> float:
    """Returns a bound on what single precision can do to a product of two unit vectors.

    Rounding both vectors moves it by at most 2u, adding n products in any order by n·u/(1 − n·u) (Higham, Accuracy and
    Stability of Numerical Algorithms, 2nd ed., section 3.1), u = 2^-24.
    """
    rounding = stocks * _UNIT_ROUNDOFF
    return (rounding / (1 - rounding) + 4 * _UNIT_ROUNDOFF) if rounding < 1 else 2.0


def _raise_best(
    best: Float64[np.ndarray, " left"], left: _Side, right: _Side, screened: Float32[np.ndarray, "left right"]
) -> None:
    """Raises each left model's best by its exact correlations with those right models that can hold the maximum."""
    reach = screening_error(left.panel.ranks.stocks)
    screened = np.where(right.panel.counted[None, :], screened, -np.inf)
    certain = np.maximum(screened.max(axis=1, initial=-np.inf) - reach, best) - reach
    rows, partners = np.nonzero((screened >= certain[:, None]) & np.isfinite(screened))
    for row, equals in zip(*_grouped(rows, partners), strict=True):
        chosen = np.unique(right.twin[equals])  # one of all copies: 10 000 copies would cost 50 million products
        exact = exact_correlations((left.panel.ranks, left.exact), row, (right.panel.ranks, right.exact), chosen)
        best[row] = max(best[row], float(exact.max()))


def _grouped(
    rows: Int64[np.ndarray, " pair"], partners: Int64[np.ndarray, " pair"]
) -> tuple[list[int], list[Int64[np.ndarray, " some"]]]:
    """Returns each row that has partners, and its partners."""
    found, starts = np.unique(rows, return_index=True)
    return found.tolist(), np.split(partners, starts[1:]) if found.size else []
