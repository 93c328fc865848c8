"""Payout policies: what of a payout is really paid, where a rule withholds some of it.

    payouts ─ step ─ step ─ … ─► payouts        gains only; a loss goes through none of them

A step is a function from the round's gains to whole atoms, rounded once; `Rules.adjust` is a chain of them. All that
the built-in steps need is in the published ledger: a payout before the steps, an account, a score.

`conformity_tax` with threshold T, P a payout, M the score (by default `cwmm`) cut to 0 … 1, S the sum of the gains of
the unit, that is of the model or of all models of its account:

    P' = P − P/S · max(S − T, 0) · M

For a model by itself S = P, and this is min(P, T) + max(P − T, 0)·(1 − M). Of an account's excess over T each model
bears the part that its payout is of all, and is taxed on it at its own M. So the account keeps
min(S, T) + max(S − T, 0)·(1 − M̄), M̄ the mean of M weighted by payouts: what one model of payout S and correlation
M̄ would keep. Splitting a stake over k models of one account changes nothing but the rounding, below k atoms; nor does
the order of the models. P' ≤ P, and P' never falls as P grows; nor does what the account keeps.

`uniqueness` is P' = P · (1 − M), M by default `cwmm_max`. An absent score counts as 0: nothing is known to be alike.

The failure guarded against: a progressive rule that falls to whoever splits. A threshold per model does, by design of
the proposal; one per account holds as far as accounts are people.

References:
    "A Payout Scheme that Directly Encourages Unique Models", in the tournament's forum.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from scoring.errors import OperatorError
from scoring.named_function import Place, is_named_function, load_function
from scoring.payouts import whole_atoms
from scoring.published import SCORE_DECIMALS
from scoring.rules import STEP_SCORES, PayoutStep, Rules

PLACE = Place("rules.adjust", "policy", tuple(STEP_SCORES))
"""Where an operator's own function is named, for messages."""

_SCORE_ONE: int = 10**SCORE_DECIMALS
_LARGEST_TOTAL = 5 * 10**37
"""Half of what a column of money holds; the other half is for the stakes that payouts are added to."""
Taxed = tuple[int, int]
"""A payout as it is before rounding: numerator and denominator > 0."""


@dataclass(frozen=True, slots=True)
class Gain:
    """A payout on its way through the steps.

    Attributes:
        model, account: whose; the account None where it has none.
        payout: atoms, ≥ 0, as the steps before left it; it was above 0 before the first.
        at_risk: atoms.
        scores: the round's shown scores (`Rules.shown_scores`) in units of 1e-12, None where absent.
    """

    model: str
    account: str | None
    payout: int
    at_risk: int
    scores: Mapping[str, int | None]


def adjusted(gains: Sequence[Gain], rules: Rules, decimals: int) -> list[int]:
    """Returns what each gain comes to after the steps of the rules, in atoms ≥ 0.

    Args:
        gains: all payouts above 0 of a round; of an account all or none, as a step may sum over it.
        rules: the rules of the round.
        decimals: an atom is 10^-decimals of the currency.

    Raises:
        OperatorError: an operator's own function is not to be found, fails, or returns what no payout can be.
    """
    for step in rules.adjust:
        if is_named_function(step.policy):
            payouts = _own(step.policy, gains)
        else:
            threshold = Fraction(step.threshold or 0) * 10**decimals
            payouts = [whole_atoms(*taxed, rules.rounding) for taxed in POLICIES[step.policy](gains, threshold, step)]
        gains = [replace(gain, payout=payout) for gain, payout in zip(gains, payouts, strict=True)]
    return [gain.payout for gain in gains]


def conformity_tax(gains: Sequence[Gain], threshold: Fraction, step: PayoutStep) -> list[Taxed]:
    """Returns what the conformity tax leaves of each payout; the module has the formula.

    Args:
        gains: of the round.
        threshold: in atoms, ≥ 0.
        step: for its unit and score.
    """
    units = [_unit(gain, step) for gain in gains]
    totals: dict[Hashable, int] = {}
    for gain, unit in zip(gains, units, strict=True):
        totals[unit] = totals.get(unit, 0) + gain.payout
    return [
        _kept(gain.payout, totals[unit], threshold, alike(gain, step)) for gain, unit in zip(gains, units, strict=True)
    ]


def uniqueness(gains: Sequence[Gain], step: PayoutStep) -> list[Taxed]:
    """Returns payout · (1 − score).

    Args:
        gains: of the round.
        step: for its score.
    """
    return [(gain.payout * (_SCORE_ONE - alike(gain, step)), _SCORE_ONE) for gain in gains]


def alike(gain: Gain, step: PayoutStep) -> int:
    """Returns the score that a step looks at, cut to 0 … 1, in units of 1e-12; 0 where it is absent."""
    return max(0, min(_SCORE_ONE, gain.scores.get(step.score or "") or 0))


def _unit(gain: Gain, step: PayoutStep) -> Hashable:
    """Returns whose payouts are summed; a model without an account is one of its own."""
    owned = step.unit == "account" and gain.account is not None
    return ("account", gain.account) if owned else ("model", gain.model)


def _kept(payout: int, total: int, threshold: Fraction, score: int) -> Taxed:
    """Returns P − P/S · max(S − T, 0) · M as one fraction of integers."""
    excess = total * threshold.denominator - threshold.numerator
    if excess <= 0 or score == 0:
        return payout, 1
    whole = total * threshold.denominator * _SCORE_ONE
    return payout * (whole - excess * score), whole


def _own(name: str, gains: Sequence[Gain]) -> list[int]:
    """Returns what an operator's own function makes of the gains; what it returns becomes money, so it is checked."""
    function = load_function(name, PLACE)
    try:
        found = list(function(tuple(gains)))
    except Exception as error:  # the operator's function may raise anything
        said = str(error).splitlines()[0] if str(error) else "no message"
        raise OperatorError(f"{PLACE.table}: {name} failed: {type(error).__name__}: {said}") from error
    if len(found) != len(gains):
        raise OperatorError(f"{PLACE.table}: {name} must return one payout a gain, {len(gains)}, found {len(found)}")
    for gain, payout in zip(gains, found, strict=True):
        if type(payout) is not int or payout < 0:  # a number of numpy may have wrapped
            must = f"must return atoms as Python's int, ≥ 0, found {payout!r} for model {gain.model}"
            raise OperatorError(f"{PLACE.table}: {name} {must}")
    if sum(found) > _LARGEST_TOTAL:
        must = f"must return at most {_LARGEST_TOTAL:.0e} atoms in all, found {sum(found)}"
        raise OperatorError(f"{PLACE.table}: {name} {must}")
    return found


Policy = Callable[[Sequence[Gain], Fraction, PayoutStep], list[Taxed]]
POLICIES: Mapping[str, Policy] = {
    "conformity_tax": conformity_tax,
    "uniqueness": lambda gains, _, step: uniqueness(gains, step),
}
"""The engine's own steps: from gains, threshold in atoms and step to exact payouts."""
