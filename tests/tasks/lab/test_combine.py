"""Any combination of submissions, and the inner products of a fit, by the slow formulas."""

import math
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tasks.lab.case import RoundCase
from tasks.lab.combine import combined, gram_of
from tasks.lab.evaluate import evaluate
from tests.reference import naive
from tests.tasks import fixtures
from tests.tasks.lab.history import FIRST, case_of, mechanism, submissions

ASKS = "[portfolio]\n"


@pytest.fixture(scope="module")
def case(data: Path) -> RoundCase:
    return case_of(data, FIRST, mechanism(data, ASKS), portfolio=True)


def target(data: Path) -> dict[str, float]:
    read = pq.read_table(data / f"rounds/{FIRST}/targets.parquet").to_pydict()
    return dict(zip(read["id"], read["target"], strict=True))


def test_combined__is_corr_of_the_weighted_mean(data: Path, case: RoundCase) -> None:
    handed_in = submissions(data, FIRST)
    some = sorted(handed_in)[:4]
    shares = dict(zip(some, (0.5, 0.25, 0.125, 0.0), strict=True)) | {"nobody": 9.0}
    expected = naive.weighted(handed_in, {model: shares[model] for model in some})
    corr = naive.corr({"meta": expected}, target(data))["meta"]
    found, earned = combined(case, mechanism(data), shares)
    assert found == pytest.approx(corr, abs=1e-9)
    assert math.isnan(earned)
    doubled, _ = combined(case, mechanism(data), {model: 2 * each for model, each in shares.items()})
    assert doubled == pytest.approx(found, abs=1e-12)


def test_combined__by_the_baselines_own_weights_is_the_baselines_outcome(data: Path, case: RoundCase) -> None:
    asks = mechanism(data, ASKS)
    outcome = evaluate(case, case.scene, asks)
    assert outcome is not None
    corr, earned = combined(case, asks, outcome.weights)
    assert corr == pytest.approx(outcome.meta_model_corr, abs=1e-12)
    assert earned == pytest.approx(outcome.portfolio_return, abs=1e-9)


def test_combined__of_nobody_there_is_nothing(data: Path, case: RoundCase) -> None:
    for shares in ({}, {"nobody": 1.0}, {case.ranks.models[0]: 0.0}):
        assert np.isnan(combined(case, mechanism(data), shares)).all()


def test_gram_of__inner_products_by_the_slow_formulas(data: Path, case: RoundCase) -> None:
    found = gram_of(case)
    handed_in, y = submissions(data, FIRST), target(data)
    ids = naive.scored_ids(handed_in, y)
    assert found.models == tuple(sorted(handed_in))
    assert found.stocks == len(ids)
    g = [naive.g(naive.at(handed_in[model], ids)) for model in found.models]
    goal = naive.centred(naive.at(y, ids))
    np.testing.assert_allclose(found.gram, [[naive.dot(a, b) for b in g] for a in g], atol=1e-11)
    np.testing.assert_allclose(found.moment, [naive.dot(a, goal) for a in g], atol=1e-12)
    assert found.target_square == pytest.approx(naive.dot(goal, goal))


def test_gram_of__is_over_the_scored_stocks_alone(tmp_path: Path) -> None:
    """Two stocks have no target: the others are ranked among themselves."""
    full = fixtures.round_tables()["targets"]
    data = fixtures.write_round(tmp_path, targets=full.slice(2))
    found = gram_of(case_of(data, 7))
    ids = sorted(full.slice(2).column("id").to_pylist())
    assert found.stocks == len(ids) == 18
    for at, model in enumerate(fixtures.MODELS):
        own = dict(zip(*fixtures.submission(at).to_pydict().values(), strict=True))
        g = naive.g(naive.at(own, ids))
        assert found.gram[at, at] == pytest.approx(naive.dot(g, g), abs=1e-11), model
