"""The rules of a round: what a score is worth, how far a payout may go, how it becomes whole atoms.

`payout = stake · clip(payout_factor · Σ multiplier·score, ±clip)`, then the steps of `adjust`, each from payouts to
payouts (`scoring.payout_policies`). The failure guarded against: a rule that cannot be carried out exactly. Every limit
here keeps a rate within its published columns, decimal128(38, 18) before the clip and decimal128(38, 36) after it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal, get_args

from scoring.errors import OperatorError, nearest
from scoring.named_function import is_named_function
from scoring.published import SCORE_KEYS

MULTIPLIER_DECIMALS = 6
MAX_MULTIPLIER = 1000
CLIP_DECIMALS = 18

Order = Literal["factor_first", "clip_first"]
Rounding = Literal["toward_zero", "nearest"]
PayoutUnit = Literal["model", "account"]
Alternative = Mapping[str, tuple[Decimal, ...] | None]
"""The values on offer for each score, None for any value ≥ 0. A score it does not name must stay at 0."""

STEP_SCORES: Mapping[str, str] = {"conformity_tax": "cwmm", "uniqueness": "cwmm_max"}
"""Every built-in step of `adjust`, and the score that it looks at unless it names another."""


@dataclass(frozen=True, slots=True)
class PayoutStep:
    """One step from payouts to payouts; `scoring.payout_policies` has the formulas.

    Attributes:
        policy: `conformity_tax`, `uniqueness`, or an operator's own function as `module:function`.
        threshold: of the conformity tax, in units of the currency, ≥ 0; None for the others.
        unit: whose payout the threshold is held against, a model's or that of all models of an account.
        score: the published score that it looks at; left out, that of `STEP_SCORES`, and none for an own function.
    """

    policy: str
    threshold: Decimal | None = None
    unit: PayoutUnit = "model"
    score: str | None = None

    def __post_init__(self) -> None:
        if self.score is None:  # so that a manifest says which score it was
            object.__setattr__(self, "score", STEP_SCORES.get(self.policy))
        faults = [f"adjust, {self.policy}: {fault}" for fault in _step_faults(self)]
        if faults:
            raise OperatorError("; ".join(faults))


@dataclass(frozen=True, slots=True)
class Rules:
    """How rounds are paid from `since_round` on: one dated row of a rulebook.

    Attributes:
        rules_id: `<book>:R<since_round>`, e.g. `numerai:R485`.
        since_round: the first round that is paid so, ≥ 0.
        payout: multiplier of each paid score, within ±1000, ≤ 6 decimals; None where the models choose.
        clip: largest payout or burn as a fraction of the stake, 0 < clip ≤ 1.
        choices: where the models choose: a model's multipliers must fit one of these alternatives.
        stake_threshold: total at risk, in units of the currency, above which payouts shrink; None: never.
        order: whether the payout factor is applied before or after the clip.
        rounding: how an amount becomes whole atoms; `nearest` takes a half to the even atom.
        source: who set the rule and where that can be read.
        adjust: steps that payouts go through, in order; losses never do.
        net_opposites: correlation, 0.5 < x ≤ 1, from which on submissions count as one signal or its opposite; what
            opposite ones have at risk against each other is left out of the payout factor's total. None: all counts.
    """

    rules_id: str
    since_round: int
    payout: Mapping[str, Decimal] | None
    clip: Decimal
    choices: tuple[Alternative, ...] = ()
    stake_threshold: Decimal | None = None
    order: Order = "factor_first"
    rounding: Rounding = "toward_zero"
    source: str = ""
    adjust: tuple[PayoutStep, ...] = ()
    net_opposites: Decimal | None = None

    def __post_init__(self) -> None:
        faults = list(_faults(self))
        if faults:
            raise OperatorError("; ".join(faults))

    @property
    def paid_scores(self) -> tuple[str, ...]:
        """The scores that these rules pay on, or offer to the models, in column order."""
        named = {key for _, key, _ in _named_multipliers(self)}
        return tuple(key for key in SCORE_KEYS if key in named)

    @property
    def adjust_scores(self) -> tuple[str, ...]:
        """The scores that the steps of `adjust` look at, in column order."""
        named = {step.score for step in self.adjust}
        return tuple(key for key in SCORE_KEYS if key in named)

    @property
    def shown_scores(self) -> tuple[str, ...]:
        """The scores that money depends on, paid or looked at, in column order: those that the ledger shows."""
        shown = {*self.paid_scores, *self.adjust_scores}
        return tuple(key for key in SCORE_KEYS if key in shown)

    @property
    def own_functions(self) -> tuple[str, ...]:
        """The operator's own functions among the steps, as `module:function`, each once."""
        return tuple(dict.fromkeys(step.policy for step in self.adjust if is_named_function(step.policy)))

    @property
    def pays_true_contribution(self) -> bool:
        """Whether money may depend on True Contribution."""
        return not {"tc", "tc_raw"}.isdisjoint(self.shown_scores)

    def multipliers(self, chosen: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """Returns one a paid score: the rules' own, else the model's choice, 0 where it made none."""
        source = chosen if self.payout is None else self.payout
        return {key: source.get(key, Decimal(0)) for key in self.paid_scores}

    def refusal(self, chosen: Mapping[str, Decimal]) -> str | None:
        """Returns why a model may not choose these, or None; rules that set multipliers ignore a choice."""
        if self.payout is not None or any(_fits(chosen, alternative) for alternative in self.choices):
            return None
        offered = " or ".join(_describe(alternative) for alternative in self.choices)
        found = ", ".join(f"{key} {value}" for key, value in chosen.items()) or "none"
        return f"multipliers must be on offer under {self.rules_id} ({offered}), found {found}"


def _faults(rules: Rules) -> Iterator[str]:
    if (rules.payout is None) != bool(rules.choices):
        yield "the multipliers must be set by payout or chosen by the models, one of the two"
    if rules.since_round < 0:
        yield f"since_round must be ≥ 0, found {rules.since_round}"
    if not (rules.clip.is_finite() and 0 < rules.clip <= 1 and _has_decimals(rules.clip, CLIP_DECIMALS)):
        limits = f"above 0, at most 1, with at most {CLIP_DECIMALS} decimals"
        yield f'clip must be {limits}, found {rules.clip}; write 5 % as "0.05"'
    threshold = rules.stake_threshold
    if threshold is not None and not (threshold.is_finite() and threshold > 0):
        yield f"stake_threshold must be > 0, found {threshold}; leave it out for a payout factor of 1"
    alike = rules.net_opposites
    if alike is not None and not (alike.is_finite() and Decimal("0.5") < alike <= 1):
        yield f'net_opposites must be above 0.5, at most 1, found {alike}; write 95 % as "0.95"'
    named = list(_named_multipliers(rules))
    if rules.payout is not None and not named:
        yield "payout must name at least one score, found none"
    for where, key, value in named:
        if key not in SCORE_KEYS:
            known = ", ".join(SCORE_KEYS)
            yield f"{where} must name scores ({known}), found {key!r}{nearest(key, SCORE_KEYS)}"
        elif value is not None and not _is_multiplier(value):
            limits = f"within ±{MAX_MULTIPLIER}, with at most {MULTIPLIER_DECIMALS} decimals"
            yield f"{where}, {key}: a multiplier must be {limits}, found {value}"


def _step_faults(step: PayoutStep) -> Iterator[str]:
    own, threshold = is_named_function(step.policy), step.threshold
    if not own and step.policy not in STEP_SCORES:
        known = ", ".join(STEP_SCORES)
        yield f"policy must be {known} or be named as module:function{nearest(step.policy, STEP_SCORES)}"
    if step.score is not None and step.score not in SCORE_KEYS:
        yield f"score must be one of {', '.join(SCORE_KEYS)}, found {step.score!r}{nearest(step.score, SCORE_KEYS)}"
    if step.policy != "conformity_tax":
        if threshold is not None or step.unit != "model":
            yield "threshold and unit belong to conformity_tax, found them here"
    elif threshold is None or not (threshold.is_finite() and threshold >= 0):
        yield f"threshold must be a number ≥ 0 in the currency, found {threshold}"
    if step.unit not in get_args(PayoutUnit):
        yield f"unit must be one of {', '.join(get_args(PayoutUnit))}, found {step.unit!r}"


def _named_multipliers(rules: Rules) -> Iterator[tuple[str, str, Decimal | None]]:
    """Yields where it stands, score key and value (None: any) of each multiplier that the rules name."""
    for key, value in (rules.payout or {}).items():
        yield "payout", key, value
    for alternative in rules.choices:
        for key, values in alternative.items():
            for each in (None,) if values is None else values:
                yield "choices", key, each


def _fits(chosen: Mapping[str, Decimal], alternative: Alternative) -> bool:
    for key in alternative.keys() | chosen.keys():
        value, offered = chosen.get(key, Decimal(0)), alternative.get(key, (Decimal(0),))
        if not (_is_multiplier(value) and (value >= 0 if offered is None else value in offered)):
            return False
    return True


def _describe(alternative: Alternative) -> str:
    offered = {key: "any" if values is None else "|".join(map(str, values)) for key, values in alternative.items()}
    return ", ".join(f"{key} {values}" for key, values in offered.items())


def _is_multiplier(value: Decimal) -> bool:
    return value.is_finite() and abs(value) <= MAX_MULTIPLIER and _has_decimals(value, MULTIPLIER_DECIMALS)


def _has_decimals(value: Decimal, most: int) -> bool:
    scaled: Fraction = Fraction(value) * 10**most
    return scaled.denominator == 1
