"""The default portfolio problem, written to be read: the same problem as in `problem`, in the words of cvxpy.

It is both the definition that the structured solver is held against and the pattern for an operator's own problem:
`build(problem, risk_aversion)` returns a fresh problem, its parameter alpha, and its variable, the weights.

    maximise    aᵀx − ½ (|R y|² + |S x|²)      w = (L/√n) x,  y = Fᵀx,  R and S hold γ, Ω and d
    subject to  Eᵀx = 0,  |y| ≤ e √n/L,  |x| ≤ u √n/L,  Σ|x| ≤ √n

and, for a portfolio that starts from x⁰ at a cost (`turnover`), − ½ |√c S (x − x⁰)|² in the goal.

Three habits keep it small and easy to solve. Only alpha is a Parameter; every other number is a constant, as
exposures or covariance as parameters would need hundreds of GB at 5 000 stocks. The exposures are variables of their
own and the covariance enters by its Cholesky factor, so that no (stock, stock) matrix is ever formed. And the solver
sees x, a vector of length near 1, and terms without large coefficients in front: Clarabel stops the nearer to the
solution. (To diffcp's own iterative gradient the third habit matters more: of the same problem in w it was wrong by 6 %
at 500 stocks, and by all of it with γ in front of the risk; of this one by 1e-4.)
"""

from typing import Any

import cvxpy
import numpy as np
import scipy.sparse as sparse

from scoring.portfolio.problem import PortfolioProblem

cp: Any = cvxpy  # its functions are re-exported in a way that mypy cannot see


def build(problem: PortfolioProblem, risk_aversion: float) -> tuple[cvxpy.Problem, cvxpy.Parameter, cvxpy.Variable]:
    """Returns a fresh problem, its parameter alpha and its variable, the weights."""
    stocks, unit = problem.stocks, problem.leverage / np.sqrt(problem.stocks)
    alpha, weights = cp.Parameter(stocks, name="alpha"), cp.Variable(stocks, name="weights")
    x = cp.Variable(stocks)
    curvature = np.sqrt(risk_aversion * unit)
    spread = curvature * np.sqrt(problem.specific)
    risk = cp.sum_squares(cp.multiply(spread, x))
    if problem.previous is not None:
        traded = x - problem.previous / unit
        risk += cp.sum_squares(cp.multiply(np.sqrt(problem.turnover_cost) * spread, traded))
    limits = [weights / unit == x, cp.norm1(x) <= problem.leverage / unit, cp.abs(x) <= problem.cap / unit]
    if len(problem.rows):
        limits.append(sparse.csc_array(problem.neutral_columns()).T @ x == 0)
    if problem.bounds.size:
        y = cp.Variable(problem.bounds.size)
        limits.append(y == problem.factors.T @ x)
        risk += cp.sum_squares(curvature * np.linalg.cholesky(problem.covariance).T @ y)
        bounded = np.flatnonzero(np.isfinite(problem.bounds))
        if bounded.size:
            limits.append(cp.abs(y[bounded]) <= problem.bounds[bounded] / unit)
    return cp.Problem(cp.Maximize(alpha @ x - risk / 2), limits), alpha, weights
