"""Contributions: what a submission adds to what the others already say, as a price for each stock.

MMC is the covariance with the target of what is left of a submission after the meta model is taken out of it. It is
linear in the submission, so it is a price vector times the submission: `mmc = p̂·q` with

    q = (yc − m̂ (m̂·yc)/(m̂·m̂)) / n        p̂ = g(p), m̂ = g(meta model), yc = centred target.

The price is n published numbers; with them anyone recomputes his own score from his own file, and scoring any number of
models is one pass. BMC is the same against the benchmark models, bagged MMC (2020) the mean of one such price a bag in
uniform ranks. Richard's and Mike's forms of MMC are computed their own way, as checks that people can read.

References:
    numerai-tools 0.7.2, `correlation_contribution`; Numerai forum, MMC and BMC announcement (2024); Numerai docs, MMC
    (2020), for the bags and the divisor 0.0841 = 0.29².
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from scoring.correlation import centre, products, reference
from scoring.kernels.passes import dot
from scoring.ranks import Ranks, break_ties, gauss_table, rank_vector, uniform_table, values

BAGGED_DIVISOR = 0.0841
TARGET_BUCKETS = 4.0
RICHARD_STEP = 0.001


@dataclass(frozen=True, slots=True)
class Contribution:
    """A meta model and a target, prepared for contributions.

    Attributes:
        meta: (stock,) m̂, the gaussianised ranks of the meta model.
        target: (stock,) yc, centred, in buckets where the operator chose so.
        price: (stock,) q.
    """

    meta: Float64[np.ndarray, " stock"]
    target: Float64[np.ndarray, " stock"]
    price: Float64[np.ndarray, " stock"]


@dataclass(frozen=True, slots=True)
class ThreeForms:
    """MMC of each model in its three forms: (model,) each; `richard` is None where the target is constant."""

    murky: Float64[np.ndarray, " model"]
    mike: Float64[np.ndarray, " model"]
    richard: Float64[np.ndarray, " model"] | None


def centred_target(target: Float64[np.ndarray, " stock"], *, target_buckets: bool) -> Float64[np.ndarray, " stock"]:
    """Returns the centred target.

    Args:
        target: (stock,).
        target_buckets: multiply a target that lies in [0, 1] by 4 first, as numerai-tools does (buckets 0 … 4); the
            function printed in the 2024 announcement does not.
    """
    if target_buckets and target.min() >= 0 and target.max() <= 1:
        target = target * TARGET_BUCKETS
    return centre(target)


def contribution(
    meta_model: Float64[np.ndarray, " stock"], target: Float64[np.ndarray, " stock"], *, target_buckets: bool
) -> Contribution | None:
    """Returns the price vector of contributions to a meta model, or None where the meta model is constant.

    Args:
        meta_model: over the scored stocks; only its ranks matter.
        target: over the same stocks.
        target_buckets: see `centred_target`.
    """
    meta = values(rank_vector(meta_model), gauss_table(meta_model.size))[0]
    length = dot(meta, meta)
    if not length > 0:
        return None
    yc = centred_target(target, target_buckets=target_buckets)
    price = (yc - meta * (dot(meta, yc) / length)) / meta.size
    return Contribution(meta, yc, price)


def mmc(ranks: Ranks, price: Float64[np.ndarray, " stock"]) -> Float64[np.ndarray, " model"]:
    """Returns p̂·q for each model; BMC with the benchmark models' price."""
    return products(ranks, gauss_table(ranks.stocks), [price]).inner[:, 0]


def three_forms(ranks: Ranks, against: Contribution) -> ThreeForms:
    """Returns MMC three ways, from one pass.

    Murky's is p̂·q. Mike's is cov(y, p − m m⁺ p) (ddof 0), m⁺ = mᵀ/(mᵀm), the projection done model by model.
    Richard's is ρ(y, 0.999 m + 0.001 p) − ρ(y, m), p and m standardised.
    """
    target, meta = reference(against.target), reference(against.meta)
    vectors = [against.price, against.target, against.meta]
    if target is not None and meta is not None:
        vectors += [target.vector, meta.vector]
    found = products(ranks, gauss_table(ranks.stocks), vectors)
    projection = found.inner[:, 2] / dot(against.meta, against.meta)
    mike = (found.inner[:, 1] - projection * dot(against.target, against.meta)) / ranks.stocks
    if target is None or meta is None:
        return ThreeForms(found.inner[:, 0], mike, None)
    before = dot(target.vector, meta.vector) / (target.norm * meta.norm)
    with_target, with_meta = found.correlation(3, target), found.correlation(4, meta)
    kept = 1 - RICHARD_STEP
    spread = np.sqrt(kept * kept + RICHARD_STEP * RICHARD_STEP + 2 * kept * RICHARD_STEP * with_meta)
    richard = (kept * before + RICHARD_STEP * with_target) / spread - before
    return ThreeForms(found.inner[:, 0], mike, richard)


def bag_price(
    bag_meta_model: Float64[np.ndarray, " stock"], target: Float64[np.ndarray, " stock"]
) -> Float64[np.ndarray, " stock"]:
    """Returns one bag's price: the residual of the target on [uniform ranks of the bag's meta model, 1], scaled.

    Ties of the bag's meta model are broken by sorted id, as are the submission's in `mmc_bagged`.

    Args:
        bag_meta_model: over the scored stocks, not constant.
        target: over the same stocks, 0 … 1.
    """
    n = target.size
    uniform = values(break_ties(rank_vector(bag_meta_model)), uniform_table(n))[0]
    yc = centre(target)
    slope = dot(uniform, yc) / dot(uniform, uniform)
    return (yc - uniform * slope) / (BAGGED_DIVISOR * (n - 1))


def mean_price(prices: Sequence[Float64[np.ndarray, " stock"]]) -> Float64[np.ndarray, " stock"]:
    """Returns the mean of the bags' prices, added in the order of the bags."""
    added = np.zeros_like(prices[0])
    for price in prices:
        added = added + price
    return added / len(prices)


def mmc_bagged(ranks: Ranks, price: Float64[np.ndarray, " stock"]) -> Float64[np.ndarray, " model"]:
    """Returns u·q, u the uniform ranks of each model with ties broken by sorted id."""
    return products(break_ties(ranks), uniform_table(ranks.stocks), [price]).inner[:, 0]
