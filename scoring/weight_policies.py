"""Weight policies: what each model counts in the meta model, where that is not simply its stake.

    stakes ─ step ─ step ─ … ─► amounts         only their ratios matter

Each step is a small function from amounts to amounts, whole numbers ≥ 0, and a policy is a chain of them: the root of
each stake, then no account above 5 %. A step may look at the `Field`: who owns which model, how models and accounts
stand on a leaderboard, whose submissions are alike, how near each comes to an example. A model without a stake never
counts; one with a stake may count nothing by policy, but then it is still at risk and still others' company.

The failure guarded against: a limit that is passed by those it is meant for. A cap per model falls to whoever splits
a stake over several models; a cap per account holds them together, as far as accounts are people; a cap per family
holds copies together, whoever owns them.

References:
    The proposals stand in the tournament's forum, e.g. "Numerai Fireside Chat Aftermath" (2023).
"""

import operator
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from scoring.errors import OperatorError
from scoring.families import Families
from scoring.named_function import Place, is_named_function, load_function
from scoring.published import SCORE_DECIMALS
from scoring.weight_limits import capped, logarithm, root, share, totals_of

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "stake": (),
    "equal": (),
    "log": ("scale",),
    "power": ("exponent",),
    "cap_model": ("cap",),
    "cap_account": ("cap",),
    "cap_family": ("cap", "threshold"),
    "within_account": (),
    "reputation": (),
    "limit_stake": ("limit", "minimum"),
    "minimum_example_correlation": ("minimum",),
}
"""Every policy of the engine, and the numbers that it needs."""

EXAMPLE = ""
"""Stands in `Field.example` for the round's own example predictions; other names are benchmark models'."""
PLACE = Place("weights", "policy", tuple(PARAMETERS))
_BY_STANDING: Mapping[str, Literal["models", "accounts"]] = {
    "within_account": "accounts",
    "reputation": "models",
    "limit_stake": "models",
}
"""Policies that cannot do without standings, and whose they look at."""
_IN_ATOMS = ("stake", "limit_stake", "minimum_example_correlation")
_UNITS = 10**SCORE_DECIMALS
_BOUNDS: Mapping[tuple[str, str], tuple[int | None, int | None]] = {
    ("", "exponent"): (None, 1),
    ("", "cap"): (None, 1),
    ("", "threshold"): (None, 1),
    ("limit_stake", "minimum"): (-(10**20), 10**20),
    ("minimum_example_correlation", "minimum"): (-1, 1),
}
"""The least and the largest value of a number, of all policies or of one."""


@dataclass(frozen=True, slots=True)
class WeightStep:
    """One step of a policy.

    Attributes:
        policy: its name, or `module:function` of the operator.
        value: `exponent`, 0 < exponent ≤ 1; `cap`, a share 0 < cap ≤ 1; `scale` and `limit`, > 0, in atoms; None
            for the others.
        threshold: of `cap_family`: correlation from which two submissions are alike, 0.5 < threshold ≤ 1.
        minimum: of `limit_stake`, a standing; of `minimum_example_correlation`, −1 … 1.
        example: of `minimum_example_correlation`, a benchmark model; None for the round's example predictions.
    """

    policy: str
    value: Decimal | None = None
    threshold: Decimal | None = None
    minimum: Decimal | None = None
    example: str | None = None

    def __post_init__(self) -> None:
        if self.policy not in PARAMETERS and not self.is_own:
            raise OperatorError(f"weights: there is no policy {self.policy!r}")
        for name in PARAMETERS.get(self.policy, ()):
            number = self.number(name)
            if number is None or not number.is_finite() or (name != "minimum" and not number > 0):
                must = "a number" if name == "minimum" else "a number above 0"
                raise OperatorError(f"weights: {self.policy} needs {name}, {must}, found {number}")
            low, high = _BOUNDS.get((self.policy, name)) or _BOUNDS.get(("", name), (None, None))
            if high is not None and number > high:
                raise OperatorError(f"weights: {name} of {self.policy} must be at most {high}, found {number}")
            if low is not None and number < low:
                raise OperatorError(f"weights: {name} of {self.policy} must be at least {low}, found {number}")
        if self.threshold is not None and not self.threshold > Decimal("0.5"):
            raise OperatorError(f"weights: threshold of {self.policy} must be above 0.5, found {self.threshold}")

    @property
    def is_own(self) -> bool:
        """Says whether the step is a function of the operator's own."""
        return is_named_function(self.policy)

    def number(self, name: str) -> Decimal | None:
        """Returns one of the step's numbers by its name in `PARAMETERS`."""
        return {"threshold": self.threshold, "minimum": self.minimum}.get(name, self.value)

    def stated(self) -> dict[str, Decimal | str | None]:
        """Returns the step as manifests state it: `policy`, `value`, and what else it has."""
        rest = {name: getattr(self, name) for name in ("threshold", "minimum", "example")}
        own = {name: value for name, value in rest.items() if value is not None}
        return {"policy": self.policy, "value": self.value, **own}


