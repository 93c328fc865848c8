"""A round: its calendar, its universe of stocks, its targets and features.

Stocks are always in the order of their sorted ids. That one convention is what makes every sum over stocks, every tie
that is broken and every published vector independent of the order of the files' rows.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Literal

import numpy as np
from jaxtyping import Float64, Int8, Int64

from scoring.errors import OperatorError

MIN_COMMON_SHARE = 0.8
"""Share of both the universe's and the target's ids that must be common to both (numerai-tools 0.7.2,
`filter_sort_index`, default `max_filtered_ratio` 0.2)."""


@dataclass(frozen=True, slots=True)
class Round:
    """The calendar and identity of one round.

    Attributes:
        number: the round's number, ≥ 0.
        opens_at, closes_at, resolves_at: UTC, in this order.
        horizon: what the target looks at, e.g. `20D2L`: 20 days, 2 days lag.
        target: the target's name.
        seed: 64 bits that key all randomness of the round (`scoring.bags.round_seed` unless the operator sets it).
    """

    number: int
    opens_at: datetime
    closes_at: datetime
    resolves_at: datetime
    horizon: str
    target: str
    seed: int

    def __post_init__(self) -> None:
        if not self.opens_at < self.closes_at <= self.resolves_at:
            raise OperatorError(
                f"round {self.number}: must open before it closes and close before it resolves, found "
                f"{self.opens_at.isoformat()}, {self.closes_at.isoformat()}, {self.resolves_at.isoformat()}"
            )


@dataclass(frozen=True, slots=True)
class Universe:
    """The stocks of a round.

    Attributes:
        ids: sorted, unique.
        country, sector: one label a stock; None where the table has no such column.
        factor_names: names of the risk factors, without the prefix `factor_`.
        exposures: (stock, factor), dimensionless.
        specific_risk: (stock,), standard deviation of the residual return as a fraction; None where absent.
    """

    ids: tuple[str, ...]
    country: tuple[str, ...] | None = None
    sector: tuple[str, ...] | None = None
    factor_names: tuple[str, ...] = ()
    exposures: Float64[np.ndarray, "stock factor"] | None = None
    specific_risk: Float64[np.ndarray, " stock"] | None = None

    def __post_init__(self) -> None:
        for before, after in zip(self.ids, self.ids[1:], strict=False):
            if before >= after:
                raise OperatorError(f"universe: ids must be sorted and unique, found {before!r} before {after!r}")


@dataclass(frozen=True, slots=True)
class Targets:
    """What happened, for the stocks of the universe that have a target.

    Attributes:
        positions: (scored,) ascending positions in the universe of the stocks that have a target. All scores are
            taken over these stocks; where some target ids went missing the rest of the universe is left out.
        target: (scored,), 0 … 1.
        full_mean: mean of the target over all its ids, before ids are aligned (`numerai_corr` centres first).
        realised: (scored,) raw forward returns as fractions; None where the table has none.
    """

    positions: Int64[np.ndarray, " scored"]
    target: Float64[np.ndarray, " scored"]
    full_mean: float
    realised: Float64[np.ndarray, " scored"] | None = None


@dataclass(frozen=True, slots=True)
class Features:
    """Small-integer features, for FNC.

    Attributes:
        names: one a column, with the prefix `feature_`.
        values: (stock, feature) in the universe's order, over all its stocks.
    """

    names: tuple[str, ...]
    values: Int8[np.ndarray, "stock feature"]


@dataclass(frozen=True, slots=True)
class ScoreOptions:
    """The operator's choices under `[scores]`.

    Attributes:
        bags: number of bags of bagged MMC.
        bag_fraction: share of the stakers drawn into a bag, 0 < fraction ≤ 1; exact, so that the number of draws is.
        bag_unit: what is drawn: `model` or `account`.
        target_buckets: multiply a target inside [0, 1] by 4 in the contributions, as numerai-tools does.
        pairwise: compute `cwmm_max` and `cwmm_mean`.
    """

    bags: int = 20
    bag_fraction: Decimal = Decimal("0.67")
    bag_unit: Literal["model", "account"] = "model"
    target_buckets: bool = True
    pairwise: bool = True

    def __post_init__(self) -> None:
        if self.bags < 1:
            raise OperatorError(f"bags: must be at least 1, found {self.bags}")
        if not 0 < self.bag_fraction <= 1:
            raise OperatorError(f"bag_fraction: must be in 0 < fraction ≤ 1, found {self.bag_fraction}")


@dataclass(frozen=True, slots=True)
class TrueContributionOptions:
    """The operator's choices under `[true_contribution]`.

    Attributes:
        bags: number of dropout bags; averaging over them is what makes the gradient smooth.
        dropout: share of the stakes that a bag drops, 0 ≤ dropout < 1; exact, so that who is dropped is.
        chunk: bags that are solved together. It is part of the result's bytes, so it never follows from the workers.
        scaling: how `tc` follows from `tc_raw`: `raw` (as it is), `normalised` (to a root mean square of `spread`) or
            `z_score` (centred, to a standard deviation of `spread`), over the round's on-time models.
        spread: of the scaled scores; 0.04 was the spread of real True Contribution.
        flagged_share: share of bags that may be flagged before the round's True Contribution is not trustworthy.
    """

    bags: int = 100
    dropout: Decimal = Decimal("0.5")
    chunk: int = 25
    scaling: Literal["raw", "normalised", "z_score"] = "normalised"
    spread: Decimal = Decimal("0.04")
    flagged_share: Decimal = Decimal("0.05")

    def __post_init__(self) -> None:
        for name, value in (("bags", self.bags), ("chunk", self.chunk)):
            if value < 1:
                raise OperatorError(f"true_contribution: {name} must be at least 1, found {value}")
        if not 0 <= self.dropout < 1:
            raise OperatorError(f"true_contribution: dropout must be in 0 ≤ dropout < 1, found {self.dropout}")
        if not self.spread > 0:
            raise OperatorError(f"true_contribution: spread must be above 0, found {self.spread}")
        if not 0 <= self.flagged_share <= 1:
            raise OperatorError(f"true_contribution: flagged_share must be from 0 to 1, found {self.flagged_share}")
