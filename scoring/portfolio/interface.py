"""What every portfolio solver offers: optimal weights for a batch of alphas, and a gradient pulled back through them.

    solved = portfolio.solve(alpha)             # (bag, stock) → weights, and how each bag went
    v = portfolio.pull_back(solved, returns)    # (∂w*/∂a)ᵀ r, one vector–Jacobian product a bag

A bag is never silently wrong: what did not converge, or sits on a kink where the gradient is not unique, says so, and
a gradient that could not be made exact is NaN.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float64
from torch import Tensor

from scoring.portfolio.report import BagReport, BagStatus

__all__ = ["BagReport", "BagStatus", "Portfolio", "Solved", "as_layer"]


@dataclass(frozen=True, slots=True)
class Solved:
    """A batch of optimal portfolios.

    Attributes:
        weights: (bag, stock) w*.
        reports: one a bag.
        state: what the solver needs to pull a gradient back.
    """

    weights: Float64[Tensor, "bag stock"]
    reports: Sequence[BagReport]
    state: Any


@runtime_checkable
class Portfolio(Protocol):
    """A solver for one problem and one risk aversion."""

    def solve(self, alpha: Float64[Tensor, "bag stock"]) -> Solved:
        """Returns the optimal weights of every bag."""

    def pull_back(
        self, solved: Solved, upstream: Float64[Tensor, " stock"] | Float64[Tensor, "bag stock"]
    ) -> Float64[Tensor, "bag stock"]:
        """Returns (∂w*/∂a)ᵀ upstream of every bag; NaN throughout for a bag whose gradient was not found."""


def as_layer(portfolio: Portfolio, alpha: Float64[Tensor, "bag stock"]) -> Float64[Tensor, "bag stock"]:
    """Returns the optimal weights as a differentiable function of alpha (once)."""
    weights: Tensor = _Layer.apply(alpha, portfolio)  # type: ignore[no-untyped-call]  # torch types no Function
    return weights


class _Layer(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, alpha: Tensor, portfolio: Portfolio) -> Tensor:
        ctx.portfolio = portfolio
        ctx.solved = portfolio.solve(alpha.detach())
        return ctx.solved.weights

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        return ctx.portfolio.pull_back(ctx.solved, upstream), None
