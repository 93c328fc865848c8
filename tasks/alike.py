"""Who is alike, and how near each comes to an example: what weights and netting look at before anything is scored.

    blocks ─ find_edges (a unit a start) ─ families_of ─► Families at each threshold
    block × example ─ example_correlations ─► units of 1e-12 by model

Only valid, on-time, staked submissions are linked: nobody moves another's weight for free. One search, at the lowest
threshold that anybody asks for, serves all (`scoring.families`). Where no step and no rule asks, nothing is computed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

import numpy as np
from jaxtyping import Bool

from scoring.correlation import corr, reference
from scoring.errors import OperatorError
from scoring.families import Edges, Families, edges, families
from scoring.pairwise import Panel
from scoring.published import score_units
from scoring.ranks import Ranks, power_table, values
from scoring.rules import Rules
from scoring.stakes import Stakes
from scoring.weight_policies import EXAMPLE, Standings, WeightStep, examples, thresholds
from tasks.ingest import Block, Receipt

Mask = Bool[np.ndarray, "_"]
Likeness = Mapping[str, int | None]
"""A model's correlation with an example in units of 1e-12; None where there is none."""


@dataclass(frozen=True, slots=True)
class Alike:
    """What a round's weight policies look at besides stakes.

    Attributes:
        standings: from the round's standings.parquet; None where there is none.
        families: by threshold.
        example: by the example's name, `EXAMPLE` for the round's own.
    """

    standings: Standings | None = None
    families: Mapping[Decimal, Families] = field(default_factory=dict)
    example: Mapping[str, Likeness] = field(default_factory=dict)


def thresholds_of(steps: Sequence[WeightStep], rules: Rules) -> tuple[Decimal, ...]:
    """Returns the thresholds at which a round needs families, ascending."""
    netting = () if rules.net_opposites is None else (rules.net_opposites,)
    return tuple(sorted({*thresholds(steps), *netting}))


def examples_of(steps: Sequence[WeightStep], own: Ranks | None) -> tuple[str, ...]:
    """Returns the names of the examples that a round compares with.

    Args:
        steps: of its weights.
        own: the round's example predictions, where they were read.
    """
    return tuple(sorted(examples(steps) | (set() if own is None else {EXAMPLE})))


def counted_of(receipts: Iterable[Receipt], stakes: Stakes) -> Mask:
    """Says of each valid submission of a block, in the order of its ranks, whether it is on time and staked."""
    at_risk = {stake.model for stake in stakes.rows if stake.atoms and not stake.late}
    return np.array([r.model in at_risk for r in receipts if r.digest is not None], dtype=bool)


def find_edges(start: int, blocks: Sequence[Block], counted: Sequence[Mask], threshold: Decimal) -> Edges:
    """Returns the strongest links of block `start` with itself and with all later blocks.

    Args:
        start: the block that meets the others.
        blocks: of the whole round, sorted by model.
        counted: which models of each are valid, on time and staked.
        threshold: |ρ| from which two are linked.
    """
    panels = [Panel(block.ranks, mask) for block, mask in zip(blocks, counted, strict=True)]
    return edges(panels, start, threshold)


def families_of(models: Sequence[str], found: Sequence[Edges], asked: Sequence[Decimal]) -> dict[Decimal, Families]:
    """Returns the families at each threshold.

    Args:
        models: every valid submission of the round.
        found: what `find_edges` says for every start, at the lowest threshold.
        asked: the thresholds.
    """
    return {threshold: families(models, found, threshold) for threshold in asked}


def netting_families(rules: Rules, alike: Alike) -> Families | None:
    """Returns the families in which the rules net opposites; None where they net none."""
    return None if rules.net_opposites is None else alike.families[rules.net_opposites]


def example_correlations(block: Block, example: Ranks) -> dict[str, int | None]:
    """Returns each model's correlation with an example, both sides pow(g(rank)), in units of 1e-12.

    Args:
        block: over the same stocks.
        example: one submission's ranks.
    """
    fixed = reference(values(example, power_table(example.stocks))[0])
    if fixed is None:
        return dict.fromkeys(block.ranks.models)
    found = corr(block.ranks, fixed).tolist()
    return {model: score_units(rho) for model, rho in zip(block.ranks.models, found, strict=True)}


def benchmark_example(block: Block, name: str) -> Ranks:
    """Returns the ranks of the benchmark model that is an example.

    Raises:
        OperatorError: its file is refused, or there is none.
    """
    for receipt in block.receipts:
        if receipt.model == name and receipt.rejection is not None:
            raise OperatorError(f"{receipt.file}: {receipt.rejection.code}: {receipt.rejection.message}")
    if name not in block.ranks.models:
        raise OperatorError(f"weights: the example {name!r} is no benchmark model of the round")
    row = block.ranks.models.index(name)
    return Ranks((name,), block.ranks.doubled[row : row + 1])


def merged(parts: Iterable[Mapping[str, int | None]]) -> dict[str, int | None]:
    """Returns what all blocks say about an example."""
    return {model: units for part in parts for model, units in part.items()}
