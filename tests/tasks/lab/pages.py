"""A made-up experiment, large enough to be looked at: 30 rounds, eight variants, 13 attacks, two exhibits."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd

from tasks.lab.exhibit import Exhibit, Table
from tasks.lab.pictures import Axes, bands, density, histograms, lines, ranked, scatter
from tasks.lab.report import Page

ROUNDS, MODELS, ACCOUNTS = 30, 160, 60
VARIANTS = {  # name → (how much it pays, whether it changes weights)
    "baseline": (1.0, 0.0),
    "conformity tax by model": (0.86, 0.0),
    "conformity tax by account": (0.81, 0.0),
    "net of opposites": (1.12, 0.0),
    "cap 5% by account": (1.0, 0.3),
    "cap of families at 10%": (1.0, 0.45),
    "equal weights": (1.0, 1.0),
    "1×CORR + 3×TC": (0.7, 0.0),
}
ATTACKS = {
    "pair_for_bonus": "p and 1 − p in two accounts",
    "throttle_pair": "A pair that halves the factor",
    "meta_model_copy": "Copy of the meta model",
    "split_models": "One stake split into models",
    "split_accounts": "One stake split into accounts",
    "merge_accounts": "Fifty accounts merged into one",
    "copy_example": "Copy of the example predictions",
    "invert_burner": "The mirror of who burns",
    "leave_ids_out": "Ids near the middle left out",
    "own_meta_model": "A whale that is the meta model",
    "grind_seed": "A seed chosen among many",
    "harvest_rounding": "Stakes cut to harvest rounding",
    "swap_after_close": "A submission swapped after the close",
}
MECHANISMS = (
    "plain",
    "conformity tax by model",
    "conformity tax by account",
    "net of opposites",
    "bagged MMC by account",
    "cap 5% by account",
)
VERDICTS = ("pays", "harms", "fails", "none")
_FIGURES = (  # figure, label, unit, value at the baseline, standard error
    ("paid", "paid", "currency", 18_450.0, 900.0),
    ("burned", "burned", "currency", 9_320.0, 700.0),
    ("net", "paid less burned", "currency", 9_130.0, 1_400.0),
    ("withheld", "withheld by the rule", "currency", 2_210.0, 90.0),
    ("compounded", "compounded return of all stakes", "%", 0.084, 0.02),
    ("gini_models", "Gini of models' gains", "", 0.713, 0.01),
    ("gini_accounts", "Gini of accounts' gains", "", 0.802, 0.01),
    ("effective_models", "effective number of models", "models", 31.4, 1.1),
    ("largest_model_share", "largest model's weight", "%", 0.091, 0.003),
    ("largest_account_share", "largest account's weight", "%", 0.142, 0.004),
    ("effective_influence", "effective number by influence", "models", 12.8, 1.6),
    ("pay_corr_tc", "correlation of pay with TC", "", 0.31, 0.05),
    ("pay_corr_mmc", "correlation of pay with MMC", "", 0.62, 0.04),
    ("pay_corr_corr", "correlation of pay with CORR", "", 0.91, 0.02),
    ("meta_model_corr", "CORR of the meta model", "", 0.0312, 0.0041),
    ("portfolio_return", "portfolio return a round", "%", 0.0121, 0.006),
    ("portfolio_drawdown", "largest drawdown of the portfolio", "%", -0.043, 0.01),
)


def fake_page(seed: int = 1) -> Page:
    """Returns a page of made-up numbers, the same for the same seed."""
    generator = np.random.default_rng(seed)
    rounds, models = _tables(generator)
    return Page(
        title="Would a conformity tax have paid?",
        question="What would a tax on conformity have paid, to whom, and how would it be gamed?",
        facts={
            "data": "sp500, 30 rounds, 160 models of 60 accounts",
            "rounds": "1 to 30",
            "seed": "17",
            "baseline": "baseline: rules of 2023-11-01",
            "intervals": "95%, circular block bootstrap, blocks of 4 rounds",
        },
        comparison=_comparison(generator),
        matrix=_matrix(generator),
        rounds=rounds,
        models=models,
        exhibits=(_stability(generator), _influence(generator)),
        attacks={
            name: f"{title}: who does it hopes that the rule looks at one side only." for name, title in ATTACKS.items()
        },
        notes=("Thirty rounds are few: read the intervals.", "Amounts are in the tournament's currency."),
    )


def _tables(generator: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    stakes = generator.pareto(1.3, MODELS) * 20.0 + 5.0
    names = np.array([f"model_{number:03d}" for number in range(MODELS)])
    accounts = np.array([f"account_{int(number):02d}" for number in generator.integers(0, ACCOUNTS, MODELS)])
    rounds, models = [], []
    for number in range(1, ROUNDS + 1):
        closes = datetime(2023, 1, 7, 14, tzinfo=UTC) + timedelta(weeks=number)
        market = generator.normal(0.012, 0.02)
        corr = market + generator.normal(0.0, 0.02, MODELS)
        tc = generator.normal(0.002, 0.03, MODELS)
        portfolio = generator.normal(0.004, 0.015)
        for variant, (pays, moves) in VARIANTS.items():
            score = corr if "TC" not in variant else corr + 3.0 * tc
            rate = np.clip(score, -0.25, 0.25)
            payout = stakes * np.where(rate > 0.0, rate * pays, 0.0)
            burn = stakes * np.where(rate < 0.0, -rate, 0.0)
            weight = stakes ** (1.0 - moves)
            weight = weight / weight.sum()
            rounds.append(
                {
                    "variant": variant,
                    "round": number,
                    "closes_at": closes,
                    "resolves_at": closes + timedelta(days=31),
                    "at_risk": Decimal(repr(float(stakes.sum()))),
                    "gross_payout": Decimal(repr(float(payout.sum()))),
                    "payout": Decimal(repr(float(payout.sum()))),
                    "burn": Decimal(repr(float(burn.sum()))),
                    "factor": 0.8,
                    "meta_model_corr": float(market + 0.02 + 0.002 * moves),
                    "portfolio_return": float(portfolio + 0.002 * moves),
                    "effective_models": float(1.0 / (weight**2).sum()),
                    "largest_model_share": float(weight.max()),
                    "largest_account_share": float(weight.max() * 1.2),
                }
            )
            columns = {"variant": variant, "round": number, "model": names, "account": accounts, "at_risk": stakes}
            scores = {"corr": corr, "mmc": corr / 2.0, "bmc": corr / 3.0, "tc": tc, "cwmm": np.nan}
            models.append(pd.DataFrame(columns | {"weight": weight, "payout": payout, "burn": burn} | scores))
    return pd.DataFrame(rounds), pd.concat(models, ignore_index=True)


def _comparison(generator: np.random.Generator) -> pd.DataFrame:
    rows = []
    for figure, label, unit, value, error in _FIGURES:
        for variant, (pays, moves) in VARIANTS.items():
            moved = value * (0.5 * (pays - 1.0) + 0.1 * moves * generator.normal())
            rows.append(
                {
                    "variant": variant,
                    "figure": figure,
                    "label": label,
                    "unit": unit,
                    "value": value + moved,
                    "low": value + moved - 2 * error,
                    "high": value + moved + 2 * error,
                    "difference": np.nan if variant == "baseline" else moved,
                    "difference_low": np.nan if variant == "baseline" else moved - error,
                    "difference_high": np.nan if variant == "baseline" else moved + error,
                }
            )
    return pd.DataFrame(rows)


def _matrix(generator: np.random.Generator) -> pd.DataFrame:
    rows = []
    for attack, title in ATTACKS.items():
        for mechanism in MECHANISMS:
            gain, half = generator.normal(-0.01, 0.03), abs(generator.normal(0.01, 0.005))
            none = attack == "invert_burner" and mechanism == "plain"
            verdict = "none" if none else "pays" if gain - half > 0 else "harms" if gain + half > 0 else "fails"
            rows.append(
                {
                    "mechanism": mechanism,
                    "attack": attack,
                    "title": title,
                    "choice": None if attack == "grind_seed" else int(generator.choice([1, 2, 8, 50])),
                    "rounds": 30,
                    "gain": np.nan if none else gain,
                    "low": gain - half,
                    "high": gain + half,
                    "p_value": float(generator.uniform(0.0, 0.2)),
                    "wins": 21,
                    "losses": 9,
                    "harm": gain / 20.0,
                    "harm_low": gain / 20.0 - half / 20.0,
                    "harm_high": gain / 20.0 + half / 20.0,
                    "throttle": 0.5 if attack == "throttle_pair" else 0.0,
                    "throttle_low": 0.47 if attack == "throttle_pair" else 0.0,
                    "throttle_high": 0.52 if attack == "throttle_pair" else 0.0,
                    "detectability": float(generator.uniform()),
                    "verdict": verdict,
                }
            )
    return pd.DataFrame(rows)


def _stability(generator: np.random.Generator) -> Exhibit:
    x = list(range(1, ROUNDS + 1))
    scores = {name: generator.normal(0.005, width, (ROUNDS, MODELS)) for name, width in _WIDTHS.items()}
    quantiles = {
        name: tuple(np.quantile(values, level, axis=1).tolist() for level in (0.1, 0.5, 0.9))
        for name, values in scores.items()
    }
    pictures = (
        bands(
            "Scores over time",
            "The band from the tenth to the ninetieth percentile of TC is three times as wide as CORR's.",
            x,
            {name: (low, middle, high) for name, (low, middle, high) in quantiles.items()},
            Axes("round", "score"),
        ),
        histograms(
            "How scores are distributed",
            "TC spreads widest, MMC least.",
            {name: values.ravel().tolist() for name, values in scores.items()},
            Axes("score", "models and rounds"),
        ),
    )
    frame = pd.DataFrame(
        {
            "score": list(scores),
            "spread_over_rounds": [float(values.std(axis=0).mean()) for values in scores.values()],
            "rank_autocorrelation": [0.41, 0.33, 0.31, np.nan],
            "sign_changes": [9, 11, 12, 15],
        }
    )
    question = "MMC is much more stable than TC: is it here?"
    findings = ("TC varies 3.1 times as much as CORR.", "Its ranks of one round say nothing of the next: 0.02.")
    return Exhibit(
        "score_stability", "Which score is stable?", question, findings, pictures, (Table("Stability", frame),)
    )


_WIDTHS = {"CORR": 0.025, "MMC": 0.015, "BMC": 0.017, "TC": 0.07}


def _influence(generator: np.random.Generator) -> Exhibit:
    stake = generator.lognormal(5.0, 1.8, 400)
    moved = stake * generator.normal(0.001, 0.02, 400)
    clouds = {"accounts": (stake.tolist(), moved.tolist())}
    axes = Axes("mean stake, NMR", "stake × TC, NMR", log_x=True)
    thresholds = {f"tax from {level} NMR": np.minimum(moved, level).tolist() for level in (2, 5, 20)}
    pictures = (
        scatter("Influence against stake", "Influence grows with the stake, in both directions.", clouds, axes),
        density(
            "Where the accounts are",
            "Most accounts have 50 to 500 NMR and next to no influence.",
            *clouds["accounts"],
            axes,
        ),
        ranked("Payouts by rank", "A low threshold cuts the first hundred.", thresholds, Axes("rank", "NMR")),
        lines(
            "Payout under the tax",
            "Above the threshold of 50 the curves part: the more alike, the flatter.",
            {
                f"M = {level:g}": ([-75.0, 50.0, 200.0], [-75.0, 50.0, 50.0 + 150.0 * (1.0 - level)])
                for level in (0, 0.2, 0.8, 0.95)
            },
            Axes("payout before, NMR", "payout after, NMR"),
        ),
    )
    frame = pd.DataFrame(
        {
            "round": range(1, ROUNDS + 1),
            "paid": [Decimal(1234567) / (n + 1) for n in range(ROUNDS)],
            "clear": [True, False, None] * 10,
        }
    )
    question = "If stake weighting worked, would stake and influence not correlate?"
    findings = ("They do, weakly: 0.21 [0.04, 0.37].",)
    return Exhibit("stake_influence", "Stake and influence", question, findings, pictures, (Table("By round", frame),))
