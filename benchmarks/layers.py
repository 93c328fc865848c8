"""Portfolio layers side by side: seconds a bag, and by how much the gradient is wrong.

Each gets both cores in its own way: `FactorPortfolio` chunks of bags on two threads, `CvxpyPortfolio` a bag on each of
two threads, cvxpylayers as many alphas as there are cores in one batch, which diffcp solves in parallel.

The error of `FactorPortfolio` is measured without any solver's help: the problem is solved again a small step to both
sides, along single stocks and along submissions, and the change of the return is compared with the gradient's promise.
The others are then compared with it.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cvxpy as cp
import numpy as np
import scipy.sparse as sparse
import torch
from cvxpylayers.torch import CvxpyLayer

from benchmarks.machine import CORES, print_table, seconds
from benchmarks.market import OPTIONS, Crowd, make_market
from scoring.portfolio.cvxpy_layer import CvxpyPortfolio
from scoring.portfolio.factor_portfolio import FactorPortfolio
from scoring.portfolio.interface import Portfolio
from scoring.portfolio.problem import PortfolioProblem, auto_risk_aversion
from scoring.ranks import gauss_table, values
from tasks.true_contribution import Device

CHECKED_BAGS = 2
STEP = 1e-6


@dataclass(frozen=True, slots=True)
class Bags:
    """Some bags of one problem.

    Attributes:
        alphas: (bag, stock).
        returns: (stock,) as fractions.
    """

    alphas: np.ndarray
    returns: np.ndarray

    def pieces(self, size: int) -> Iterator["Bags"]:
        """Yields the bags, so many at a time."""
        for start in range(0, len(self.alphas), size):
            yield Bags(self.alphas[start : start + size], self.returns)


class ConeLayer:
    """cvxpylayers at its best for this problem: DIFFCP with Clarabel, in the form that was fastest of those tried.

    It is the problem in x = w √n/L and y = Fᵀx, as in `default_problem`, with one |x| ≤ t for both cap and leverage
    and one second-order cone for all risk: at 1 500 stocks 1.4 times as fast as that module's readable form and not
    less exact. Scaling y, sectors or leverage too made it slower and less exact; so did the problem in w.
    """

    def __init__(self, problem: PortfolioProblem, risk_aversion: float) -> None:
        stocks, self._unit = problem.stocks, problem.leverage / np.sqrt(problem.stocks)
        alpha, x, t = cp.Parameter(stocks), cp.Variable(stocks), cp.Variable(stocks)
        y = cp.Variable(problem.bounds.size)
        curvature = np.sqrt(risk_aversion * self._unit)
        root = np.linalg.cholesky(problem.covariance).T
        risk = [cp.multiply(curvature * np.sqrt(problem.specific), x), curvature * root @ y]
        limits = [y == problem.factors.T @ x, sparse.csc_array(problem.neutral_columns()).T @ x == 0]
        limits += [x <= t, -x <= t, t <= problem.cap / self._unit, cp.sum(t) <= problem.leverage / self._unit]
        limits += [y <= problem.bounds / self._unit, -y <= problem.bounds / self._unit]
        goal = cp.Maximize(alpha @ x - cp.sum_squares(cp.hstack(risk)) / 2)
        arguments = {"solve_method": "Clarabel"}
        self._layer = CvxpyLayer(cp.Problem(goal, limits), [alpha], [x], solver="DIFFCP", solver_args=arguments)

    def gradients(self, bags: Bags) -> np.ndarray:
        """Returns the gradients of one batch; upstream near 1, because diffcp takes 1e-8 for 0."""
        at = torch.tensor(bags.alphas, requires_grad=True)
        (x,) = self._layer(at)
        scale = np.abs(bags.returns).max()
        (gradient,) = torch.autograd.grad(x, at, torch.as_tensor(bags.returns / scale).expand_as(x))
        return gradient.numpy() * (scale * self._unit)


def gradients(portfolio: Portfolio, bags: Bags, device: Device = "cpu") -> np.ndarray:
    """Returns every bag's gradient, all in one batch."""
    solved = portfolio.solve(torch.as_tensor(bags.alphas, device=device))
    return portfolio.pull_back(solved, torch.as_tensor(bags.returns, device=device)).cpu().numpy()


