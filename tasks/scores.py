"""Scores of a round: each block scores itself, the driver publishes decimals.

Blocks return doubles; here they become published scores, integers of 1e-12, once. Everything after (percentiles, the
`scores` table, the ledger) is made of the published numbers, so that a reader of the table finds what was paid on.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from scoring.pairwise import Panel, pair_maxima, panels_best
from scoring.published import SCORE_KEYS, score_units, units_to_float
from scoring.ranks import is_constant, rank_vector
from scoring.rounds import Targets, TrueContributionOptions, Universe
from scoring.score_table import Columns, MetaModels, ScoringVectors, percentiles, score_block
from scoring.stakes import Stakes
from scoring.true_contribution import Scaling, scaling
from tasks.contract import META_MODEL, SCORES
from tasks.ingest import Block
from tasks.meta_models import Vector, Weights

Units = Mapping[str, int | None]
"""One model's published scores by key, in units of 1e-12; None where absent."""


@dataclass(frozen=True, slots=True)
class BlockScores:
    """Scores of some models; NaN where a model has none."""

    models: tuple[str, ...]
    columns: Columns


@dataclass(frozen=True, slots=True)
class PublishedVectors:
    """What of a round's vectors is published.

    Attributes:
        vectors: without the features' basis, which may have 100 MB.
        models: the meta models.
        meta_model_scores: the meta model's own, as if it were a submission.
    """

    vectors: ScoringVectors
    models: MetaModels
    meta_model_scores: BlockScores


def score(block: Block, weights: Weights, vectors: tuple[ScoringVectors, MetaModels]) -> BlockScores:
    """Returns all scores of a block but `cwmm_max`.

    Args:
        block: the block's ranks.
        weights: the part of the round's weights that belongs to it.
        vectors: the round's.
    """
    return BlockScores(block.ranks.models, score_block(block.ranks, weights.on_time, weights.counted, vectors[0]))


def score_pairs(start: int, blocks: Sequence[Block], parts: Sequence[Weights]) -> list[Vector]:
    """Returns what the pairs of block `start` with itself and all later blocks say about `cwmm_max`."""
    panels = [Panel(block.ranks, part.counted) for block, part in zip(blocks, parts, strict=True)]
    return pair_maxima(panels, start)


def merge_pairs(parts: Sequence[Weights], maxima: Sequence[list[Vector]]) -> list[BlockScores]:
    """Returns `cwmm_max` of all blocks from what all starts of `score_pairs` say."""
    return [BlockScores(part.models, {"cwmm_max": best}) for part, best in zip(parts, panels_best(maxima), strict=True)]


def publish_scores(blocks: Iterable[BlockScores]) -> dict[str, dict[str, int | None]]:
    """Returns each model's published scores; the one place where a double becomes a published number."""
    units: dict[str, dict[str, int | None]] = {}
    for block in blocks:
        for key, column in block.columns.items():
            for model, value in zip(block.models, column.tolist(), strict=True):
                units.setdefault(model, {})[key] = score_units(value) if np.isfinite(value) else None
    return units


def scores_table(models: Sequence[str], stakes: Stakes, units: Mapping[str, Units]) -> pa.Table:
    """Returns the `scores` table: a row for every model of the round, scored or not.

    Args:
        models: every model that has a stake row or a submission, sorted.
        stakes: for the accounts.
        units: published scores of the scored ones.
    """
    accounts = {stake.model: stake.account for stake in stakes.rows}
    columns: dict[str, list[object]] = {
        "model": list(models),
        "account": [accounts.get(model) for model in models],
    }
    for key in SCORE_KEYS:
        published = [units.get(model, {}).get(key) for model in models]
        columns[key] = [None if value is None else units_to_float(value) for value in published]
        columns[f"{key}_percentile"] = list(percentiles(published))
    return pa.table(columns, schema=SCORES)


def vectors_to_publish(vectors: tuple[ScoringVectors, MetaModels]) -> PublishedVectors:
    """Returns what of a round's vectors is published: small enough for the driver, unlike the features' basis."""
    own = rank_vector(vectors[1].stake_weighted)
    everybody = np.ones(1, dtype=bool)
    columns = {} if is_constant(own)[0] else score_block(own, everybody, everybody, vectors[0])
    return PublishedVectors(replace(vectors[0], basis=None), vectors[1], BlockScores(own.models, columns))


def score_meta_model(vectors: PublishedVectors, scaled: Scaling) -> Units:
    """Returns the meta model's own published scores."""
    units = publish_scores([vectors.meta_model_scores]).get(vectors.meta_model_scores.models[0], {})
    raw = units.get("tc_raw")
    return units if raw is None else {**units, "tc": scaled.apply(raw)}


def with_true_contribution(
    units: Mapping[str, Units], options: TrueContributionOptions
) -> tuple[dict[str, Units], Scaling]:
    """Returns the published scores with `tc` beside `tc_raw`, and how the one follows from the other."""
    raw = {model: scores["tc_raw"] for model, scores in units.items() if scores.get("tc_raw") is not None}
    scaled = scaling([value for value in raw.values() if value is not None], options)
    complete = {
        model: {**scores, "tc": scaled.apply(value)} if (value := raw.get(model)) is not None else scores
        for model, scores in units.items()
    }
    return complete, scaled


def meta_model_table(
    universe: Universe,
    targets: Targets,
    vectors: ScoringVectors,
    models: MetaModels,
    portfolio: Vector | None = None,
) -> pa.Table:
    """Returns the `meta_model` table: a row a stock, with the price vectors that let anyone recompute a score."""
    stocks = len(universe.ids)

    def of_scored(vector: Vector | None) -> list[float | None]:
        column: list[float | None] = [None] * stocks
        if vector is not None:
            for position, value in zip(targets.positions.tolist(), vector.tolist(), strict=True):
                column[position] = value
        return column

    absent: list[float | None] = [None] * stocks
    return pa.table(
        {
            "id": list(universe.ids),
            "target": of_scored(targets.target),
            "return": of_scored(targets.realised),
            "meta_model": models.stake_weighted.tolist(),
            "benchmark_meta_model": absent if models.benchmark is None else models.benchmark.tolist(),
            "portfolio": absent if portfolio is None else portfolio.tolist(),
            "mmc_price": of_scored(None if vectors.mmc is None else vectors.mmc.price),
            "bmc_price": of_scored(None if vectors.bmc is None else vectors.bmc.price),
            "mmc_bagged_price": of_scored(vectors.bagged_price),
            "tc_price": absent if vectors.tc_price is None else vectors.tc_price.tolist(),
        },
        schema=META_MODEL,
    )
