"""2×CORR + 1×TC against 1×CORR + 3×TC, and the thread's example of a weight within an account.

The failure guarded against: one total for a change that takes from some and gives to others. Beside the totals stand
who gains and who loses, and what a rule pays for: the correlation of a stake's net rate with TC and CORR.

References:
    "Numerai Fireside Chat Aftermath", the tournament's forum (2023): "1xCORR + 3xTC doesn't equal 2xCORR + 1xTC";
    "Model A = 0.02 * 0.9 = 0.18", where 0.018 is meant.
"""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pandas as pd

from scoring.lab.statistics import pearson
from scoring.published import SCORE_DECIMALS
from scoring.weight_policies import Field, Standings, WeightStep, amounts_of
from tasks.lab.exhibit import Exhibit, Table
from tasks.lab.exhibits_frames import exact_sum, models_of, require_variants, rounds_of
from tasks.lab.exhibits_words import money, number, percent
from tasks.lab.pictures import Axes, Picture, bars, lines
from tasks.lab.results import Results

NEW, OLD = "corr-2-tc-1", "corr-1-tc-3"
_RULES = {NEW: "2×CORR + 1×TC", OLD: "1×CORR + 3×TC"}
_PAID_FOR = ("tc", "corr", "mmc")
_MOST = 5

_ACCOUNT_WEIGHT = Fraction(2, 100)
_STAKES = (90, 10)
_MISPRINT = Fraction(18, 100)


def payouts_2x1_1x3(results: Results) -> Exhibit:
    """Returns what the two rules pay, whom, and for what.

    Raises:
        OperatorError: the experiment has not both variants.
    """
    require_variants(results, (NEW, OLD), "payouts_2x1_1x3")
    changes = _changes(results)
    return Exhibit(
        "payouts_2x1_1x3",
        "2×CORR + 1×TC against 1×CORR + 3×TC",
        "A post calls the change from 1×CORR + 3×TC to 2×CORR + 1×TC a drastic decrease in payout. Is it one, who "
        "loses, and what is paid for?",
        (_on_totals(results), _on_gainers(changes), *_on_aims(results)),
        (_over_time(results), _gainers_picture(changes)),
        (_totals_table(results), _gainers_table(changes)),
    )


def account_weighting_example(results: Results) -> Exhibit:
    """Returns the thread's example, computed; nothing in it depends on the rounds."""
    del results
    weights = within_account(_ACCOUNT_WEIGHT, _STAKES)
    names = ("A", "B")
    shares = [f"{part / sum(_STAKES):.0%}" for part in _STAKES]
    told = " and ".join(f"model {name} {_decimal(each)}" for name, each in zip(names, weights, strict=True))
    frame = pd.DataFrame(
        {
            "model": names,
            "share inside the account": shares,
            "account weight": _decimal(_ACCOUNT_WEIGHT),
            "weight": [_decimal(each) for each in weights],
        }
    )
    return Exhibit(
        "account_weighting_example",
        "A weight within an account",
        f"An account has the weight {_decimal(_ACCOUNT_WEIGHT)} by its standing, and its stake lies {_STAKES[0]} to "
        f"{_STAKES[1]} on two models: what are the models' weights?",
        (
            f"Exactly {told}; together they are the account's {_decimal(sum(weights, Fraction(0)))}.",
            f"The post prints {_decimal(_MISPRINT)} for model A, {_decimal(_MISPRINT / weights[0])} times the product.",
        ),
        tables=(Table("Account weight × share inside the account", frame),),
    )


def within_account(weight: Fraction, stakes: Sequence[int]) -> tuple[Fraction, ...]:
    """Returns the weights of an account's models by the policy that also weighs live rounds.

    Args:
        weight: of the account, 0 < weight < 1, by its standing; the rest is somebody else's.
        stakes: of its models, > 0.
    """
    units = 10**SCORE_DECIMALS
    models = (*(f"model_{number_}" for number_ in range(len(stakes))), "somebody_else")
    standings = Standings(accounts={"account": int(weight * units), "others": int((1 - weight) * units)})
    field = Field(models, (*("account" for _ in stakes), "others"), (*stakes, 1), standings)
    amounts = amounts_of([WeightStep("within_account")], field)
    return tuple(Fraction(amount, sum(amounts)) for amount in amounts[:-1])


def _decimal(value: Fraction) -> str:
    return f"{Decimal(value.numerator) / Decimal(value.denominator):f}"


def _sums(results: Results, variant: str) -> dict[str, Decimal]:
    rows = rounds_of(results, variant)
    paid, burned = (exact_sum(rows[column]) for column in ("payout", "burn"))
    return {"paid": paid, "burned": burned, "net": paid - burned}


