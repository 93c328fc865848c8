"""The portfolio of a round, from its universe and covariance as they stand in the files, by a general solver.

    maximise    aᵀw − (γ/2) wᵀ(FΩFᵀ + diag(risk²))w          F: all factors, dummies too
    subject to  Σw = 0,  Σ_{country} w = 0,  Σ_{sector} w = 0
                |F_jᵀw| ≤ bound · L/√n for every factor,  |w| ≤ cap · L/n,  Σ|w| ≤ L

Every row is written down as the definition says it, whether or not it follows from the others: nothing is left out,
made independent or put into factors first. γ is Σ|a|/risk² / 2L where none is given.
"""

import contextlib
from collections.abc import Sequence

import cvxpy as cp
import numpy as np

TIGHTEST = [1e-13, 1e-12, 1e-11]
"""Clarabel's tolerances, tried in this order: it gives up where it cannot reach one."""


def weights(
    alpha: np.ndarray,
    labels: Sequence[Sequence[str]],
    exposures: np.ndarray,
    covariance: np.ndarray,
    specific_risk: np.ndarray,
    limits: tuple[float, float, float | None],
) -> np.ndarray:
    """w*.

    Args:
        alpha: a.
        labels: of each kind of group that the portfolio is neutral to, one a stock; the market is one of them, or not.
        exposures: (stock, factor) F.
        covariance: Ω.
        specific_risk: standard deviations.
        limits: L, cap and bound; None for no bound.
    """
    leverage, cap, bound = limits
    n = len(alpha)
    gamma = sum(abs(a) / d**2 for a, d in zip(alpha.tolist(), specific_risk.tolist(), strict=True)) / (2 * leverage)
    x, long, short = cp.Variable(n), cp.Variable(n, nonneg=True), cp.Variable(n, nonneg=True)  # w = x L/n
    kept = [x == long - short, cp.sum(long + short) <= n, cp.abs(x) <= cap]
    for kind in labels:
        for label in sorted(set(kind)):
            kept.append(cp.sum(x[[stock for stock, own in enumerate(kind) if own == label]]) == 0)
    if bound is not None:
        kept += [
            cp.abs(exposures[:, j] @ x) * leverage / n <= bound * leverage / n**0.5 for j in range(len(covariance))
        ]
    unit, scale = leverage / n, float(np.abs(alpha).mean())
    risk = (exposures @ covariance @ exposures.T + np.diag(specific_risk**2)) * gamma * unit / scale
    asked = cp.Problem(cp.Maximize((alpha / scale) @ x - 0.5 * cp.quad_form(x, cp.psd_wrap(risk))), kept)
    for tolerance in TIGHTEST:
        with contextlib.suppress(cp.SolverError):
            asked.solve(solver="CLARABEL", tol_gap_abs=tolerance, tol_gap_rel=tolerance, tol_feas=tolerance)
        if asked.status == "optimal":
            return np.asarray(x.value) * unit
    raise AssertionError(asked.status)