def in_chunks(portfolio: Portfolio, bags: Bags, device: Device) -> np.ndarray:
    """Returns every bag's gradient, chunks side by side."""
    with ThreadPoolExecutor(CORES) as pool:
        parts = pool.map(lambda chunk: gradients(portfolio, chunk, device), bags.pieces(OPTIONS.chunk))
        return np.concatenate(list(parts))


def side_by_side(portfolios: list[CvxpyPortfolio], bags: Bags) -> np.ndarray:
    """Returns one bag's gradient by each portfolio, as workers would find them."""
    with ThreadPoolExecutor(CORES) as pool:
        return np.concatenate(list(pool.map(gradients, portfolios, bags.pieces(1))))


def error_by_differences(exact: FactorPortfolio, bags: Bags, found: np.ndarray, submissions: np.ndarray) -> float:
    """Returns max|Δg| / max|g| as central differences tell it, over bags and directions.

    Args:
        exact: solves again, on the CPU.
        bags: few.
        found: (bag, stock) their gradients.
        submissions: (direction, stock) of numbers near 1; along them the errors of all stocks add up.
    """
    step, worst = STEP * np.abs(bags.alphas).mean(), 0.0
    rng = np.random.default_rng(11)
    for alpha, gradient in zip(bags.alphas, found, strict=True):
        stocks = [*np.argsort(-np.abs(gradient))[:4], *rng.choice(len(gradient), 8, replace=False)]
        along = np.concatenate([np.eye(len(gradient))[stocks], submissions])
        up, down = (exact.solve(torch.as_tensor(alpha + sign * step * along)).weights.numpy() for sign in (1, -1))
        change = (up - down) @ bags.returns / (2 * step)
        worst = max(worst, float(np.abs(along @ gradient - change).max() / np.abs(gradient).max()))
    return worst


def error(found: np.ndarray, exact: np.ndarray) -> float:
    """Returns max|Δg| / max|g|, the worst of the bags."""
    return float((np.abs(found - exact).max(axis=1) / np.abs(exact).max(axis=1)).max())


def compare_layers(device: Device, models: int, stocks: int) -> None:
    """Prints seconds a bag and the error of g of each layer."""
    crowd, market = Crowd(models, stocks), make_market(stocks)
    problem = market.problem()
    full, alphas = crowd.alphas(OPTIONS.bags)
    given = problem, auto_risk_aversion(full, problem)
    bags, few, checked = (Bags(alphas[:size], market.returns) for size in (OPTIONS.bags, CORES, CHECKED_BAGS))
    factor = FactorPortfolio(*given, device)
    exact = in_chunks(factor, bags, device)
    ours = seconds(lambda: in_chunks(factor, bags, device)) / len(alphas)
    submissions = values(crowd.blocks[0].ranks, gauss_table(stocks))[:4]
    ours_error = error_by_differences(FactorPortfolio(*given), checked, exact[:CHECKED_BAGS], submissions)
    layer, portfolios = ConeLayer(*given), [CvxpyPortfolio(*given) for _ in range(CORES)]
    others: dict[str, tuple[float, np.ndarray]] = {}
    works = {
        f"`CvxpyPortfolio`, {CORES} threads with a bag each": lambda: side_by_side(portfolios, few),
        f"cvxpylayers, DIFFCP with Clarabel, {CORES} alphas in one batch": lambda: layer.gradients(few),
    }
    for name, work in works.items():
        found: list[np.ndarray] = []
        took = seconds(lambda work=work, found=found: found.append(work()), times=1) / CORES
        others[name] = took, found[0]
    rows = [[f"`FactorPortfolio`, {len(alphas)} bags", f"{1e3 * ours:.1f} ms", f"{ours_error:.1e}", "1e-6", "", ""]]
    for name, (took, found) in others.items():
        aim = "500" if "DIFFCP" in name else ""
        rows.append([name, f"{1e3 * took:.0f} ms", f"{error(found, exact[:CORES]):.1e}", "", f"{took / ours:.0f}", aim])
    header = [
        f"{stocks} stocks, {problem.bounds.size} factors, {len(problem.rows)} groups",
        "a bag",
        "error of g: max of Δg / max of g",
        "aim, at most",
        "ratio",
        "aim, at least",
    ]
    print_table("Portfolio layers, weights and gradient, the same bags on the same cores", header, rows)
    print(
        f"\nErrors: the first line's by central differences of the problem solved again, along {4 + 8} single stocks "
        f"and {len(submissions)} submissions of each of {CHECKED_BAGS} bags; the others' against the first line's g."
    )