def _on_totals(results: Results) -> str:
    new, old = _sums(results, NEW), _sums(results, OLD)
    change = new["net"] - old["net"]
    paid = percent(float(new["paid"] / old["paid"]) - 1.0) if old["paid"] else "nothing to compare with"
    return (
        f"{_RULES[NEW]} {_told(new)}; {_RULES[OLD]} {_told(old)}. The change {'takes' if change < 0 else 'gives'} "
        f"{money(abs(change))} net, and changes what is paid by {paid}."
    )


def _told(sums: Mapping[str, Decimal]) -> str:
    return f"pays {money(sums['paid'])} and burns {money(sums['burned'])}, net {money(sums['net'])}"


def _net(results: Results, variant: str) -> pd.Series:
    models = models_of(results, variant)
    owner = models["account"].where(models["account"].notna(), models["model"])
    return (models["payout"] - models["burn"]).groupby(owner).sum()


def _changes(results: Results) -> pd.DataFrame:
    """Returns each account's net payouts under both rules and their difference, the largest gain first."""
    both = pd.DataFrame({"new": _net(results, NEW), "old": _net(results, OLD)}).fillna(0.0)
    both = both.assign(change=both["new"] - both["old"]).rename_axis("account").reset_index()
    return both.sort_values(["change", "account"], ascending=[False, True]).reset_index(drop=True)


def _on_gainers(changes: pd.DataFrame) -> str:
    gained, lost = int((changes["change"] > 0).sum()), int((changes["change"] < 0).sum())
    first, last = changes.iloc[0], changes.iloc[-1]
    return (
        f"By the change to {_RULES[NEW]}, {gained:,} accounts gain and {lost:,} lose: most of all {first['account']} "
        f"({money(first['change'])}) and {last['account']} ({money(last['change'])})."
    )


def _on_aims(results: Results) -> tuple[str, ...]:
    aims = {variant: _aims(results, variant) for variant in _RULES}
    told = [
        f"{_RULES[variant]}: {', '.join(f'{score.upper()} {number(each)}' for score, each in found.items())}"
        for variant, found in aims.items()
    ]
    sentence = f"The net rate of a stake correlates with the scores as follows. {'; '.join(told)}."
    new, old = aims[NEW]["tc"], aims[OLD]["tc"]
    if new is None or old is None or new == old:
        return (sentence,)
    return (sentence, f"{_RULES[NEW if new > old else OLD]} follows true contribution more closely.")


def _aims(results: Results, variant: str) -> dict[str, float | None]:
    rows = models_of(results, variant)
    rows = rows[rows["at_risk"] > 0]
    rate = (rows["payout"] - rows["burn"]) / rows["at_risk"]
    found: dict[str, float | None] = {}
    for score in _PAID_FOR:
        present = rows[score].notna()
        pair = [each[present].to_numpy(dtype=np.float64) for each in (rate, rows[score])]
        found[score] = pearson(pair[0], pair[1])
    return found


def _over_time(results: Results) -> Picture:
    series, ends = {}, []
    for variant, rule in _RULES.items():
        rows = rounds_of(results, variant)
        net = (rows["payout"] - rows["burn"]).astype(float).cumsum().tolist()
        series[rule] = ([float(each) for each in rows["round"]], net)
        ends.append(f"{rule} {money(net[-1])}")
    return lines(
        "Net payouts, summed over rounds",
        f"Payouts less burns under both rules; at the end {', '.join(ends)}.",
        series,
        Axes("round", "net payouts, summed"),
    )


def _extremes(changes: pd.DataFrame) -> pd.DataFrame:
    return changes if len(changes) <= 2 * _MOST else pd.concat([changes.head(_MOST), changes.tail(_MOST)])


def _gainers_picture(changes: pd.DataFrame) -> Picture:
    shown = _extremes(changes)
    values = dict(zip(shown["account"].astype(str), shown["change"].astype(float), strict=True))
    return bars(
        "Who gains and who loses",
        f"Accounts with the largest changes: {', '.join(f'{name} {money(each)}' for name, each in values.items())}.",
        values,
        Axes("", f"net change by {_RULES[NEW]}"),
    )


def _totals_table(results: Results) -> Table:
    rows = [{"rule": rule} | {k: money(v) for k, v in _sums(results, name).items()} for name, rule in _RULES.items()]
    return Table("What the two rules pay over all rounds", pd.DataFrame(rows))


def _gainers_table(changes: pd.DataFrame) -> Table:
    shown = _extremes(changes)
    frame = pd.DataFrame(
        {
            "account": shown["account"],
            _RULES[NEW]: [money(each) for each in shown["new"]],
            _RULES[OLD]: [money(each) for each in shown["old"]],
            "change": [money(each) for each in shown["change"]],
        }
    )
    return Table("Accounts with the largest changes, net", frame)
