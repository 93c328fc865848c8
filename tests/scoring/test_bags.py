"""The randomness of the bags: published answers for Philox, exact numbers of draws, equal chances, accounts.

The bags themselves are seen through the scores: `mmc_bagged` must equal a reference whose random words come from plain
Python integers, and that reference must be able to tell a wrong number of draws or a wrong word from a right one.
"""

import hashlib
import itertools
from collections import Counter
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from scoring import bags, frames
from tests.reference import naive, philox
from tests.reference.panels import assert_close, bits, numbers_of, panel

ONES = 2**64 - 1


def flat_round(stakers: int, seed: int = 0) -> tuple[pd.DataFrame, pd.Series, pd.Series]:
    """Twenty stocks, many stakers, no ties: a round in which every draw moves every score."""
    rng = np.random.default_rng(seed)
    index = [f"n{k:02d}" for k in range(20)]
    names = [f"m{k:03d}" for k in rng.permutation(stakers)]
    predictions = pd.DataFrame(rng.uniform(0, 1, (20, stakers)), index=index, columns=names)
    stakes = pd.Series(np.exp(rng.normal(0, 1, stakers)), index=names)
    return predictions, stakes, pd.Series(rng.normal(0, 1, 20), index=index)


# Philox -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "answer"),
    [
        (
            (0, 0, 0, 0),
            (0, 0),
            (0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B),
        ),
        (
            (ONES, ONES, ONES, ONES),
            (ONES, ONES),
            (0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0),
        ),
        (
            (0x243F6A8885A308D3, 0x13198A2E03707344, 0xA4093822299F31D0, 0x082EFA98EC4E6C89),
            (0x452821E638D01377, 0xBE5466CF34E90C6C),
            (0xA528F45403E61D95, 0x38C72DBD566E9788, 0xA5A1610E72FD18B5, 0x57BD43B5E52B7FE6),
        ),
    ],
    ids=["zeros", "ones", "digits of pi"],
)
def test_philox__known_answers_of_random123(counter: philox.Words, key: tuple[int, int], answer: philox.Words) -> None:
    """Random123, `kat_vectors`, philox4x64 with 10 rounds."""
    assert philox.block(counter, key) == answer
    before = (sum(w << (64 * k) for k, w in enumerate(counter)) - 1) % 2**256
    words = [(before >> (64 * k)) & ONES for k in range(4)]
    numpys = np.random.Philox(key=np.array(key, np.uint64), counter=np.array(words, np.uint64))
    assert tuple(numpys.random_raw(4).tolist()) == answer


@pytest.mark.parametrize("seed", [0, 1, 2**53 + 1, 2**63 - 1, 2**63, 2**63 + 1, ONES])
@pytest.mark.parametrize("bag", [0, 1, 19, 2**32])
def test_philox__stream_equals_numpys(seed: int, bag: int) -> None:
    """The key must reach numpy as uint64: a list of a large and a small integer goes through float64 and loses bits."""
    key, counter = np.array([seed, 1], np.uint64), np.array([0, bag, 0, 0], np.uint64)
    expected = np.random.Philox(key=key, counter=counter).random_raw(13).tolist()
    assert list(itertools.islice(philox.words((0, bag, 0, 0), (seed, 1)), 13)) == expected


# The round's seed -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tournament", "number", "seed"),
    [
        ("numerai", 205, 0x16A7ADA48BDD2E5B),
        ("sp500", 103, 0xC0827FD32F898BB5),
        ("Zürich", 0, 0x5EC0280D159F6287),
    ],
)
def test_round_seed__known_answers(tournament: str, number: int, seed: int) -> None:
    """First 16 hex digits of `printf 'numerai/205' | sha256sum`."""
    assert bags.round_seed(tournament, number) == seed


def test_round_seed__is_the_head_of_sha256() -> None:
    for tournament, number in itertools.product(["a", "sp500", "a/b", ""], [0, 1, 999, 10**9]):
        digest = hashlib.sha256(f"{tournament}/{number}".encode()).digest()
        seed = bags.round_seed(tournament, number)
        assert isinstance(seed, int)
        assert seed == int.from_bytes(digest[:8], "big")


# Draws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stakers", "draws"), [(1, 1), (2, 1), (3, 2), (10, 7), (49, 33), (50, 34), (51, 34), (100, 67), (9200, 6164)]
)
def test_number_of_draws__is_67_percent_rounded_half_up(stakers: int, draws: int) -> None:
    assert naive.number_of_draws(Decimal("0.67"), stakers) == draws
    counts = naive.bag_counts([f"m{k:04d}" for k in range(stakers)], 1, 0, Decimal("0.67"))
    assert sum(counts.values()) == draws


