"""The combination's weights satisfy the conditions of the best, and agree with a general solver's."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.errors import OperatorError
from scoring.lab.combination import Gram, fit, solve, summed

cp = pytest.importorskip("cvxpy")
RIDGE = 1e-3


def market(
    seed: int, models: int = 12, rounds: int = 4, signal: float = 0.3
) -> list[tuple[tuple[str, ...], np.ndarray, np.ndarray]]:
    """Submissions (model, stock) and targets of some rounds; each round lacks one model, and sizes differ."""
    random = np.random.default_rng(seed)
    skill = random.normal(0.0, signal, models)
    found = []
    for number in range(rounds):
        stocks = 60 + 7 * number
        y = random.normal(size=stocks)
        g = skill[:, None] * y + random.normal(size=(models, stocks))
        there = [model for model in range(models) if model != number % models]
        found.append((tuple(f"m{model:02}" for model in there), g[there], y))
    return found


def grams(rounds: list[tuple[tuple[str, ...], np.ndarray, np.ndarray]]) -> list[Gram]:
    return [Gram(names, g @ g.T, g @ y, float(y @ y), y.size) for names, g, y in rounds]


def stacked(rounds: list[tuple[tuple[str, ...], np.ndarray, np.ndarray]]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """All rounds' stocks below one another, weighing 1/√n each; an absent model is 0."""
    names = sorted({name for each, _, _ in rounds for name in each})
    rows, targets = [], []
    for present, g, y in rounds:
        block = np.zeros((y.size, len(names)))
        for name, values in zip(present, g, strict=True):
            block[:, names.index(name)] = values
        rows.append(block / np.sqrt(y.size))
        targets.append(y / np.sqrt(y.size))
    return names, np.vstack(rows), np.concatenate(targets)


@pytest.mark.parametrize("seed", range(4))
def test_fit__agrees_with_a_general_convex_solver(seed: int) -> None:
    rounds = market(seed)
    names, matrix, target = stacked(rounds)
    ridge = RIDGE * float(np.mean((matrix**2).sum(axis=0)))
    x = cp.Variable(len(names), nonneg=True)
    cp.Problem(cp.Minimize(cp.sum_squares(matrix @ x - target) + ridge * cp.sum_squares(x))).solve(solver=cp.CLARABEL)
    found = fit(grams(rounds), RIDGE)
    assert found is not None
    weights = np.array([found.weights.get(name, 0.0) for name in names])
    np.testing.assert_allclose(weights, x.value / x.value.sum(), atol=1e-6)
    assert found.rounds == len(rounds)
    blend = matrix @ weights
    assert found.correlation == pytest.approx(blend @ target / np.sqrt((blend @ blend) * (target @ target)))


@pytest.mark.parametrize("seed", range(4))
def test_fit__no_subset_of_models_follows_the_targets_more_closely(seed: int) -> None:
    rounds = market(seed, models=5)
    names, matrix, target = stacked(rounds)
    found = fit(grams(rounds), 1e-9)
    assert found is not None
    best = 0.0
    for size in range(1, 6):
        for chosen in itertools.combinations(range(len(names)), size):
            x, *_ = np.linalg.lstsq(matrix[:, chosen], target)
            if (x >= 0.0).all():
                blend = matrix[:, chosen] @ x
                best = max(best, float(blend @ target / np.sqrt((blend @ blend) * (target @ target))))
    assert found.correlation == pytest.approx(best, abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 20))
def test_solve__satisfies_the_conditions_of_the_minimum(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    factor = random.normal(size=(size, max(1, size // 2)))
    matrix, vector = factor @ factor.T + 0.01 * np.eye(size), random.normal(size=size)
    x = solve(matrix, vector)
    slope = matrix @ x - vector
    scale = 1e-9 * (1.0 + np.abs(vector).max() + np.abs(matrix).max() * np.abs(x).max())
    assert (x >= 0.0).all()
    assert (slope >= -scale).all()
    assert np.abs(slope[x > 0.0]).max(initial=0.0) <= scale


def test_fit__weights_are_shares_and_the_order_of_models_and_rounds_does_not_matter() -> None:
    rounds = market(3)
    turned = [(names[::-1], g[::-1], y) for names, g, y in rounds[::-1]]
    one, other = fit(grams(rounds)), fit(grams(turned))
    assert one is not None
    assert other is not None
    assert sum(one.weights.values()) == pytest.approx(1.0)
    assert min(one.weights.values()) > 0.0
    assert {name: pytest.approx(weight, abs=1e-9) for name, weight in one.weights.items()} == other.weights


def test_fit__copies_of_one_submission_share_its_weight_alike() -> None:
    random = np.random.default_rng(5)
    y = random.normal(size=80)
    g = np.vstack([y + random.normal(size=80)] * 3 + [random.normal(size=80)])
    found = fit(grams([(("a", "b", "c", "z"), g, y)]))
    assert found is not None
    assert found.weights["a"] == pytest.approx(found.weights["b"]) == pytest.approx(found.weights["c"])


def test_fit__an_absent_model_leaves_the_others_ratios_as_they_are() -> None:
    """Two unrelated submissions in rounds of their own: each is worth what it is worth alone."""
    y = np.array([1.0, -1.0, 1.0, -1.0])
    one = Gram(("a",), np.array([[4.0]]), np.array([2.0]), float(y @ y), 4)
    other = Gram(("b",), np.array([[4.0]]), np.array([1.0]), float(y @ y), 4)
    found = fit([one, other], 1e-9)
    assert found is not None
    assert found.weights == {"a": pytest.approx(2 / 3), "b": pytest.approx(1 / 3)}


def test_fit__nothing_where_every_submission_points_away_or_there_is_no_round() -> None:
    assert fit([Gram(("a", "b"), np.eye(2), np.array([-0.1, 0.0]), 1.0, 4)]) is None
    assert fit([]) is None


def test_summed__rounds_weigh_by_one_over_their_stocks() -> None:
    models, gram, moment, square = summed(
        [
            Gram(("b", "a"), np.array([[2.0, 1.0], [1.0, 4.0]]), np.array([6.0, 8.0]), 10.0, 2),
            Gram(("b",), np.array([[3.0]]), np.array([9.0]), 30.0, 3),
        ]
    )
    assert models == ("a", "b")
    np.testing.assert_array_equal(gram, [[2.0, 0.5], [0.5, 2.0]])
    np.testing.assert_array_equal(moment, [4.0, 6.0])
    assert square == 15.0


def test_fit__refuses_what_has_no_unique_answer() -> None:
    with pytest.raises(OperatorError, match="ridge must be above 0"):
        fit(grams(market(0)), 0.0)
    with pytest.raises(OperatorError, match="positive definite"):
        solve(np.array([[1.0, 2.0], [2.0, 1.0]]), np.ones(2))
    with pytest.raises(OperatorError, match="finite"):
        solve(np.array([[np.nan]]), np.ones(1))
