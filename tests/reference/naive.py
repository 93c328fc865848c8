"""Every score from its formula, as slowly and plainly as possible.

`predictions` is `{model: {id: p}}`, `target` and `meta_model` are `{id: number}`, `stakes` and `accounts` are
`{model: …}`, `features` is `{feature: {id: small integer}}`. Scores come back as `{model: float}`; a score that does
not exist is `nan`. Inside, every list is in the order of the sorted ids.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np
from scipy.stats import norm

from tests.reference import philox

Vector = np.ndarray
ByModel = Mapping[str, float]
ById = Mapping[str, float]
Predictions = Mapping[str, ById]


# Ranks -----------------------------------------------------------------------------------------------------------


def average_ranks(x: Sequence[float]) -> Vector:
    """Rank 1 … n; whoever ties shares the mean of the ranks: those below, plus the middle of those equal."""
    x = np.asarray(x, dtype=float)
    return np.array([(x < v).sum() + ((x == v).sum() + 1) / 2 for v in x])


def tie_broken_ranks(x: Sequence[float]) -> Vector:
    """Rank 1 … n; of those that tie the earlier (the smaller id) has the smaller rank."""
    ranks = np.zeros(len(x))
    for rank, i in enumerate(sorted(range(len(x)), key=lambda i: (x[i], i)), start=1):
        ranks[i] = rank
    return ranks


def uniform(ranks: Vector) -> Vector:
    return (ranks - 0.5) / len(ranks)


def g(x: Sequence[float]) -> Vector:
    """Φ⁻¹((average rank − 0.5) / n)."""
    return norm.ppf(uniform(average_ranks(x)))


# Sums ------------------------------------------------------------------------------------------------------------


def mean(x: Vector) -> float:
    return math.fsum(x) / len(x)


def centred(x: Vector) -> Vector:
    return x - mean(x)


def dot(x: Vector, y: Vector) -> float:
    return math.fsum(x * y)


def covariance(x: Vector, y: Vector, ddof: int = 0) -> float:
    return dot(centred(x), centred(y)) / (len(x) - ddof)


def sd(x: Vector) -> float:
    return math.sqrt(covariance(x, x))


def rho(x: Vector, y: Vector) -> float:
    """Pearson; nan where either is constant."""
    if len(set(x)) == 1 or len(set(y)) == 1 or np.isnan(x).any():
        return math.nan
    return covariance(x, y) / (sd(x) * sd(y))


def power(x: Vector) -> Vector:
    """sign(x)·|x|^1.5."""
    return np.array([math.copysign(abs(v) ** 1.5, v) for v in x])


# Ids -------------------------------------------------------------------------------------------------------------


def universe(predictions: Predictions) -> list[str]:
    """The ids of the predictions, sorted; every model has the same."""
    first, *others = [sorted(p) for p in predictions.values()]
    if any(ids != first for ids in others):
        raise ValueError("the models do not have the same ids")
    return first


def scored_ids(predictions: Predictions, target: ById) -> list[str]:
    """The ids that both sides have, sorted; at least 80 % of each side."""
    ids = universe(predictions)
    common = [i for i in ids if i in target]
    if 5 * len(common) < 4 * len(ids) or 5 * len(common) < 4 * len(target):
        raise ValueError("less than 80 % of the ids are common")
    return common


def at(values: Mapping[str, float], ids: Iterable[str]) -> Vector:
    return np.array([float(values[i]) for i in ids])


# Correlations ----------------------------------------------------------------------------------------------------


def corr(predictions: Predictions, target: ById) -> dict[str, float]:
    """ρ(pow(g(p)), pow(y − mean y)), the mean over the full target."""
    ids = scored_ids(predictions, target)
    y = power(at(target, ids) - mean(at(target, target)))
    return {model: rho(power(g(at(p, ids))), y) for model, p in predictions.items()}


def corr_tie_broken(predictions: Predictions, target: ById) -> dict[str, float]:
    ids = scored_ids(predictions, target)
    return {model: rho(tie_broken_ranks(at(p, ids)), at(target, ids)) for model, p in predictions.items()}


def meta_model(predictions: Predictions, stakes: ByModel) -> dict[str, float]:
    """Σ stake·g(p) / Σ stake over the staked models."""
    return weighted(predictions, {m: float(s) for m, s in stakes.items() if m in predictions and s > 0})


def weighted(predictions: Predictions, weights: ByModel) -> dict[str, float]:
    ids = universe(predictions)
    models = sorted(weights)
    columns = [float(weights[m]) * g(at(predictions[m], ids)) for m in models]
    total = math.fsum(weights.values())
    return {i: math.fsum(column[row] for column in columns) / total for row, i in enumerate(ids)}


def cwmm(predictions: Predictions, meta: ById) -> dict[str, float]:
    """ρ(pow(g(p)), meta model)."""
    ids = universe(predictions)
    return {model: rho(power(g(at(p, ids))), at(meta, ids)) for model, p in predictions.items()}


def cwmm_others(predictions: Predictions) -> dict[str, list[float]]:
    ids = universe(predictions)
    powered = {model: power(g(at(p, ids))) for model, p in predictions.items()}
    return {
        model: [rho(mine, theirs) for other, theirs in powered.items() if other != model]
        for model, mine in powered.items()
    }


def cwmm_max(predictions: Predictions) -> dict[str, float]:
    return {model: max(others, default=math.nan) for model, others in cwmm_others(predictions).items()}


def cwmm_mean(predictions: Predictions) -> dict[str, float]:
    return {
        model: math.fsum(others) / len(others) if others else math.nan
        for model, others in cwmm_others(predictions).items()
    }


# Feature-neutral correlation -------------------------------------------------------------------------------------


def solve_dropping(matrix: list[list[Fraction]], right: list[Fraction]) -> list[Fraction]:
    """One solution of a consistent square system: a column without a pivot gets the coefficient 0."""
    rows = [[*row, value] for row, value in zip(matrix, right, strict=True)]
    size = len(matrix)
    pivots: list[tuple[int, int]] = []
    for column in range(size):
        top = len(pivots)
        found = next((r for r in range(top, size) if rows[r][column] != 0), None)
        if found is None:
            continue
        rows[top], rows[found] = rows[found], rows[top]
        rows[top] = [value / rows[top][column] for value in rows[top]]
        for r in range(size):
            if r != top and rows[r][column] != 0:
                factor = rows[r][column]
                rows[r] = [a - factor * b for a, b in zip(rows[r], rows[top], strict=True)]
        pivots.append((top, column))
    solution = [Fraction(0)] * size
    for row, column in pivots:
        solution[column] = rows[row][-1]
    return solution


def exact_residual(x: Vector, columns: Sequence[Sequence[float]]) -> list[Fraction]:
    """x less its least-squares fit on the columns and a constant, without any rounding."""
    b = [[Fraction(v) for v in column] for column in columns] + [[Fraction(1)] * len(x)]
    exact = [Fraction(float(v)) for v in x]
    gram = [[sum((p * q for p, q in zip(u, v, strict=True)), Fraction(0)) for v in b] for u in b]
    right = [sum((p * q for p, q in zip(u, exact, strict=True)), Fraction(0)) for u in b]
    beta = solve_dropping(gram, right)
    return [
        value - sum((weight * column[row] for weight, column in zip(beta, b, strict=True)), Fraction(0))
        for row, value in enumerate(exact)
    ]


def fnc_residuals(predictions: Predictions, features: Mapping[str, ById]) -> dict[str, list[Fraction]]:
    """g(p) neutralised over all stocks that have a prediction, whether they have a target or not."""
    ids = universe(predictions)
    columns = [[int(column[i]) for i in ids] for column in features.values()]
    return {model: exact_residual(g(at(p, ids)), columns) for model, p in predictions.items()}


def fnc(predictions: Predictions, features: Mapping[str, ById], target: ById) -> dict[str, float]:
    """corr of the residuals of g(p) on [features, 1], rounded to 12 decimals."""
    ids = universe(predictions)
    neutral = {
        model: dict(zip(ids, (float(round(v, 12)) for v in residual), strict=True))
        for model, residual in fnc_residuals(predictions, features).items()
    }
    return corr(neutral, target)


def rounding_margin(residual: Sequence[Fraction]) -> float:
    """How far the residuals that tie stay from where rounding to 12 decimals would tip over, in units of 1e-12 (≤ 0.5).

    Below about 0.005 the noise of a floating-point solution (some 1e-15) could tip one value and part those that tie.
    """
    ties = [value for value, times in Counter(round(v, 10) for v in residual).items() if times > 1]
    return min((float(abs(v * 10**12 % 1 - Fraction(1, 2))) for v in residual if round(v, 10) in ties), default=0.5)


# Contributions ---------------------------------------------------------------------------------------------------


def buckets(y: Vector, target_buckets: bool) -> Vector:
    """numerai-tools reads a target inside [0, 1] as five buckets 0 … 4."""
    return 4 * y if target_buckets and min(y) >= 0 and max(y) <= 1 else y


def mmc(predictions: Predictions, meta: ById, target: ById, *, target_buckets: bool = True) -> dict[str, float]:
    """Murky: yc·(p̂ − m̂ (m̂·p̂)/(m̂·m̂)) / n."""
    ids = scored_ids(predictions, target)
    yc = centred(buckets(at(target, ids), target_buckets))
    m = g(at(meta, ids))
    scores = {}
    for model, prediction in predictions.items():
        p = g(at(prediction, ids))
        scores[model] = dot(yc, p - m * (dot(m, p) / dot(m, m))) / len(ids)
    return scores


def standardised(x: Vector) -> Vector:
    """Mean 0, sd 1; nan where x is constant."""
    return centred(x) / (sd(x) or math.nan)


def mmc_richard(predictions: Predictions, meta: ById, target: ById, epsilon: float = 0.001) -> dict[str, float]:
    """Richard: ρ(y, (1 − ε) m + ε p) − ρ(y, m), both standardised."""
    ids = scored_ids(predictions, target)
    y = at(target, ids)
    m = standardised(g(at(meta, ids)))
    return {
        model: rho(y, (1 - epsilon) * m + epsilon * standardised(g(at(p, ids)))) - rho(y, m)
        for model, p in predictions.items()
    }


def mmc_mike(predictions: Predictions, meta: ById, target: ById, *, target_buckets: bool = True) -> dict[str, float]:
    """Mike: cov(y, p − m m⁺ p), m⁺ = mᵀ / (mᵀ m)."""
    ids = scored_ids(predictions, target)
    y = buckets(at(target, ids), target_buckets)
    m = g(at(meta, ids))
    pseudo_inverse = m / dot(m, m)
    scores = {}
    for model, prediction in predictions.items():
        p = g(at(prediction, ids))
        scores[model] = covariance(y, p - m * dot(pseudo_inverse, p))
    return scores


# Bags ------------------------------------------------------------------------------------------------------------


def number_of_draws(fraction: Decimal, size: int) -> int:
    """⌊fraction·N + ½⌋, exactly."""
    return math.floor(Fraction(fraction) * size + Fraction(1, 2))


def draw(words: Iterator[int], size: int) -> int:
    """A word x falls into one of `size` equal boxes, x·N >> 64; the words that would make some boxes larger than
    others (low half of x·N below 2⁶⁴ mod N) are thrown away (Lemire 2019)."""
    while True:
        index, low = divmod(next(words) * size, 2**64)
        if low >= (2**64 - size) % size:
            return index


def bag_counts(units: Sequence[str], seed: int, bag: int, fraction: Decimal) -> dict[str, int]:
    """How often each unit was drawn into the bag."""
    units = sorted(units)
    words = philox.words((0, bag, 0, 0), (seed, 1))
    counts = dict.fromkeys(units, 0)
    for _ in range(number_of_draws(fraction, len(units))):
        counts[units[draw(words, len(units))]] += 1
    return counts


def bag_weights(
    stakes: ByModel, seed: int, bag: int, fraction: Decimal, accounts: Mapping[str, str] | None
) -> dict[str, float]:
    """k·stake for the models that were drawn, or whose account was drawn, k ≥ 1 times."""
    unit = {model: accounts[model] if accounts else model for model in stakes}
    counts = bag_counts(sorted(set(unit.values())), seed, bag, fraction)
    return {model: counts[unit[model]] * float(stakes[model]) for model in stakes if counts[unit[model]] > 0}


def residual_on(u: Vector, m: Vector) -> Vector:
    """u less its least-squares fit on [m, 1]."""
    return centred(u) - centred(m) * (covariance(u, m) / covariance(m, m))


def mmc_bagged(
    predictions: Predictions,
    stakes: ByModel,
    target: ById,
    *,
    seed: int,
    bags: int = 20,
    fraction: Decimal = Decimal("0.67"),
    accounts: Mapping[str, str] | None = None,
) -> dict[str, float]:
    """MMC2: mean over the bags of cov(residual of u on [m_b, 1], y) / 0.0841.

    A bag's meta model is made over all stocks, as the meta model is; it is made uniform over the scored ones.
    """
    staked = {m: float(s) for m, s in stakes.items() if m in predictions and s > 0}
    ids = scored_ids(predictions, target)
    y = at(target, ids)
    u = {model: uniform(tie_broken_ranks(at(p, ids))) for model, p in predictions.items()}
    scores: dict[str, list[float]] = {model: [] for model in predictions}
    for bag in range(bags):
        meta = weighted(predictions, bag_weights(staked, seed, bag, fraction, accounts))
        m = uniform(tie_broken_ranks(at(meta, ids)))
        for model in predictions:
            scores[model].append(covariance(residual_on(u[model], m), y, ddof=1) / 0.0841)
    return {model: math.fsum(values) / bags for model, values in scores.items()}


# Percentiles -----------------------------------------------------------------------------------------------------


def percentile(scores: ByModel) -> dict[str, float]:
    """(average rank − 0.5) / m among the models that have a score."""
    scored = [model for model, score in scores.items() if not math.isnan(score)]
    values = dict(zip(scored, uniform(average_ranks([scores[m] for m in scored])), strict=True))
    return {model: values.get(model, math.nan) for model in scores}