@pytest.mark.parametrize("stakers", [1, 2, 3, 10, 49, 50, 51, 100])
def test_mmc_bagged__draws_67_percent(stakers: int) -> None:
    predictions, stakes, target = flat_round(stakers)
    arguments = predictions.to_dict(), stakes.to_dict(), target.to_dict()
    actual = frames.mmc_bagged(predictions, stakes, target, seed=77, bags=2)
    assert_close(actual, naive.mmc_bagged(*arguments, seed=77, bags=2))


@pytest.mark.parametrize(
    ("fraction", "stakers", "draws"), [("0.29", 50, 15), ("0.145", 100, 15), ("0.07", 50, 4), ("1", 9, 9)]
)
def test_mmc_bagged__number_of_draws_is_exact(fraction: str, stakers: int, draws: int) -> None:
    """0.29·50 + ½ is 15, in floats 14.999…: one draw less moves every score, and the reference sees it."""
    exact = Decimal(fraction)
    assert naive.number_of_draws(exact, stakers) == draws
    predictions, stakes, target = flat_round(stakers)
    arguments = predictions.to_dict(), stakes.to_dict(), target.to_dict()
    expected = naive.mmc_bagged(*arguments, seed=5, bags=3, fraction=exact)
    assert_close(frames.mmc_bagged(predictions, stakes, target, seed=5, bags=3, fraction=exact), expected)
    one_less = naive.mmc_bagged(*arguments, seed=5, bags=3, fraction=Decimal(draws - 1) / stakers)
    assert all(abs(one_less[model] - expected[model]) > 1e-9 for model in expected)


def test_draw__throws_away_the_words_that_would_be_unfair() -> None:
    """N = 3: 2⁶⁴ = 3·k + 1, so exactly one word is thrown away, and the others fall into three boxes of k words."""
    third = (2**64 - 1) // 3
    assert naive.draw(iter([0, ONES]), 3) == 2
    assert [naive.draw(iter([word]), 3) for word in (1, third, third + 1, 2 * third + 1, ONES)] == [0, 0, 1, 2, 2]
    with pytest.raises(StopIteration):
        naive.draw(iter([0]), 3)


def test_draw__never_throws_away_where_boxes_are_equal() -> None:
    assert [naive.draw(iter([word]), 8) for word in (0, 2**61 - 1, 2**61, ONES)] == [0, 0, 1, 7]


@pytest.mark.parametrize("size", [7, 120])
def test_bag_counts__give_every_unit_the_same_chance(size: int) -> None:
    """Over 400 bags: each unit's count within 5 standard deviations, and all together as spread as they should be."""
    units = [f"m{k:03d}" for k in range(size)]
    totals: Counter[str] = Counter()
    draws = naive.number_of_draws(Decimal("0.67"), size)
    for bag in range(400):
        totals.update(naive.bag_counts(units, 2**63 + 5, bag, Decimal("0.67")))
    expected = 400 * draws / size
    assert all(abs(totals[unit] - expected) < 5 * np.sqrt(expected) for unit in units)
    chi_square = sum((totals[unit] - expected) ** 2 / expected for unit in units)
    assert abs(chi_square - (size - 1)) < 5 * np.sqrt(2 * (size - 1))


def test_mmc_bagged__average_over_many_bags_settles() -> None:
    """500 bags of one seed and 500 of another agree far better than single bags do: bags are independent draws."""
    predictions, stakes, target = flat_round(30)
    left, right = (numbers_of(frames.mmc_bagged(predictions, stakes, target, seed=s, bags=500)) for s in (1, 2**63 + 1))
    singles = pd.DataFrame(
        {s: numbers_of(frames.mmc_bagged(predictions, stakes, target, seed=s, bags=1)) for s in range(30)}
    )
    spread = singles.std(axis=1)
    assert ((left - right).abs() < 5 * spread * np.sqrt(2 / 500) + 1e-12).all()
    assert (spread > 1e-4).all()


