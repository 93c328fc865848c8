"""Attacks by somebody who was not there: pairs, copies, and stakes so large that the round is about them.

A newcomer has no past: a policy that looks at standings gives him no weight, but pays him as everybody. His stake is
new money, so that it always lowers a payout factor below 1. What an attack is worth is what it gives beyond the honest
play of the same round; where that is to stay away, beyond nothing.
"""

from scoring.lab.attacks_parts import (
    SMALL,
    Entry,
    best,
    copied,
    cut,
    largest,
    largest_burner,
    newcomer,
    random_predictions,
    submitted,
    total_at_risk,
)
from scoring.lab.plays import Ground, Pair, Play

MERGED_ACCOUNTS = 50
WHALE = 20
"""The stake of a whale, in totals at risk: he is then 95 % of the meta model."""

TINY = 1_000_000
"""A stake that is next to none is one part of so many of the total at risk."""

_ABSENT = Play()


def pair_for_bonus(ground: Ground, _: int) -> Pair | None:
    """Stakes half on p in one account and half on 1 − p in another, with a p that is drawn at random.

    Tried in 2019 and 2020, when a good round earned a bonus that a bad one did not cost. Honest is the whole stake on
    p. The pair earns nothing and risks nothing as long as a payout is as large as the burn that mirrors it; it pays
    where a rule adds to gains, or takes from losses, so that one side gets more than the other gives. A p without skill
    is nobody's secret: what then pays is the rule alone.

    Args:
        ground: the round; None is returned where nothing is at risk.
    """
    stake = total_at_risk(ground) // SMALL
    if stake < 2:
        return None
    honest = newcomer(ground, [Entry(stake, random_predictions(ground))])
    return Pair(honest, newcomer(ground, _opposite(ground, stake), "each"))


def throttle_pair(ground: Ground, _: int) -> Pair | None:
    """Stakes as much as everybody together, half on p and half on 1 − p, where he would not have come at all.

    Known since the payout factor (2021): 72 000 at risk plus 36 000 and 36 000 on a pair halve all payouts, and the
    pair gets back what it loses. He earns nothing by it; who has another stake in the outcome does it. It harms
    wherever all that is at risk counts in the factor, and not where opposites are netted or there is no threshold.

    Args:
        ground: the round; None is returned where nothing is at risk.
    """
    stake = total_at_risk(ground)
    return None if stake < 2 else Pair(_ABSENT, newcomer(ground, _opposite(ground, stake), "each"))


def meta_model_copy(ground: Ground, _: int) -> Pair | None:
    """Uploads the meta model, with as much at stake as everybody together, where he would not have come at all.

    The throttle without a pair: the copy's MMC is exactly 0, so under a rule that pays on MMC alone he risks nothing
    and halves the payout factor. Where CORR is paid as well he earns what the crowd knows, which may pay. Nothing nets
    him, as nobody is his opposite; a tax on the correlation with the meta model takes most from him.

    Args:
        ground: the round; None is returned where nothing is at risk, or the meta model ranks nothing.
    """
    stake, copy = total_at_risk(ground), copied(ground.meta_model)
    return None if not stake or copy is None else Pair(_ABSENT, newcomer(ground, [Entry(stake, copy)]))


def copy_example(ground: Ground, _: int) -> Pair | None:
    """Uploads the example predictions that everybody is given, with a small stake.

    The oldest attack of all. It pays where the score that is paid rewards what is known already, and not where it is
    what a model adds (MMC, BMC) or a factor for being unlike others.

    Args:
        ground: the round; None is returned where nothing is at risk, or the example ranks nothing.
    """
    stake, copy = total_at_risk(ground) // SMALL, copied(ground.example)
    return None if not stake or copy is None else Pair(_ABSENT, newcomer(ground, [Entry(stake, copy)]))


def spoil_by_copy(ground: Ground, _: int) -> Pair | None:
    """Copies the largest staker's predictions with next to no stake, to be like him.

    What is paid less the more it is like another submission is at the mercy of whoever makes himself alike. What
    decides is whether a rule looks at the stake behind the likeness: `uniqueness` does not, and a millionth of what is
    at risk takes nearly all of a payout away. Whoever does it must know the other's predictions.

    Args:
        ground: the round; None is returned where next to nothing is at risk.
    """
    rival, stake = largest(ground), total_at_risk(ground) // TINY
    if rival is None or not stake:
        return None
    return Pair(_ABSENT, newcomer(ground, [Entry(stake, submitted(ground, rival.model))]))


def invert_burner(ground: Ground, _: int) -> Pair | None:
    """Uploads the opposite of the largest staker who has lost so far, with a small stake.

    A large staker who burns is a signal with the wrong sign. What decides is whether losing lasts: the past says less
    of the next round than it seems. Under rules that pay on MMC he is paid for taking the burner's weight back out of
    the meta model, which the tournament may well want.

    Args:
        ground: the round; None is returned where nobody at risk has lost so far.
    """
    stake, burner = total_at_risk(ground) // SMALL, largest_burner(ground)
    if not stake or burner is None:
        return None
    return Pair(_ABSENT, newcomer(ground, [Entry(stake, submitted(ground, burner, turned=True))]))


def merge_accounts(ground: Ground, accounts: int) -> Pair | None:
    """Puts as much as everybody together on the best model of the past, from one account in place of many.

    Found in a synthetic market: with half of all at risk, one account scored +.0139 bagged MMC, fifty scored −.0032.
    Half of the bags that draw accounts leave a single one out, and pay it there for what the others do not know; of
    fifty some are in every bag, where the meta model is what they say already. With one full meta model it makes no
    difference, unless a cap is on models or accounts, where merging costs weight.

    Args:
        ground: the round; None is returned where nobody at risk has a past.
        accounts: how many he has when he is honest.
    """
    stake, model = total_at_risk(ground), best(ground)
    if stake < accounts or model is None:
        return None
    copy = submitted(ground, model)
    honest = newcomer(ground, [Entry(part, copy) for part in cut(stake, accounts)], "each")
    return Pair(honest, newcomer(ground, [Entry(stake, copy)]))


def own_meta_model(ground: Ground, _: int) -> Pair | None:
    """Puts twenty times what is at risk on the best model of the past, where a modest stake would be honest.

    A whale is the meta model. Where MMC is paid his own is nearly 0, and what others add is measured against him alone;
    where CORR is paid nothing stops him but the payout factor. A cap on the weight of a model or an account keeps the
    meta model from him, but not the payouts.

    Args:
        ground: the round; None is returned where nobody at risk has a past.
    """
    stake, model = total_at_risk(ground), best(ground)
    if stake < SMALL or model is None:
        return None
    copy = submitted(ground, model)
    honest = newcomer(ground, [Entry(stake // SMALL, copy)])
    return Pair(honest, newcomer(ground, [Entry(WHALE * stake, copy)]))


def _opposite(ground: Ground, stake: int) -> list[Entry]:
    """Returns a random p and its mirror image, half the stake on each."""
    first, second = cut(stake, 2)
    return [Entry(first, random_predictions(ground)), Entry(second, random_predictions(ground, turned=True))]
