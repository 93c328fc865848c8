"""Attacks by somebody who is there: the largest staker, with the capital he has.

All models of his account are counted as his, so that what he moves from one to another is no gain. Honest is what he
really did, unless said otherwise. The failure guarded against: an attack that seems to pay because part of his loss
falls on a model of his that nobody looked at.
"""

from dataclasses import replace

import numpy as np

from scoring.bags import round_seed
from scoring.lab.attacks_parts import cut, free_names, free_prefix, largest, submitted
from scoring.lab.plays import Ground, Pair, Play, Predictions
from scoring.stakes import Stake

DUST_ATOMS = 10
"""Small enough that a rate below a tenth is no whole atom of it."""

KEEPS, SWAPS = range(2)


def split_models(ground: Ground, parts: int) -> Pair | None:
    """Splits a stake evenly into models of his own account, all with the same predictions.

    The answer to every rule that treats a large stake worse than several small ones: the conformity tax with a
    threshold a model, caps on a model's weight, concave weights. It fails where the rule looks at the account, and
    where being like another model costs something, be it one's own.

    Args:
        ground: the round; None is returned where nothing is at risk.
        parts: number of models.
    """
    row = largest(ground)
    if row is None or row.atoms < parts:
        return None
    if row.account is not None:
        return _split(ground, row, [row.account] * (parts - 1))
    owned = replace(row, account=free_prefix(ground))  # an account he opens whether he splits or not
    attack = _split(ground, owned, [owned.account] * (parts - 1))
    return Pair(replace(attack.honest, stakes=(owned,)), attack.attacking)


def split_accounts(ground: Ground, parts: int) -> Pair | None:
    """Splits a stake evenly into models of as many accounts, all with the same predictions.

    Who can open accounts without proof of who he is gets around limits on accounts as well. It fails where the rule is
    linear in the stake, or groups submissions that are alike whoever owns them.

    Args:
        ground: the round; None is returned where nothing is at risk.
        parts: number of accounts, his own among them.
    """
    row = largest(ground)
    if row is None or row.atoms < parts:
        return None
    return _split(ground, row, free_names(ground, parts - 1))


def harvest_rounding(ground: Ground, parts: int) -> Pair | None:
    """Cuts off models of ten atoms each, on which no burn is a whole atom.

    Whoever rounds in favour of the participant, or adds floats, gives something away at each rounding; many tiny models
    collect it. With whole atoms rounded toward zero a model can gain less than one atom, 10⁻¹⁸ of the currency, and
    loses as much where it would have earned. More than that it can move only where a model counts however small its
    stake is, as under equal weights: there it is a split.

    Args:
        ground: the round; None is returned where nothing is at risk.
        parts: number of tiny models.
    """
    row = largest(ground)
    dust = DUST_ATOMS * parts
    if row is None or min(row.atoms, row.before) <= dust:
        return None
    names, copy = free_names(ground, parts), submitted(ground, row.model)
    balance = None if row.balance is None else row.balance - dust
    kept = replace(row, atoms=row.atoms - dust, balance=balance)
    own_balance = None if row.balance is None else DUST_ATOMS
    tiny = [replace(row, model=name, atoms=DUST_ATOMS, balance=own_balance) for name in names]
    own = _models_of(ground, row)
    return Pair(Play(own=own), Play(own | set(names), _sorted(kept, *tiny), dict.fromkeys(names, copy)))


def leave_ids_out(ground: Ground, percent: int) -> Pair | None:
    """Leaves out the stocks that his prediction puts nearest to the middle.

    Tried against engines that fill in what is missing, or let one NaN through into the meta model, where it moves or
    voids what everybody else says of that stock. Honest is to stay away, which is what a refused file comes to: he is
    not at risk then, and neither gains nor harms anybody by it. Whatever is not exactly 0 is a hole.

    Args:
        ground: the round; None is returned where nothing is at risk.
        percent: share of the stocks that he leaves out; at least one is.
    """
    row = largest(ground)
    if row is None:
        return None
    given = submitted(ground, row.model)
    order = np.argsort(np.abs(given - 0.5), kind="stable")
    given[order[: max(1, given.size * percent // 100)]] = np.nan
    pair = _with_upload(ground, row, given)
    return replace(pair, honest=replace(pair.honest, withdrawn=frozenset({row.model})))


def grind_seed(ground: Ground, attempt: int) -> Pair | None:
    """Has the seed of the round chosen among several by what each would earn him.

    A threat where whoever sets the seed has a stake too, or can make others wait until one suits him. It pays where a
    paid score depends on random bags, the more the fewer there are, and never where the seed follows from the round's
    number, as it does unless the operator sets it.

    Args:
        ground: the round; None is returned where nothing is at risk.
        attempt: which of the seeds.
    """
    row = largest(ground)
    if row is None:
        return None
    own = _models_of(ground, row)
    return Pair(Play(own=own), Play(own=own, seed=round_seed(str(ground.seed), attempt)))


def swap_after_close(ground: Ground, choice: int) -> Pair | None:
    """Hands in the opposite after the close, in the rounds where he knows by then that his own file will lose.

    A late file is never paid, so that a swap earns nothing whatever is in it. But where the later file makes the
    model late, the stake is not at risk any more, and he has got out of the burn: the file that was there at the close
    must be the one that counts, and its time the one in the table of stakes.

    Args:
        ground: the round; None is returned where nothing is at risk.
        choice: `KEEPS` or `SWAPS`.
    """
    row = largest(ground)
    if row is None:
        return None
    swapped = _with_upload(ground, row, submitted(ground, row.model, turned=True))
    if choice == KEEPS:
        return Pair(swapped.honest, swapped.honest)
    return Pair(swapped.honest, replace(swapped.attacking, stakes=(replace(row, late=True),)))


def _split(ground: Ground, row: Stake, owners: list[str | None] | list[str]) -> Pair:
    """Returns the pair of a stake in one model and the same stake in it and in a model of each owner."""
    names, parts = free_names(ground, len(owners)), len(owners) + 1
    balances: list[int] | list[None] = [None] * parts if row.balance is None else cut(row.balance, parts)
    models = zip([row.model, *names], [row.account, *owners], cut(row.atoms, parts), balances, strict=True)
    rows = [replace(row, model=m, account=owner, atoms=atoms, balance=held) for m, owner, atoms, held in models]
    own, copy = _models_of(ground, row), submitted(ground, row.model)
    return Pair(Play(own=own), Play(own | set(names), _sorted(*rows), dict.fromkeys(names, copy)))


def _with_upload(ground: Ground, row: Stake, predictions: Predictions) -> Pair:
    own = _models_of(ground, row)
    return Pair(Play(own=own), Play(own=own, uploads={row.model: predictions}))


def _models_of(ground: Ground, row: Stake) -> frozenset[str]:
    """Returns all models of the account that a stake is in; the model alone where it has no account."""
    if row.account is None:
        return frozenset({row.model})
    return frozenset({row.model, *(each.model for each in ground.stakes.rows if each.account == row.account)})


def _sorted(*rows: Stake) -> tuple[Stake, ...]:
    return tuple(sorted(rows, key=lambda row: row.model))