@dataclass(frozen=True, slots=True)
class Standings:
    """How models and accounts stand on a leaderboard, in units of 1e-12; who is not there has no standing."""

    models: Mapping[str, int] = field(default_factory=dict)
    accounts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Field:
    """What a policy may look at: the round's valid submissions.

    Attributes:
        models: their names.
        accounts: their owners; a model without one is an account of its own.
        atoms: stakes ≥ 0; 0 for models that do not count.
        standings: as they stood before the round; None where there are none.
        families: by the thresholds that steps ask for.
        example: name of an example, `EXAMPLE` for the round's own → each model's correlation with it, both sides
            pow(g(rank)), in units of 1e-12; None where there is none.
    """

    models: tuple[str, ...]
    accounts: tuple[str | None, ...]
    atoms: tuple[int, ...]
    standings: Standings | None = None
    families: Mapping[Decimal, Families] = field(default_factory=dict)
    example: Mapping[str, tuple[int | None, ...]] = field(default_factory=dict)

    def owners(self) -> list[Hashable]:
        """Returns whose each model is."""
        return [
            ("model", model) if account is None else ("account", account)
            for model, account in zip(self.models, self.accounts, strict=True)
        ]


def amounts_of(steps: Sequence[WeightStep], field: Field) -> list[int]:
    """Returns what each model counts.

    Args:
        steps: in order; none, or `stake` alone, gives the stakes themselves.
        field: the round's valid submissions, with what the steps look at.

    Raises:
        OperatorError: a step needs what the field has not; no model with a stake would count; an operator's own
            function is not to be found, fails, or returns what no amounts are.
    """
    amounts = list(field.atoms)
    for step in steps:
        found = _own(amounts, step, field) if step.is_own else _FUNCTIONS[step.policy](amounts, step, field)
        if any(amounts) and not any(found):
            raise OperatorError(f"weights: {_described(step)} leaves no model with a stake that counts; relax the step")
        amounts = found
    return amounts


def check_order(steps: Sequence[WeightStep]) -> None:
    """Stops where a limit in currency would be compared with amounts that are none any more.

    Raises:
        OperatorError: a step before `limit_stake` makes other amounts of stakes.
    """
    for at, step in enumerate(steps):
        before = [each.policy for each in steps[:at] if each.policy not in _IN_ATOMS]
        if step.policy == "limit_stake" and before:
            raise OperatorError(
                f"weights: limit_stake is in currency and must stand before {before[0]}, found after it"
            )


def needs_standings(steps: Iterable[WeightStep]) -> str | None:
    """Returns the first policy that cannot do without standings; None where there is none."""
    return next((step.policy for step in steps if step.policy in _BY_STANDING), None)


def misses_standings(steps: Iterable[WeightStep], standings: Standings) -> str | None:
    """Returns what a step looks for in vain in a table that is not empty: then it is the wrong table, or column.

    Args:
        steps: of the policy.
        standings: as read; where nobody stands at all, as before a first season, nothing is missed.
    """
    for step in steps:
        whose = _BY_STANDING.get(step.policy)
        if whose and not getattr(standings, whose) and (standings.models or standings.accounts):
            return f"{step.policy} looks at {whose}"
    return None


def thresholds(steps: Iterable[WeightStep]) -> set[Decimal]:
    """Returns the thresholds at which steps ask for families."""
    return {step.threshold for step in steps if step.threshold is not None}


def examples(steps: Iterable[WeightStep]) -> set[str]:
    """Returns the examples that steps compare with: benchmark models, or `EXAMPLE`."""
    return {step.example or EXAMPLE for step in steps if step.policy == "minimum_example_correlation"}


# The steps: from amounts to amounts ---------------------------------------------------------------------------------


def _capped_families(amounts: Sequence[int], step: WeightStep, field: Field) -> list[int]:
    """Copies of a submission have together at most the cap, whoever owns them."""
    families = field.families.get(step.threshold or Decimal(0))
    if families is None:
        raise OperatorError(f"weights: cap_family needs the round's families at {step.threshold}, found none")
    return capped(amounts, Fraction(step.value or 0), [families.alike[model] for model in field.models])


