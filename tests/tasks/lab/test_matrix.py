"""The verdict on made-up blows: what pays, what harms, what fails, and what the attacker would choose."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoring.lab.attacks import ATTACKS
from scoring.lab.statistics import Resampling, block_bootstrap
from tasks.lab.attack_case import Blow
from tasks.lab.matrix import BLOW_COLUMNS, MATRIX_COLUMNS, best_choice, blows_frame, finer_choices, matrix_frame

RESAMPLING = Resampling(block=2, samples=200, seed=1)
ROUNDS = range(101, 113)
NOISE = [0.3, -0.2, 0.1, -0.25, 0.2, -0.1, 0.15, -0.3, 0.05, 0.25, -0.15, -0.05]


def blows(  # a blow a round
    gains: Iterable[float],
    harms: Iterable[float] = (0.0,) * 12,
    throttles: Iterable[float] = (0.0,) * 12,
    *,
    attack: str = "throttle_pair",
    choice: int = 1,
    mechanism: str = "baseline",
    stake: float = 5.0,
) -> list[Blow]:
    rows = zip(ROUNDS, gains, harms, throttles, strict=True)
    return [
        Blow(mechanism, attack, choice, number, stake, 5.0, 0.5, 0.5 + gain, gain, harm, cut, 0.25)
        for number, gain, harm, cut in rows
    ]


def only(found: Sequence[Blow], attack: str = "throttle_pair") -> pd.Series:
    frame = matrix_frame(blows_frame(found), ["baseline"], [attack], RESAMPLING)
    assert tuple(frame.columns) == MATRIX_COLUMNS
    assert len(frame) == 1
    return frame.iloc[0]


def around(middle: float, width: float = 1.0) -> list[float]:
    return [middle + width * each for each in NOISE]


@pytest.mark.parametrize(
    ("gains", "harms", "throttles", "verdict"),
    [
        (around(1.0), [0.0] * 12, [0.0] * 12, "pays"),
        ([1e-8] * 12, [0.0] * 12, [0.0] * 12, "pays"),
        (around(1.0), around(5.0), around(5.0), "pays"),
        (around(0.0), [0.0] * 12, [0.0] * 12, "fails"),
        ([0.0] * 12, around(1.0), [0.0] * 12, "harms"),
        ([0.0] * 12, [0.0] * 12, around(1.0), "harms"),
        ([0.0] * 12, around(0.0), around(0.0), "fails"),
        ([-0.0009] * 12, around(1.0), [0.0] * 12, "harms"),
        ([-0.0011] * 12, around(1.0), around(1.0), "fails"),
        (around(-1.0), [0.0] * 12, [0.0] * 12, "fails"),
        ([0.0] * 12, around(-1.0), around(-1.0), "fails"),
        ([0.0] * 12, [0.0] * 12, [0.0] * 12, "fails"),
        ([9e-10] * 12, [9e-10] * 12, [9e-10] * 12, "fails"),
        ([0.0] * 12, [9e-6] * 12, [9e-6] * 12, "fails"),
        ([0.0] * 12, [9e-6] * 12, [2e-5] * 12, "harms"),
    ],
)
def test_matrix_frame__verdicts(gains: list[float], harms: list[float], throttles: list[float], verdict: str) -> None:
    assert only(blows(gains, harms, throttles))["verdict"] == verdict


def test_matrix_frame__a_loss_of_next_to_nothing_buys_harm() -> None:
    assert only(blows([-0.5] * 12, around(1.0), stake=0.005))["verdict"] == "harms"
    assert only(blows([-0.5] * 12, around(1.0), stake=0.05))["verdict"] == "fails"


def test_matrix_frame__figures_are_means_and_their_intervals() -> None:
    gains, harms, throttles = around(0.2), around(0.1, 2.0), around(0.05, 0.5)
    row = only(blows(gains, harms, throttles))
    for key, low, high, values in (
        ("gain", "low", "high", gains),
        ("harm", "harm_low", "harm_high", harms),
        ("throttle", "throttle_low", "throttle_high", throttles),
    ):
        assert row[key] == pytest.approx(math.fsum(values) / 12)
        interval = block_bootstrap(np.array(values), RESAMPLING)
        assert (row[low], row[high]) == (interval.low, interval.high)
    assert (row["wins"], row["losses"]) == (sum(each > 0 for each in gains), sum(each < 0 for each in gains))
    count = row["wins"] + row["losses"]
    assert count == 11  # one gain is exactly 0
    tail = sum(math.comb(count, k) for k in range(min(row["wins"], row["losses"]) + 1)) / 2**count
    assert row["p_value"] == pytest.approx(min(1.0, 2 * tail))
    assert (row["rounds"], row["choice"], row["detectability"]) == (12, None, 0.25), "where there is no choice, none"
    assert row["title"] == ATTACKS["throttle_pair"].title


def test_matrix_frame__less_than_a_billionth_is_nothing() -> None:
    """Whole atoms leave as much; it is neither a win nor a loss nor a mean."""
    tiny = [9.99e-10, -9.99e-10] * 6
    row = only(blows(tiny, tiny, tiny))
    assert (row["gain"], row["low"], row["high"], row["harm"], row["throttle"]) == (0.0,) * 5
    assert (row["wins"], row["losses"], row["p_value"]) == (0, 0, 1.0)
    row = only(blows([1.01e-9, -1.01e-9] * 6))
    assert (row["wins"], row["losses"]) == (6, 6)


def test_matrix_frame__without_an_occasion_there_is_no_verdict_on_it() -> None:
    row = only(blows(around(1.0), attack="split_models", choice=2))
    assert (row["verdict"], row["rounds"]) == ("none", 0)
    assert row[["gain", "low", "high", "p_value", "harm", "throttle", "choice", "detectability"]].isna().all()
    nothing = matrix_frame(blows_frame([]), ["a", "b"], ["split_models", "grind_seed"], RESAMPLING)
    assert nothing["verdict"].tolist() == ["none"] * 4
    assert list(blows_frame([]).columns) == list(BLOW_COLUMNS)


def test_matrix_frame__the_choice_is_the_best_on_average_and_not_of_each_round() -> None:
    split = {2: around(0.1), 5: [-each for each in around(0.0, 9.0)], 10: around(0.2), 20: around(0.15)}
    found = [blow for choice, gains in split.items() for blow in blows(gains, attack="split_models", choice=choice)]
    row = only(found, "split_models")
    assert (row["choice"], row["rounds"]) == (10, 12)
    assert row["gain"] == pytest.approx(0.2)
    best = [max(each) for each in zip(*split.values(), strict=True)]
    assert np.mean(best) > 0.5


def test_matrix_frame__who_sees_what_each_gives_takes_the_best_of_every_round() -> None:
    tries = {1: around(0.0), 2: [-each for each in around(0.0)], 3: [0.1] * 12}
    found = [blow for choice, gains in tries.items() for blow in blows(gains, attack="grind_seed", choice=choice)]
    np.random.default_rng(1).shuffle(found)
    row = only(found, "grind_seed")
    best = [max(each) for each in zip(*tries.values(), strict=True)]
    assert ATTACKS["grind_seed"].each_round
    assert row["gain"] == pytest.approx(math.fsum(best) / 12)
    interval = block_bootstrap(np.array(best), RESAMPLING)
    assert (row["low"], row["high"]) == (interval.low, interval.high)
    assert pd.isna(row["choice"])
    alone = only(blows(around(0.1), attack="grind_seed", choice=7), "grind_seed")
    assert alone["choice"] == 7


def test_best_choice__of_equals_the_smallest() -> None:
    same = [blow for choice in (20, 3, 5) for blow in blows(around(0.1), attack="split_models", choice=choice)]
    assert best_choice(blows_frame(same)) == 3


def test_matrix_frame__rounds_count_in_the_order_of_time() -> None:
    """Blocks of neighbouring rounds need it, whatever order the workers answered in."""
    found = blows(around(0.05), around(0.2))
    row, mixed = only(found), only([found[at] for at in (5, 0, 11, 3, 8, 1, 10, 2, 9, 4, 7, 6)])
    pd.testing.assert_series_equal(row, mixed)


def test_matrix_frame__one_row_a_mechanism_and_attack_in_the_order_asked_for() -> None:
    found = blows(around(1.0), mechanism="b") + blows(around(-1.0), mechanism="a")
    frame = matrix_frame(blows_frame(found), ["b", "a"], ["throttle_pair", "copy_example"], RESAMPLING)
    assert list(zip(frame["mechanism"], frame["attack"], frame["verdict"], strict=True)) == [
        ("b", "throttle_pair", "pays"),
        ("b", "copy_example", "none"),
        ("a", "throttle_pair", "fails"),
        ("a", "copy_example", "none"),
    ]


def test_matrix_frame__too_few_rounds_are_no_proof() -> None:
    found = [blow for blow in blows([1.0] * 12, [1.0] * 12) if blow.round < 104]
    assert only(found)["verdict"] == "fails"


# The search for the best number of parts ------------------------------------------------------------------------------


def searched(best: int, width: float) -> tuple[int, int]:
    """The best number found where gains rise to `best` and fall beyond it, and how many were tried."""
    found: list[Blow] = []
    asked = {("baseline", "split_models"): ATTACKS["split_models"].choices}
    while asked:
        assert set(asked) == {("baseline", "split_models")}
        for choice in asked["baseline", "split_models"]:
            gain = 1.0 - abs(choice - best) * width
            found += blows([gain + each / 100 for each in NOISE], attack="split_models", choice=choice)
        asked = dict(finer_choices(found))
    tried = [blow.choice for blow in found]
    assert len(set(tried)) * 12 == len(tried), "nothing is tried twice"
    return best_choice(blows_frame(found)), len(set(tried))


@given(best=st.integers(2, 50), width=st.floats(0.001, 0.05))
def test_finer_choices__find_the_best_number_of_parts(best: int, width: float) -> None:
    found, tried = searched(best, width)
    assert found == best
    assert tried <= 26


def test_finer_choices__stop_at_the_fewest_parts_where_more_are_no_better() -> None:
    """A threshold that all parts are below from 13 on: the smallest of equals is what he takes."""
    found: list[Blow] = []
    asked: dict[tuple[str, str], tuple[int, ...]] = {("tax", "split_models"): ATTACKS["split_models"].choices}
    while asked:
        for choice in asked["tax", "split_models"]:
            found += blows([min(choice, 13) / 13] * 12, attack="split_models", choice=choice, mechanism="tax")
        asked = dict(finer_choices(found))
    assert best_choice(blows_frame(found)) == 13


@pytest.mark.parametrize(("attack", "gain"), [("split_models", 0.0), ("split_models", -1.0), ("grind_seed", 1.0)])
def test_finer_choices__nothing_is_searched_where_nothing_is_gained_or_nothing_lies_between(
    attack: str, gain: float
) -> None:
    found = [each for choice in ATTACKS[attack].choices for each in blows([gain] * 12, attack=attack, choice=choice)]
    assert finer_choices(found) == {}
