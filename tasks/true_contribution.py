"""True Contribution of a round: the portfolio of the full meta model, then the dropout bags in chunks.

    optimise (once) ─ pull_back (a chunk of bags each) ─ merge_chunks ─► price vector, portfolio, a report a bag

A chunk always holds the same bags and is solved on one thread, so the price vector has the same bytes however many
workers there are. The bags, and the risk aversion, start from an empty portfolio; a cost of turnover, where an operator
asks for one, bears on the portfolio of the full meta model alone. torch takes 2 s to import: only the two units that
solve do, and with it the solvers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float64

from scoring.errors import UntrustworthyError
from scoring.meta_model import from_sums
from scoring.portfolio.problem import PortfolioProblem, PortfolioTerms, auto_risk_aversion, portfolio_problem
from scoring.portfolio.report import BagReport
from scoring.portfolio.turnover import with_turnover
from scoring.rounds import Features, Targets, TrueContributionOptions, Universe
from scoring.true_contribution import TrueContribution, bag_alphas, flagged, returns_of_universe
from tasks.meta_models import BlockSums
from tasks.plan import RoundPlan

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True, slots=True)
class PortfolioFacts:
    """What a round's portfolio rests on, besides its meta model.

    Attributes:
        universe: with risk model and labels.
        covariance: (factor, factor) of the factor returns, in the order of the universe's factors.
        targets: with realised returns.
        terms: the operator's portfolio.
        options: the operator's bags.
        device: where the bags are solved.
        features: over the universe; None where the terms do not limit them.
        previous: (stock,) the portfolio held before the round, fractions of capital; None for an empty one.
    """

    universe: Universe
    covariance: Float64[np.ndarray, "factor factor"]
    targets: Targets
    terms: PortfolioTerms
    options: TrueContributionOptions
    device: Device = "cpu"
    features: Features | None = None
    previous: Float64[np.ndarray, " stock"] | None = None


@dataclass(frozen=True, slots=True)
class RoundPortfolio:
    """The portfolio of the full meta model, and what the bags need of it.

    Attributes:
        problem: the round's, without a cost of turnover: the bags'.
        risk_aversion: γ in force.
        weights: (stock,) w*.
    """

    problem: PortfolioProblem
    risk_aversion: float
    weights: Float64[np.ndarray, " stock"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """What a chunk of bags gives.

    Attributes:
        total: (stock,) Σ_b v_b over the bags that did not fail, in the order of their numbers.
        reports: one a bag.
    """

    total: Float64[np.ndarray, " stock"]
    reports: tuple[BagReport, ...]


def portfolio_facts(plan: RoundPlan, device: Device = "cpu") -> PortfolioFacts | None:
    """Returns what the units need of a round's plan; None where the round asks for no True Contribution."""
    terms, inputs = plan.portfolio, plan.inputs
    if terms is None or inputs.factor_covariance is None:
        return None
    limited = terms.feature_bound is not None or terms.feature_penalty is not None
    features = inputs.features if limited else None
    options = plan.tournament.true_contribution
    covariance, previous = inputs.factor_covariance, inputs.previous_portfolio
    return PortfolioFacts(inputs.universe, covariance, plan.targets, terms, options, device, features, previous)


def chunks(options: TrueContributionOptions) -> list[range]:
    """Returns the numbers of the bags of each chunk."""
    return [range(at, min(at + options.chunk, options.bags)) for at in range(0, options.bags, options.chunk)]


def optimise(sums: BlockSums, facts: PortfolioFacts) -> RoundPortfolio:
    """Returns the portfolio of the full meta model.

    Raises:
        OperatorError: the risk model is missing or none, or the terms leave no portfolio.
        UntrustworthyError: the solver failed on the full meta model.
    """
    from scoring.portfolio.solvers import Solver, optimal_weights

    alpha = from_sums(sums.weighted[0])
    problem = portfolio_problem(facts.universe, facts.covariance, facts.terms, facts.features)
    given = facts.terms.risk_aversion
    risk_aversion = auto_risk_aversion(alpha, problem) if given is None else given
    cost = facts.terms.turnover_cost
    traded = problem if cost is None else with_turnover(problem, cost, facts.previous)
    weights, reports = optimal_weights(Solver(traded, risk_aversion, facts.terms.solver, facts.device), alpha[None, :])
    if reports[0].status == "failed":
        raise UntrustworthyError(f"the portfolio of the meta model was not found: {reports[0]}")
    return RoundPortfolio(problem, risk_aversion, weights[0])


def pull_back(bags: range, sums: BlockSums, portfolio: RoundPortfolio, facts: PortfolioFacts) -> Chunk:
    """Returns the gradients of a chunk of bags, added up.

    Args:
        bags: numbers of the bags.
        sums: the round's merged sums.
        portfolio: of the full meta model.
        facts: the round's.
    """
    from scoring.portfolio.solvers import Solver, gradients

    alphas = bag_alphas(sums.dropout[bags.start : bags.stop], facts.options)
    returns = returns_of_universe(facts.targets, alphas.shape[1])
    solver = Solver(portfolio.problem, portfolio.risk_aversion, facts.terms.solver, facts.device)
    found, reports = gradients(solver, alphas, returns)
    total = np.zeros(alphas.shape[1])
    for report, gradient in zip(reports, found, strict=True):
        if report.status != "failed":
            total = total + gradient
    return Chunk(total, tuple(reports))


def merge_chunks(found: Sequence[Chunk], portfolio: RoundPortfolio, facts: PortfolioFacts) -> TrueContribution:
    """Returns the price vector: the mean over the bags that did not fail, chunks added in their order."""
    reports = tuple(report for chunk in found for report in chunk.reports)
    counted = sum(report.status != "failed" for report in reports)
    total = np.zeros_like(portfolio.weights)
    for chunk in found:
        total = total + chunk.total
    price, how = total / max(counted, 1), (facts.device, facts.terms.solver)
    return TrueContribution(price, portfolio.weights, portfolio.risk_aversion, reports, *how)


def refuse_untrustworthy(reports: Sequence[BagReport], options: TrueContributionOptions) -> None:
    """Stops a round that pays on True Contribution where too many bags are flagged.

    Raises:
        UntrustworthyError: the share of flagged bags is above `flagged_share`.
    """
    wrong = flagged(reports)
    if wrong > options.flagged_share * len(reports):
        kinds = sorted({report.status for report in reports if report.status != "converged"})
        raise UntrustworthyError(
            f"True Contribution: {wrong} of {len(reports)} bags are {' or '.join(kinds)}, at most a share of "
            f"{options.flagged_share} may be; nothing was published"
        )
