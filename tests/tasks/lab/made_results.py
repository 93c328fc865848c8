"""Results of an experiment that never ran: rounds and models whose answers are known because they were made so."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd

from scoring.lab.combination import Gram
from tasks.lab.results import MODEL_COLUMNS, ROUND_COLUMNS, SCORES, Results

BASELINE = "today"
ROUNDS, MODELS, STOCKS, WEEKS_OPEN = 16, 24, 60, 4
FIRST = 101
VARIANTS = (BASELINE, "leave-out-1", "leave-out-3", "leave-out-5", "corr-2-tc-1", "corr-1-tc-3")
RETURNS = (0.02, -0.01, 0.03, 0.01, 0.02, 0.01, -0.05, -0.02, 0.09, 0.01, 0.02, -0.03, 0.01, -0.04, 0.02, 0.01)
"""Wealth falls in round 102, in 107–108 and, without recovering, in 112–114."""

_START = datetime(2026, 1, 3, tzinfo=UTC)


def made_results() -> Results:
    """Returns results with everything in them; TC is three times as loud as CORR and forgets from round to round."""
    random = np.random.default_rng(11)
    grams, predictions, targets = _market(random)

    def combined(number: int, weights: Mapping[str, float]) -> tuple[float, float]:
        blend = sum(weight * predictions[number][int(name[1:])] for name, weight in weights.items())
        corr = float(np.corrcoef(blend, targets[number])[0, 1])
        return corr, 0.1 * corr

    models = pd.concat([_models(random, variant) for variant in VARIANTS], ignore_index=True)
    rounds = pd.concat([_rounds(variant, models) for variant in VARIANTS], ignore_index=True)
    return Results(rounds, models, BASELINE, 3, grams, combined)


def changed(results: Results, **columns: "pd.Series[float] | float") -> Results:
    """Returns the results with columns of the models replaced."""
    return replace(results, models=results.models.assign(**columns))


def _market(random: np.random.Generator) -> tuple[dict[int, Gram], dict[int, np.ndarray], dict[int, np.ndarray]]:
    skill = random.normal(0.05, 0.15, MODELS)
    grams, predictions, targets = {}, {}, {}
    for number in range(FIRST, FIRST + ROUNDS):
        y = random.normal(size=STOCKS)
        y -= y.mean()
        g = skill[:, None] * y + random.normal(size=(MODELS, STOCKS))
        g -= g.mean(axis=1)[:, None]
        names = tuple(f"m{model:02}" for model in range(MODELS))
        grams[number] = Gram(names, g @ g.T, g @ y, float(y @ y), STOCKS)
        predictions[number], targets[number] = g, y
    return grams, predictions, targets


def _models(random: np.random.Generator, variant: str) -> pd.DataFrame:
    skill = np.random.default_rng(5).normal(0.02, 0.01, MODELS)
    stakes = np.round(100.0 * 1.25 ** np.arange(MODELS)[::-1], 2)
    frames = []
    for number in range(FIRST, FIRST + ROUNDS):
        mmc = skill / 2 + random.normal(0.005, 0.004, MODELS)
        corr = skill + random.normal(0.01, 0.01, MODELS)
        tc = random.normal(0.0, 0.05, MODELS)
        rate = {"corr-2-tc-1": 2 * corr + tc, "corr-1-tc-3": corr + 3 * tc}.get(variant, corr)
        frame = pd.DataFrame(
            {
                "variant": variant,
                "round": number,
                "model": [f"m{model:02}" for model in range(MODELS)],
                "account": [f"account_{model % 9}" for model in range(MODELS)],
                "at_risk": stakes,
                "weight": stakes / stakes.sum(),
                "payout": np.maximum(rate, 0.0) * stakes,
                "burn": np.maximum(-rate, 0.0) * stakes,
                "corr": corr,
                "mmc": mmc,
                "mmc_richard": 0.001 * mmc,
                "mmc_mike": mmc / 3.0,
                "bmc": mmc + random.normal(0.0, 0.004, MODELS),
                "tc": tc,
                "cwmm": np.clip(random.normal(0.5, 0.2, MODELS), -1.0, 1.0),
            }
        )
        frame.loc[frame["model"] == f"m{number % MODELS:02}", list(SCORES)] = np.nan
        frames.append(frame)
    return pd.concat(frames, ignore_index=True)[list(MODEL_COLUMNS)]


def _rounds(variant: str, models: pd.DataFrame) -> pd.DataFrame:
    left = int(variant.removeprefix("leave-out-")) if variant.startswith("leave-out-") else 0
    rows = []
    for place in range(ROUNDS):
        number = FIRST + place
        of_round = models[(models["variant"] == variant) & (models["round"] == number)]
        closes_at = _START + timedelta(weeks=place)
        rows.append(
            {
                "variant": variant,
                "round": number,
                "closes_at": closes_at,
                "resolves_at": closes_at + timedelta(weeks=WEEKS_OPEN),
                "at_risk": Decimal(str(round(of_round["at_risk"].sum(), 2))),
                "gross_payout": _money(of_round["payout"]),
                "payout": _money(of_round["payout"]),
                "burn": _money(of_round["burn"]),
                "factor": 1.0,
                "meta_model_corr": 0.02 + 0.01 * np.sin(place) - 0.001 * left,
                "portfolio_return": RETURNS[place] + (0.0001 * left if place % 4 else -0.0002 * left),
                "effective_models": 8.0 + left,
                "largest_model_share": 0.2,
                "largest_account_share": 0.3 - 0.02 * left,
            }
        )
    return pd.DataFrame(rows)[list(ROUND_COLUMNS)]


def _money(amounts: pd.Series) -> Decimal:
    return Decimal(f"{amounts.sum():.18f}")
