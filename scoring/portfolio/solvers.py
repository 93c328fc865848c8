"""Solving in numpy's terms: which solver, on which device, arrays in and arrays out.

Everything runs on one thread: a sum over several would have other bytes on another number of cores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64

from scoring.errors import OperatorError
from scoring.portfolio.factor_portfolio import FactorPortfolio
from scoring.portfolio.interface import Portfolio
from scoring.portfolio.problem import PortfolioProblem
from scoring.portfolio.report import BagReport

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class Solver:
    """Which solver, for which problem.

    Attributes:
        problem: the round's.
        risk_aversion: γ > 0.
        name: `factor`, or `module:function` of an operator's own problem.
        device: where `factor` computes.
    """

    problem: PortfolioProblem
    risk_aversion: float
    name: str = "factor"
    device: Device = "cpu"

    def build(self) -> Portfolio:
        """Returns the solver, ready.

        Raises:
            OperatorError: the operator's problem cannot be loaded, or the device is not there.
        """
        torch.set_num_threads(1)
        if self.name != "factor":
            from scoring.portfolio.cvxpy_layer import CvxpyPortfolio, load_builder  # 3 s to import

            return CvxpyPortfolio(self.problem, self.risk_aversion, load_builder(self.name))
        if self.device == "cuda" and not torch.cuda.is_available():
            raise OperatorError("a worker offers the resource GPU, but torch finds no CUDA device there")
        return FactorPortfolio(self.problem, self.risk_aversion, self.device)


def optimal_weights(
    solver: Solver, alphas: Float64[np.ndarray, "bag stock"]
) -> tuple[Float64[np.ndarray, "bag stock"], Sequence[BagReport]]:
    """Returns w* of every bag, and how it went."""
    solved = solver.build().solve(torch.as_tensor(alphas, device=solver.device))
    return solved.weights.cpu().numpy(), solved.reports


def gradients(
    solver: Solver, alphas: Float64[np.ndarray, "bag stock"], returns: Float64[np.ndarray, " stock"]
) -> tuple[Float64[np.ndarray, "bag stock"], Sequence[BagReport]]:
    """Returns (∂w*/∂a)ᵀ r of every bag, and how it went."""
    portfolio = solver.build()
    solved = portfolio.solve(torch.as_tensor(alphas, device=solver.device))
    pulled = portfolio.pull_back(solved, torch.as_tensor(returns, device=solver.device))
    return pulled.cpu().numpy(), solved.reports
