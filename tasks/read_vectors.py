"""Reading back the `meta_model` table: the vectors that all scores of a round follow from.

The table publishes target, meta models and a price vector a contribution. With them the scoring vectors of the round
are made again, either as the meta models and the target imply them or with the prices as published, so that a score is
recomputed by the very kernels that made it. A table that cannot be one is told, not scored.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
from jaxtyping import Float64

from scoring.rounds import Features, Targets
from scoring.score_table import MetaModels, ScoringVectors, scoring_vectors
from tasks.read_back import Stated


@dataclass(frozen=True, slots=True)
class PublishedVectors:
    """The `meta_model` table as the types of scoring.

    Attributes:
        ids: the universe, sorted.
        targets: of the scored stocks.
        models: the published meta models.
        prices: (stock,) each published price vector, NaN where it is null; no entry where all of it is.
    """

    ids: tuple[str, ...]
    targets: Targets
    models: MetaModels
    prices: Mapping[str, Float64[np.ndarray, " stock"]]


def vectors_of(table: pa.Table, stated: Stated) -> tuple[PublishedVectors | None, list[str]]:
    """Returns what a `meta_model` table holds, or None and why it cannot be one.

    Args:
        table: with the columns of the contract.
        stated: by the manifest.
    """
    columns = {name: _doubles(table, name) for name in table.column_names if name != "id"}
    ids = tuple(table.column("id").to_pylist())
    faults = [f"{name} must be finite or null" for name in columns if not _finite(table, name)]
    faults += [f"ids must be sorted and unique, found {b!r} after {a!r}" for a, b in _unsorted(ids)]
    if table.column("meta_model").null_count:
        faults.append(f"meta_model must not be null, found {table.column('meta_model').null_count} nulls")
    positions = np.flatnonzero(~np.isnan(columns["target"]))
    if not positions.size:
        faults.append("target must not be null everywhere")
    if faults:
        return None, faults
    targets = Targets(positions, columns["target"][positions], stated.target_mean)
    benchmark = columns["benchmark_meta_model"]
    models = MetaModels(columns["meta_model"], None if np.isnan(benchmark).any() else benchmark)
    prices = {name: vector for name, vector in columns.items() if name.endswith("_price")}
    present = {name: vector for name, vector in prices.items() if not np.isnan(vector).all()}
    return PublishedVectors(ids, targets, models, present), []


def own_vectors(published: PublishedVectors, features: Features | None, stated: Stated) -> ScoringVectors:
    """Returns the round's scoring vectors as they follow from meta models and target alone, without any price that
    takes the bags.

    Args:
        published: the `meta_model` table.
        features: over the universe; None leaves FNC out.
        stated: by the manifest.
    """
    return scoring_vectors(published.targets, published.models, features, target_buckets=stated.target_buckets)


def published_vectors(published: PublishedVectors, features: Features | None, stated: Stated) -> ScoringVectors:
    """Returns the round's scoring vectors with the prices as published: what a participant's own scores follow from."""
    own, prices = own_vectors(published, features, stated), published.prices
    scored = {name: vector[published.targets.positions] for name, vector in prices.items() if name != "tc_price"}
    mmc, bmc = scored.get("mmc_price"), scored.get("bmc_price")
    return replace(
        own,
        mmc=None if own.mmc is None or mmc is None else replace(own.mmc, price=mmc),
        bmc=None if own.bmc is None or bmc is None else replace(own.bmc, price=bmc),
        bagged_price=scored.get("mmc_bagged_price"),
        tc_price=np.nan_to_num(prices["tc_price"]) if "tc_price" in prices else None,
    )


def _doubles(table: pa.Table, name: str) -> Float64[np.ndarray, " stock"]:
    """Returns a column, NaN where it is null."""
    return np.array(table.column(name).to_numpy(), dtype=np.float64)


def _finite(table: pa.Table, name: str) -> bool:
    return bool(np.isfinite(table.column(name).drop_null().to_numpy()).all())


def _unsorted(ids: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(before, after) for before, after in pairwise(ids) if before >= after][:1]
