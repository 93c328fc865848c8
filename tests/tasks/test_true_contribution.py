"""True Contribution on real prices: every bag solved, and stable under other bags."""

from dataclasses import replace

import numpy as np
import pytest

from scoring.bags import dropout_kept
from scoring.errors import UntrustworthyError
from scoring.meta_model import kept_sums, partial_sums
from scoring.portfolio.problem import PortfolioTerms
from scoring.portfolio.report import BagReport
from scoring.ranks import Ranks
from scoring.rounds import TrueContributionOptions
from scoring.true_contribution import true_contribution
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


@pytest.mark.parametrize("wrong", ["degenerate", "failed"])
def test_refuse_untrustworthy__counts_flagged_bags_against_the_stated_share(wrong: str) -> None:
    good, bad = BagReport("converged", 5, 0.0, 0.0, 1e-3), BagReport(wrong, 5, 0.0, 0.0, 0.0)
    options = TrueContributionOptions(bags=100)
    refuse_untrustworthy([good] * 95 + [bad] * 5, options)
    with pytest.raises(UntrustworthyError, match=f"6 of 100 bags are {wrong}") as caught:
        refuse_untrustworthy([good] * 94 + [bad] * 6, options)
    assert caught.value.exit_code == 6
