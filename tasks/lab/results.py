"""What an experiment found, as its exhibits and its report read it: a row a round, and a row a model and round.

    rounds   variant, round, closes_at, resolves_at, at_risk, gross_payout, payout, burn (Decimal, in the currency),
             factor, meta_model_corr, portfolio_return, effective_models, largest_model_share, largest_account_share
    models   variant, round, model, account, at_risk, weight, payout, burn, corr, mmc, mmc_richard, mmc_mike, bmc, tc,
             cwmm (float; NaN where absent)

The failure guarded against: a figure that is absent and counts as 0. Absent is NaN throughout, and what has no value is
said to have none.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from scoring.lab.combination import Gram

MONEY = ("at_risk", "gross_payout", "payout", "burn")
"""Columns of `rounds` that are Decimal objects."""

SCORES = ("corr", "mmc", "mmc_richard", "mmc_mike", "bmc", "tc", "cwmm")
"""Columns of `models` that are scores."""

ROUND_COLUMNS = (
    "variant",
    "round",
    "closes_at",
    "resolves_at",
    *MONEY,
    "factor",
    "meta_model_corr",
    "portfolio_return",
    "effective_models",
    "largest_model_share",
    "largest_account_share",
)
"""Columns of `rounds`."""

MODEL_COLUMNS = ("variant", "round", "model", "account", "at_risk", "weight", "payout", "burn", *SCORES)
"""Columns of `models`."""


def owner_of(model: str, account: str | None) -> str:
    """Returns whose a model is: one without an account is an account of its own, told apart from one of its name."""
    return account or f"model {model}"


Combined = Callable[[int, Mapping[str, float]], tuple[float, float]]
"""(round, weight by model) → CORR of the meta model with these weights, and its portfolio's return or NaN."""


@dataclass(frozen=True, slots=True)
class Results:
    """What an experiment found.

    Attributes:
        rounds: a row a variant and round, see `ROUND_COLUMNS`; `portfolio_return` is NaN where there is none.
        models: a row a variant, round and model, see `MODEL_COLUMNS`; `weight` is the share in the meta model and
            sums to 1 over a round.
        baseline: the variant that the others are compared with.
        seed: of what is drawn in statistics.
        grams: by round, what a least-squares fit of its submissions to its target needs; may be empty.
        combined: what a combination of a round's submissions would have given; None where it cannot be told.
    """

    rounds: pd.DataFrame
    models: pd.DataFrame
    baseline: str
    seed: int = 0
    grams: Mapping[int, Gram] = field(default_factory=dict)
    combined: Combined | None = None
