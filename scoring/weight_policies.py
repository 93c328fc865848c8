"""Weight policies: what each model counts in the meta model, where that is not simply its stake.

    stakes ─ step ─ step ─ … ─► amounts         only their ratios matter

Each step is a small function from amounts to amounts, whole numbers ≥ 0, and a policy is a chain of them: the root of
each stake, then no account above 5 %. A model with a stake always counts something, one without never does. All is
exact or rounded by rule (`decimal`'s ln and power are defined digit by digit, where a processor's are not), so that a
weight has the same bits on every machine.

The failure guarded against: a limit that is passed by those it is meant for. A cap per model falls to whoever splits
a stake over several models; a cap per account holds them together, as far as accounts are people.

References:
    The proposals stand in the tournament's forum, e.g. "Numerai Fireside Chat Aftermath" (2023).
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import Literal

from scoring.errors import OperatorError

Policy = Literal["stake", "equal", "log", "power", "cap_model", "cap_account"]

PARAMETERS: Mapping[Policy, str | None] = {
    "stake": None,
    "equal": None,
    "log": "scale",
    "power": "exponent",
    "cap_model": "cap",
    "cap_account": "cap",
}
"""Every policy, and the name of the number that it needs."""

_EXACT = Context(prec=60)
_ROOT_UNITS = Decimal(10) ** 20
_LOG_UNITS = Decimal(10) ** 30
_SHARE_UNITS = 10**40
"""So finely a function of a stake, its logarithm and a share are cut into whole numbers: far below a double's 1e-16."""


@dataclass(frozen=True, slots=True)
class WeightStep:
    """One step of a policy.

    Attributes:
        policy: its name.
        value: `exponent`, 0 < exponent ≤ 1; `cap`, a share 0 < cap ≤ 1; `scale` > 0, in atoms; None for the others.
    """

    policy: Policy
    value: Decimal | None = None

    def __post_init__(self) -> None:
        name = PARAMETERS[self.policy]
        if name is None:
            return
        if self.value is None or not (self.value.is_finite() and self.value > 0):
            raise OperatorError(f"weights: {self.policy} needs {name}, a number above 0, found {self.value}")
        if name != "scale" and self.value > 1:
            raise OperatorError(f"weights: {name} of {self.policy} must be at most 1, found {self.value}")


def amounts_of(
    steps: Sequence[WeightStep], atoms: Sequence[int], models: Sequence[str], accounts: Sequence[str | None]
) -> list[int]:
    """Returns what each model counts.

    Args:
        steps: in order; none, or `stake` alone, gives the stakes themselves.
        atoms: stakes ≥ 0; 0 for models that do not count.
        models: their names.
        accounts: their owners; a model without one is an account of its own.
    """
    owners: list[Hashable] = [
        ("model", model) if account is None else ("account", account)
        for model, account in zip(models, accounts, strict=True)
    ]
    amounts = list(atoms)
    for step in steps:
        amounts = _FUNCTIONS[step.policy](amounts, step.value or Decimal(0), owners)
    return amounts


def capped(amounts: Sequence[int], cap: Fraction, units: Sequence[Hashable]) -> list[int]:
    """Returns amounts in which no unit has more than a share `cap` of the whole; the others keep their ratios.

    What a unit has above the cap goes to the others in proportion, until none is above it. Within a unit ratios stay.
    Where even equal shares are above the cap, they are what comes nearest.

    Args:
        amounts: ≥ 0.
        cap: 0 < cap ≤ 1.
        units: whose each amount is.
    """
    totals: dict[Hashable, int] = {}
    for amount, unit in zip(amounts, units, strict=True):
        totals[unit] = totals.get(unit, 0) + amount
    largest = sorted((total for total in totals.values() if total), reverse=True)
    if not largest:
        return list(amounts)
    if cap * len(largest) <= 1:
        return [_share(Fraction(a, totals[u]) / len(largest)) if a else 0 for a, u in zip(amounts, units, strict=True)]
    at_cap, rest = 0, sum(largest)
    while largest[at_cap] * (1 - at_cap * cap) > cap * rest:
        rest -= largest[at_cap]
        at_cap += 1
    lowest = largest[at_cap - 1] if at_cap else None  # no smaller unit is at the cap
    kept = (1 - at_cap * cap) / rest

    def share(amount: int, total: int) -> int:
        held = lowest is not None and total >= lowest
        return _share(Fraction(amount, total) * cap if held else amount * kept)

    return [share(amount, totals[unit]) if amount else 0 for amount, unit in zip(amounts, units, strict=True)]


def _share(exact: Fraction) -> int:
    return max(1, int(exact * _SHARE_UNITS))


def _logarithm(amount: int, scale: Decimal) -> int:
    """Returns ln(1 + amount/scale)."""
    grown = _EXACT.add(Decimal(1), _EXACT.divide(Decimal(amount), scale))
    return max(1, int(_EXACT.multiply(_EXACT.ln(grown), _LOG_UNITS)))


def _root(amount: int, exponent: Decimal) -> int:
    return max(1, int(_EXACT.multiply(_EXACT.power(Decimal(amount), exponent), _ROOT_UNITS)))


_Step = Callable[[Sequence[int], Decimal, Sequence[Hashable]], list[int]]
_FUNCTIONS: Mapping[Policy, _Step] = {
    "stake": lambda amounts, _, __: list(amounts),
    "equal": lambda amounts, _, __: [int(amount > 0) for amount in amounts],
    "log": lambda amounts, scale, _: [_logarithm(amount, scale) if amount else 0 for amount in amounts],
    "power": lambda amounts, exponent, _: [_root(amount, exponent) if amount else 0 for amount in amounts],
    "cap_model": lambda amounts, cap, _: capped(amounts, Fraction(cap), range(len(amounts))),
    "cap_account": lambda amounts, cap, owners: capped(amounts, Fraction(cap), owners),
}
