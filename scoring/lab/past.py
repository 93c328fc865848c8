"""The past of a round: what everybody could know of each model when the round closed.

    reputation of a model      mean of a score over the rounds of the last year that had resolved; a round that it
                               missed, or that it was late for, counts 0
    of an account              the same of its models' mean, weighted by stake, in each round
    past rate                  mean payout less burn per stake over the same rounds in which it was at risk

Only rounds that resolved before the close count, so a weighting by reputation never sees what it is judged by. The
failure guarded against: a policy that does well because it looked ahead. Scores are integers of 1e-12, and all means
are exact and rounded down once.

References:
    Numerai docs, reputation (2020–2023): a mean over a year, missed rounds as 0, accounts by stake.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction

from scoring.weight_policies import Standings

YEAR = timedelta(days=365)


@dataclass(frozen=True, slots=True)
class PastRound:
    """What a round told when it had resolved.

    Attributes:
        number: the round's.
        closes_at, resolves_at: with time zone.
        scores: of each model at risk, in units of 1e-12; 0 where it has none.
        rates: payout less burn per stake of each model at risk, in units of 1e-12.
        stakes: at risk, in atoms, by model.
        accounts: owner by model; None for a model that is an account of its own.
    """

    number: int
    closes_at: datetime
    resolves_at: datetime
    scores: Mapping[str, int]
    rates: Mapping[str, int]
    stakes: Mapping[str, int]
    accounts: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Past:
    """What could be known when a round closed.

    Attributes:
        standings: reputations of models and accounts, in units of 1e-12.
        rates: past rate by model, in units of 1e-12.
    """

    standings: Standings
    rates: Mapping[str, int]


def past_of(closes_at: datetime, rounds: Sequence[PastRound]) -> Past:
    """Returns what could be known at a close.

    Args:
        closes_at: when the round closed.
        rounds: all rounds, in any order; those that had not resolved, or did so a year or more before, say nothing.
    """
    known = [each for each in rounds if closes_at - YEAR < each.resolves_at <= closes_at]
    models: dict[str, Fraction] = {}
    accounts: dict[str, Fraction] = {}
    rates: dict[str, list[int]] = {}
    for each in known:
        for model, score in each.scores.items():
            models[model] = models.get(model, Fraction(0)) + score
        for account, mean in _account_scores(each).items():
            accounts[account] = accounts.get(account, Fraction(0)) + mean
        for model, rate in each.rates.items():
            rates.setdefault(model, []).append(rate)
    return Past(
        Standings(_means(models, len(known)), _means(accounts, len(known))),
        {model: sum(found) // len(found) for model, found in sorted(rates.items())},
    )


def _means(sums: Mapping[str, Fraction], rounds: int) -> dict[str, int]:
    return {name: total // rounds for name, total in sorted(sums.items())}


def _account_scores(each: PastRound) -> dict[str, Fraction]:
    """Returns each account's stake-weighted mean of its models."""
    totals: dict[str, int] = {}
    weighted: dict[str, int] = {}
    for model, score in each.scores.items():
        account, stake = each.accounts.get(model), each.stakes[model]
        if account is not None and stake:
            totals[account] = totals.get(account, 0) + stake
            weighted[account] = weighted.get(account, 0) + stake * score
    return {account: Fraction(weighted[account], total) for account, total in totals.items()}
