"""What it costs to leave the portfolio that is held: an optional term of the problem.

    maximise    aᵀw − (γ/2) (yᵀΩy + Σ_j d_j w_j²) − (γ/2) c Σ_j d_j (w_j − w⁰_j)²

w⁰ is the portfolio held before, as fractions of the capital, and c, the cost, is a pure number in units of the risk
aversion: a trade is as unwelcome as c times its own specific risk. Where no factor and no limit binds, the new
portfolio goes the share 1/(1 + c) of the way from the old one to the one without cost. A quadratic cost proportional to
risk is what a dealer asks who has to carry what he is sold. Of that risk only the specific part d is priced, because
trades in many stocks can be hedged in the factors, and because then each stock's cost is its own: the square adds to
its specific variance, the rest to its alpha, and it is the same problem for every solver.

A cost in proportion to |w − w⁰|, as a broker asks it, would put one more kink into every stock: no trade at all. Each
would be on one of seven pieces rather than five, in every formula of the solver, most of them resting on the new kink.
For a portfolio that is published but never paid on that is too much; an operator's own problem may have it.

True Contribution is always taken from an empty portfolio without this cost.

References:
    Gârleanu and Pedersen, Dynamic Trading with Predictable Returns and Transaction Costs (Journal of Finance 68, 2013):
    quadratic costs proportional to risk.
"""

from dataclasses import replace

import numpy as np
from jaxtyping import Float64

from scoring.errors import OperatorError
from scoring.portfolio.problem import PortfolioProblem


def with_turnover(
    problem: PortfolioProblem, cost: float, previous: Float64[np.ndarray, " stock"] | None
) -> PortfolioProblem:
    """Returns a problem that starts from a portfolio.

    Args:
        problem: of the round.
        cost: c > 0, in units of the risk aversion.
        previous: w⁰, as fractions of the capital; None where nothing is held yet.

    Raises:
        OperatorError: the weights are not one finite number a stock, or the cost is not above 0.
    """
    held = np.zeros(problem.stocks) if previous is None else previous
    if held.shape != (problem.stocks,) or not np.isfinite(held).all():
        raise OperatorError(f"portfolio: what was held must be a finite weight for each of {problem.stocks} stocks")
    if not 0 < cost < np.inf:
        raise OperatorError(f"portfolio: turnover_cost must be a number above 0, found {cost}")
    return replace(problem, turnover_cost=cost, previous=held)


def without_turnover(problem: PortfolioProblem) -> tuple[PortfolioProblem, Float64[np.ndarray, " stock"] | None]:
    """Returns the same problem without turnover: its solution is the same at a + γ times the second result.

    That is None where the problem has no turnover.
    """
    if problem.previous is None:
        return problem, None
    cost = problem.turnover_cost
    plain = replace(problem, specific=problem.specific * (1 + cost), turnover_cost=0.0, previous=None)
    return plain, cost * problem.specific * problem.previous