def _within_accounts(amounts: Sequence[int], _: WeightStep, field: Field) -> list[int]:
    """Each account's standing, shared among its models as its amounts are.

    Accounts that stand at 0 or below, or nowhere, count nothing; where none stands above 0, all count alike.
    """
    owners = field.owners()
    totals = totals_of(amounts, owners)
    known = _standings(field, "within_account").accounts
    weight: dict[Hashable, int] = {("account", account): units for account, units in known.items() if units > 0}
    if not any(owner in weight for owner, total in totals.items() if total):
        weight = dict.fromkeys(totals, _UNITS)
    return [
        share(weight[owner] * Fraction(amount, totals[owner])) if amount and owner in weight else 0
        for amount, owner in zip(amounts, owners, strict=True)
    ]


def _by_reputation(amounts: Sequence[int], _: WeightStep, field: Field) -> list[int]:
    """Each amount times its model's standing, which is at least 0; unchanged where nobody stands above 0."""
    known = _standings(field, "reputation").models
    found = [amount * max(known.get(model, 0), 0) for amount, model in zip(amounts, field.models, strict=True)]
    return found if any(found) else list(amounts)


def _limited(amounts: Sequence[int], step: WeightStep, field: Field) -> list[int]:
    """Whoever stands below the minimum, or nowhere, counts at most the limit."""
    known = _standings(field, "limit_stake").models
    least, limit = Fraction(step.minimum or 0) * _UNITS, max(1, int(step.value or 0))
    return [
        amount if model in known and known[model] >= least else min(amount, limit)
        for amount, model in zip(amounts, field.models, strict=True)
    ]


def _near_example(amounts: Sequence[int], step: WeightStep, field: Field) -> list[int]:
    """Whoever correlates with the example by less than the minimum counts nothing."""
    found = field.example.get(step.example or EXAMPLE)
    if found is None:
        raise OperatorError(f"weights: {_described(step)} needs the correlations with it, found none")
    least = Fraction(step.minimum or 0) * _UNITS
    return [amount if units is not None and units >= least else 0 for amount, units in zip(amounts, found, strict=True)]


def _standings(field: Field, policy: str) -> Standings:
    if field.standings is None:
        raise OperatorError(f"weights: {policy} needs standings, found none")
    return field.standings


def _own(amounts: Sequence[int], step: WeightStep, field: Field) -> list[int]:
    """What the operator's own function makes of the amounts, checked."""
    function = load_function(step.policy, PLACE)
    try:
        found = list(function(tuple(amounts), field))
        whole = [operator.index(amount) for amount in found if not isinstance(amount, bool)]
    except Exception as error:  # the operator's function may raise anything
        what = str(error).splitlines()[0] if str(error) else "no message"
        raise OperatorError(f"weights: {step.policy} failed: {type(error).__name__}: {what}") from error
    must = f"weights: {step.policy} must return a whole number ≥ 0 for each of {len(amounts)} models"
    if len(found) != len(amounts) or len(whole) != len(found):
        raise OperatorError(f"{must}, found {len(whole)} of {len(found)}")
    for model, amount, atoms in zip(field.models, whole, field.atoms, strict=True):
        if amount < 0 or (amount and not atoms):
            raise OperatorError(
                f"{must}, 0 where there is no stake; found {amount} for {model} with a stake of {atoms}"
            )
    return whole


def _described(step: WeightStep) -> str:
    if step.minimum is None or step.policy == "limit_stake":
        return step.policy
    return f"{step.policy} of at least {step.minimum} with {step.example or 'example_predictions.parquet'}"


_Step = Callable[[Sequence[int], WeightStep, Field], list[int]]
_FUNCTIONS: Mapping[str, _Step] = {
    "stake": lambda amounts, _, __: list(amounts),
    "equal": lambda amounts, _, __: [int(amount > 0) for amount in amounts],
    "log": lambda amounts, step, _: [
        logarithm(amount, step.value or Decimal(1)) if amount else 0 for amount in amounts
    ],
    "power": lambda amounts, step, _: [root(amount, step.value or Decimal(1)) if amount else 0 for amount in amounts],
    "cap_model": lambda amounts, step, _: capped(amounts, Fraction(step.value or 0), range(len(amounts))),
    "cap_account": lambda amounts, step, field: capped(amounts, Fraction(step.value or 0), field.owners()),
    "cap_family": _capped_families,
    "within_account": _within_accounts,
    "reputation": _by_reputation,
    "limit_stake": _limited,
    "minimum_example_correlation": _near_example,
}