def test_mmc_bagged__bags_are_numbered_from_0_and_averaged() -> None:
    predictions, stakes, target = flat_round(12)
    scores = [numbers_of(frames.mmc_bagged(predictions, stakes, target, seed=8, bags=b)) for b in (1, 2, 3)]
    single = [scores[0], 2 * scores[1] - scores[0], 3 * scores[2] - 2 * scores[1]]
    arguments = predictions.to_dict(), target.to_dict()
    for bag, score in enumerate(single):
        weights = naive.bag_weights(stakes.to_dict(), 8, bag, Decimal("0.67"), None)
        meta = naive.at(naive.weighted(arguments[0], weights), sorted(arguments[1]))
        m = naive.uniform(naive.tie_broken_ranks(meta))
        for model, prediction in arguments[0].items():
            u = naive.uniform(naive.tie_broken_ranks(naive.at(prediction, sorted(arguments[1]))))
            y = naive.at(arguments[1], sorted(arguments[1]))
            expected = naive.covariance(naive.residual_on(u, m), y, ddof=1) / 0.0841
            assert score[model] == pytest.approx(expected, abs=1e-12)


# Accounts ---------------------------------------------------------------------------------------------------------


def test_mmc_bagged__one_account_a_model_is_the_model_unit() -> None:
    predictions, stakes, target = flat_round(15)
    accounts = pd.Series({model: f"a_{model}" for model in predictions})
    plain = frames.mmc_bagged(predictions, stakes, target, seed=9)
    assert bits(frames.mmc_bagged(predictions, stakes, target, seed=9, accounts=accounts)) == bits(plain)


def test_mmc_bagged__accounts_are_drawn_by_sorted_account_not_by_model() -> None:
    predictions, stakes, target = flat_round(15)
    names = sorted(predictions)
    accounts = pd.Series(dict(zip(names, [f"a{k:02d}" for k in range(15)][::-1], strict=True)))
    expected = naive.mmc_bagged(
        predictions.to_dict(), stakes.to_dict(), target.to_dict(), seed=9, bags=3, accounts=accounts.to_dict()
    )
    assert_close(frames.mmc_bagged(predictions, stakes, target, seed=9, bags=3, accounts=accounts), expected)
    plain = numbers_of(frames.mmc_bagged(predictions, stakes, target, seed=9, bags=3))
    assert any(abs(plain[model] - expected[model]) > 1e-6 for model in names)


def test_mmc_bagged__one_account_of_all_is_always_drawn() -> None:
    """Then every bag is the whole meta model, whatever the seed."""
    predictions, stakes, target = flat_round(15)
    accounts = pd.Series("everybody", index=predictions.columns)
    scores = [
        frames.mmc_bagged(predictions, stakes, target, seed=s, bags=b, accounts=accounts) for s, b in ((1, 1), (2, 20))
    ]
    assert_close(scores[0], scores[1], tolerance=1e-14)
    ids = sorted(target.index)
    meta = naive.at(naive.meta_model(predictions.to_dict(), stakes.to_dict()), ids)
    m, y = naive.uniform(naive.tie_broken_ranks(meta)), naive.at(target.to_dict(), ids)
    for model, score in numbers_of(scores[0]).items():
        u = naive.uniform(naive.tie_broken_ranks(naive.at(predictions[model].to_dict(), ids)))
        assert score == pytest.approx(naive.covariance(naive.residual_on(u, m), y, ddof=1) / 0.0841, abs=1e-12)


def test_mmc_bagged__an_account_without_a_stake_is_not_drawn() -> None:
    """Only accounts of staked models count, in number and in order."""
    p = panel(21, 40)
    stakes = p.stakes.copy()
    accounts = pd.Series({model: f"b{k % 4}" for k, model in enumerate(sorted(stakes.index))})
    idle = sorted(stakes.index)[:2]
    stakes[idle] = 0.0
    accounts[idle] = ["a_first", "c_last"]
    arguments = p.predictions.to_dict(), stakes.to_dict(), p.target.to_dict()
    expected = naive.mmc_bagged(*arguments, seed=12, bags=4, accounts=accounts.to_dict())
    actual = frames.mmc_bagged(p.predictions, stakes, p.target, seed=12, bags=4, accounts=accounts)
    assert_close(actual, expected)
    without = frames.mmc_bagged(
        p.predictions.drop(columns=idle), stakes.drop(idle), p.target, seed=12, bags=4, accounts=accounts.drop(idle)
    )
    result = bits(actual)
    assert bits(without) == {model: result[model] for model in without.index}


def test_mmc_bagged__merging_stakes_into_one_account_changes_scores() -> None:
    """Known from practice: who merges his models is drawn as a whole or not at all."""
    predictions, stakes, target = flat_round(20)
    merged = pd.Series({model: "whale" if k < 10 else model for k, model in enumerate(sorted(predictions))})
    plain = bits(frames.mmc_bagged(predictions, stakes, target, seed=13))
    assert bits(frames.mmc_bagged(predictions, stakes, target, seed=13, accounts=merged)) != plain
