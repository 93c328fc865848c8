"""Stakes: who is at risk with how many atoms.

Money is an integer. An atom is the smallest unit of the tournament's currency (10^-18 NMR); a stake is a whole number
of atoms and stays a Python integer everywhere, because the total of a round (10^24 atoms) does not fit in 64 bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import pairwise

from scoring.errors import OperatorError


@dataclass(frozen=True, slots=True)
class Stake:
    """One row of the operator's stakes table.

    Attributes:
        model: the model's name, unique in the round.
        account: who owns the model.
        atoms: the stake in atoms, ≥ 0.
        multipliers: the model's own choice of score multipliers; empty where the rules set them.
        late: whether the model submitted after the round closed.
        balance: with chained stakes, the atoms just before the round settles, ≥ 0; None where the stake is a
            snapshot and so still the same then.
    """

    model: str
    account: str | None
    atoms: int
    multipliers: Mapping[str, Decimal] = field(default_factory=dict)
    late: bool = False
    balance: int | None = None

    def __post_init__(self) -> None:
        if self.atoms < 0:
            raise OperatorError(f"stake of model {self.model}: must be ≥ 0 atoms, found {self.atoms}")

    @property
    def before(self) -> int:
        """Returns the atoms just before the round settles."""
        return self.atoms if self.balance is None else self.balance


@dataclass(frozen=True, slots=True)
class Stakes:
    """All stakes of a round, sorted by model.

    Attributes:
        rows: one `Stake` a model, sorted by model name, each name once.
    """

    rows: tuple[Stake, ...]

    def __post_init__(self) -> None:
        names = [row.model for row in self.rows]
        for before, after in pairwise(names):
            if before >= after:
                what = "appears twice" if before == after else f"stands before {after}: rows must be sorted"
                raise OperatorError(f"stakes: model {before} {what}")

    def by_model(self) -> dict[str, Stake]:
        """Returns the rows keyed by model name."""
        return {row.model: row for row in self.rows}
