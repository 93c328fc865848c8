"""How the solution of a bag's portfolio went: small, and free of torch, so that the driver can read it.

A bag is never silently wrong: what did not converge, or sits on a kink where the gradient is not unique, says so.
"""

from dataclasses import dataclass
from typing import Literal

BagStatus = Literal["converged", "degenerate", "failed"]
"""`degenerate`: the weights are right, but a stock or a bound sits on a kink (margin below 1e-9), so that the gradient
is one of several; `failed`: the weights did not reach the tolerance, or the gradient did not."""


@dataclass(frozen=True, slots=True)
class BagReport:
    """How one bag's solution went.

    Attributes:
        status: whether weights and gradient can be trusted.
        iterations: steps of the solver.
        gap: duality gap relative to the objective.
        infeasibility: the largest violation of a constraint, relative to the leverage.
        margin: distance to the nearest kink, relative; below 1e-9 the gradient is not unique.
        fallback: whether the interior point had to help.
        pinned_groups: groups whose stocks are all at 0 or at the cap, so that their multiplier is free; harmless.
    """

    status: BagStatus
    iterations: int
    gap: float
    infeasibility: float
    margin: float
    fallback: bool = False
    pinned_groups: int = 0
