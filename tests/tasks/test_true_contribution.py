"""True Contribution on real prices: every bag solved, stable under other bags, and blind to what was held."""

from dataclasses import replace

import numpy as np
import pytest

from scoring.bags import dropout_kept
from scoring.errors import UntrustworthyError
from scoring.meta_model import from_sums, kept_sums, partial_sums
from scoring.portfolio import gradient
from scoring.portfolio.problem import PortfolioTerms
from scoring.portfolio.report import BagReport
from scoring.ranks import Ranks
from scoring.rounds import Targets, TrueContributionOptions
from scoring.true_contribution import TrueContribution, true_contribution
from tasks.ingest import find_sources, ingest_block
from tasks.inputs import RoundInputs, read_round
from tasks.meta_models import BlockSums
from tasks.store import open_store
from tasks.tournament import read_tournament
from tasks.true_contribution import (
    PortfolioFacts,
    chunks,
    merge_chunks,
    optimise,
    pull_back,
    refuse_untrustworthy,
)
from tests.reference import portfolio as reference
from tests.scoring.portfolio.problems import Shape, covariance, submissions, universe
from tests.scoring.shared_data import shared_file

ROUNDS = range(101, 131)
TWICE = TrueContributionOptions(bags=200, chunk=50)


def round_of(number: int) -> tuple[RoundInputs, Ranks, PortfolioFacts]:
    store = open_store(shared_file("sp500"))
    tournament = read_tournament(store)
    asking = replace(tournament, portfolio=PortfolioTerms())
    inputs = read_round(store, asking, number)
    block = ingest_block(find_sources(store, f"rounds/{number}/submissions"), store, inputs.universe.ids)
    assert inputs.targets is not None
    assert inputs.factor_covariance is not None
    facts = PortfolioFacts(inputs.universe, inputs.factor_covariance, inputs.targets, PortfolioTerms(), TWICE)
    return inputs, block.ranks, facts


def sums_of(inputs: RoundInputs, ranks: Ranks) -> BlockSums:
    known = inputs.stakes.by_model()
    atoms = [known[model].atoms for model in ranks.models]
    weights = np.array([stake / sum(atoms) for stake in atoms])
    kept = dropout_kept(atoms, inputs.round.seed, TWICE.bags, TWICE.dropout)
    stocks = ranks.stocks
    return BlockSums(
        partial_sums(ranks, weights[None, :]), np.zeros((1, stocks), np.int64), kept_sums(ranks, weights, kept)
    )


@pytest.mark.parametrize("number", ROUNDS)
def test_true_contribution__of_two_disjoint_sets_of_bags_agrees_on_real_prices(number: int) -> None:
    inputs, ranks, facts = round_of(number)
    sums = sums_of(inputs, ranks)
    portfolio = optimise(sums, facts)
    found = [pull_back(bags, sums, portfolio, facts) for bags in chunks(TWICE)]
    halves = [merge_chunks(half, portfolio, facts) for half in (found[:2], found[2:])]
    one, other = (true_contribution(ranks, half.price) for half in halves)
    assert np.corrcoef(one, other)[0, 1] >= 0.99
    reports = [report for chunk in found for report in chunk.reports]
    assert {report.status for report in reports} == {"converged"}
    refuse_untrustworthy(reports, TWICE)


SHAPE = Shape(80, 5, 4, 2)
FEW = TrueContributionOptions(bags=6, chunk=3)


def synthetic() -> tuple[BlockSums, PortfolioFacts]:
    """A small round of nine models, without a cost of turnover."""
    ranks, rng = submissions(41, SHAPE), np.random.default_rng(41)
    atoms = [int(stake) for stake in rng.integers(1, 90, len(ranks.models))]
    weights = np.array([stake / sum(atoms) for stake in atoms])
    kept = dropout_kept(atoms, 1, FEW.bags, FEW.dropout)
    sums = BlockSums(
        partial_sums(ranks, weights[None, :]), np.zeros((1, 80), np.int64), kept_sums(ranks, weights, kept)
    )
    targets = Targets(np.arange(80), np.linspace(0, 1, 80), 0.5, rng.normal(0, 0.02, 80))
    stocks, risk = universe(41, SHAPE), covariance(41, SHAPE.factors)
    return sums, PortfolioFacts(stocks, risk, targets, PortfolioTerms(), FEW)


def solved(sums: BlockSums, facts: PortfolioFacts) -> TrueContribution:
    portfolio = optimise(sums, facts)
    found = [pull_back(bags, sums, portfolio, facts) for bags in chunks(FEW)]
    return merge_chunks(found, portfolio, facts)


@pytest.mark.parametrize("risk_aversion", [None, 900.0])
def test_true_contribution__has_the_same_bytes_whatever_turnover_costs(risk_aversion: float | None) -> None:
    sums, facts = synthetic()
    facts = replace(facts, terms=PortfolioTerms(risk_aversion))
    plain = solved(sums, facts)
    costly = PortfolioTerms(risk_aversion, turnover_cost=3.0)
    traded = solved(sums, replace(facts, terms=costly, previous=np.random.default_rng(2).normal(0, 1 / 80, 80)))
    assert traded.price.tobytes() == plain.price.tobytes()
    assert (traded.risk_aversion, traded.reports) == (plain.risk_aversion, plain.reports)
    assert np.abs(traded.portfolio - plain.portfolio).max() > 0.1 * np.abs(plain.portfolio).max()


def test_optimise__with_a_cost_is_the_portfolio_of_a_shifted_meta_model_and_a_riskier_market() -> None:
    sums, facts = synthetic()
    held, cost = np.random.default_rng(3).normal(0, 1 / 80, 80), 0.8
    found = optimise(sums, replace(facts, terms=PortfolioTerms(turnover_cost=cost), previous=held))
    plain = optimise(sums, facts)
    assert found.problem.previous is None
    assert found.risk_aversion == plain.risk_aversion
    specific = plain.problem.specific
    riskier = replace(plain.problem, specific=specific * (1 + cost))
    shifted = from_sums(sums.weighted[0]) + plain.risk_aversion * cost * specific * held
    expected = reference.weights(riskier, plain.risk_aversion, shifted)
    assert np.abs(found.weights - expected).max() <= 1e-7 * np.abs(expected).max()


def test_pull_back__leaves_out_bags_whose_gradient_was_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    sums, facts = synthetic()
    portfolio = optimise(sums, facts)
    monkeypatch.setattr(gradient, "TOLERANCE", 1e-19)
    found = pull_back(range(3), sums, portfolio, facts)
    assert [report.status for report in found.reports] == ["failed"] * 3
    assert not found.total.any()


@pytest.mark.parametrize("wrong", ["degenerate", "failed"])
def test_refuse_untrustworthy__counts_flagged_bags_against_the_stated_share(wrong: str) -> None:
    good, bad = BagReport("converged", 5, 0.0, 0.0, 1e-3), BagReport(wrong, 5, 0.0, 0.0, 0.0)
    options = TrueContributionOptions(bags=100)
    refuse_untrustworthy([good] * 95 + [bad] * 5, options)
    with pytest.raises(UntrustworthyError, match=f"6 of 100 bags are {wrong}") as caught:
        refuse_untrustworthy([good] * 94 + [bad] * 6, options)
    assert caught.value.exit_code == 6
