"""Solving in numpy's terms: which solver, on which device, arrays in and arrays out.

Everything runs on one thread: a sum over several would have other bytes on another number of cores. A round's bags come
in chunks, whose solver is the same: a process keeps the last one, so that only the first chunk pays for its products of
columns (0.05 to 0.09 s at 5 000 stocks, as much as solving ten bags).

The failure guarded against: a solver kept for a problem that is not the one asked for. It is found by the digest of
everything that it was made of.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from threading import Lock
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float64

from scoring.errors import OperatorError
from scoring.portfolio.builder import STRUCTURED, load_builder
from scoring.portfolio.factor_portfolio import FactorPortfolio
from scoring.portfolio.interface import Portfolio
from scoring.portfolio.problem import PortfolioProblem
from scoring.portfolio.report import BagReport

Device = Literal["cpu", "cuda"]

MOST_KEPT_BYTES = 2**28
"""Of a solver that is kept; 5 000 stocks with 70 factors take 1e8. A larger one is made for each chunk, and freed."""


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
    name: str = STRUCTURED
    device: Device = "cpu"

    def build(self) -> Portfolio:
        """Returns the solver, ready; perhaps one that other threads use as well.

        Raises:
            OperatorError: the operator's problem cannot be loaded, or the device is not there.
        """
        torch.set_num_threads(1)
        if self.name != STRUCTURED:
            from scoring.portfolio.cvxpy_layer import CvxpyPortfolio  # 3 s to import

            return CvxpyPortfolio(self.problem, self.risk_aversion, load_builder(self.name))
        if self.device == "cuda" and not torch.cuda.is_available():
            raise OperatorError("a worker offers the resource GPU, but torch finds no CUDA device there")
        return _KEPT.factor_portfolio(self)

    def tensor(self, array: np.ndarray) -> torch.Tensor:
        """Returns an array where the solver works; an operator's own problem works on the CPU."""
        return torch.as_tensor(array, device=self.device if self.name == STRUCTURED else "cpu")


class _Kept:
    """The last `FactorPortfolio` that was made in this process, if it is not too large."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._last: tuple[bytes, FactorPortfolio] | None = None

    def factor_portfolio(self, asked: Solver) -> FactorPortfolio:
        """Returns the one that is kept where it is the one asked for, else a new one."""
        key = _digest(asked)
        with self._lock:  # threads that ask for the same one wait for the first
            if self._last is not None and self._last[0] == key:
                return self._last[1]
            self._last = None  # freed before the next one takes its memory
            made = FactorPortfolio(asked.problem, asked.risk_aversion, asked.device)
            if made.nbytes <= MOST_KEPT_BYTES:
                self._last = key, made
            return made


_KEPT = _Kept()


def _digest(asked: Solver) -> bytes:
    """Returns the SHA-256 of everything that a solver is made of."""
    digest = hashlib.sha256(repr((asked.risk_aversion, asked.device)).encode())
    for field in fields(asked.problem):
        value = getattr(asked.problem, field.name)
        if isinstance(value, np.ndarray):
            digest.update(f"{field.name} {value.dtype.str} {value.shape}".encode())
            digest.update(value.tobytes())
        else:
            digest.update(f"{field.name} {value!r}".encode())
    return digest.digest()


def optimal_weights(
    solver: Solver, alphas: Float64[np.ndarray, "bag stock"]
) -> tuple[Float64[np.ndarray, "bag stock"], Sequence[BagReport]]:
    """Returns w* of every bag, and how it went."""
    solved = solver.build().solve(solver.tensor(alphas))
    return solved.weights.cpu().numpy(), solved.reports


def gradients(
    solver: Solver, alphas: Float64[np.ndarray, "bag stock"], returns: Float64[np.ndarray, " stock"]
) -> tuple[Float64[np.ndarray, "bag stock"], Sequence[BagReport]]:
    """Returns (∂w*/∂a)ᵀ r of every bag, and how it went; a bag without a gradient has failed."""
    portfolio = solver.build()
    solved = portfolio.solve(solver.tensor(alphas))
    pulled = portfolio.pull_back(solved, solver.tensor(returns)).cpu().numpy()
    found = np.isfinite(pulled).all(axis=1)
    reports = zip(solved.reports, found, strict=True)
    return pulled, tuple(report if whole else replace(report, status="failed") for report, whole in reports)
