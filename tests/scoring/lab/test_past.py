"""The past of a round: by hand in fractions, and whatever happens after the close changes nothing."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor

from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.lab.past import Past, PastRound, past_of

CLOSE = datetime(2026, 6, 1, 13, tzinfo=UTC)
DAY = timedelta(days=1)
TICK = timedelta(microseconds=1)
MODELS = ("a", "b", "c", "d", "e")


def told(number: int, resolves_at: datetime, rows: Mapping[str, tuple[int, int, int, str | None]]) -> PastRound:
    """A round in which each model has a score, a rate, a stake and an owner."""
    score, rate, stake, owner = ({model: row[at] for model, row in rows.items()} for at in range(4))
    return PastRound(number, resolves_at - 30 * DAY, resolves_at, score, rate, stake, owner)


def by_hand(closes_at: datetime, rounds: list[PastRound]) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    """Standings of models and of accounts, and rates, from the words of the docs alone."""
    known = [each for each in rounds if each.resolves_at <= closes_at and closes_at - each.resolves_at < 365 * DAY]
    models = {model for each in known for model in each.scores}
    accounts = {owner for each in known for owner in each.accounts.values() if owner is not None}
    standings = {
        model: floor(Fraction(sum(each.scores.get(model, 0) for each in known), len(known))) for model in models
    }
    of_accounts = {}
    for account in accounts:
        total = Fraction(0)
        for each in known:
            own = [model for model in each.scores if each.accounts[model] == account]
            staked = sum(each.stakes[model] for model in own)
            if staked:
                total += Fraction(sum(each.stakes[model] * each.scores[model] for model in own), staked)
        of_accounts[account] = floor(total / len(known))
    there = {model: [each.rates[model] for each in known if model in each.rates] for model in models}
    return standings, of_accounts, {model: floor(Fraction(sum(r), len(r))) for model, r in there.items()}


def parts(past: Past) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    return dict(past.standings.models), dict(past.standings.accounts), dict(past.rates)


rows = st.dictionaries(
    st.sampled_from(MODELS),
    st.tuples(
        st.integers(-(10**12), 10**12),
        st.integers(-(10**12), 10**12),
        st.integers(1, 10**24),
        st.sampled_from(["x", "y", None]),
    ),
)
moments = st.one_of(
    st.integers(-400, 60).map(lambda days: CLOSE + days * DAY),
    st.sampled_from([CLOSE, CLOSE - TICK, CLOSE + TICK, CLOSE - 365 * DAY + TICK, CLOSE - 366 * DAY]),
)
histories = st.lists(st.builds(told, st.integers(0, 300), moments, rows), max_size=7)


@given(histories, st.randoms(use_true_random=False))
@settings(max_examples=150, deadline=None)
def test_past_of__is_the_mean_by_hand_in_whatever_order_rounds_come(rounds: list[PastRound], random: object) -> None:
    expected = by_hand(CLOSE, rounds)
    assert parts(past_of(CLOSE, rounds)) == expected
    shuffled = list(rounds)
    random.shuffle(shuffled)
    assert parts(past_of(CLOSE, shuffled)) == expected


@given(histories, st.data())
@settings(max_examples=150, deadline=None)
def test_past_of__never_looks_ahead(rounds: list[PastRound], data: st.DataObject) -> None:
    """Rounds that resolve after the close may be gone, or have any other content."""
    before = past_of(CLOSE, rounds)
    known = [each for each in rounds if each.resolves_at <= CLOSE]
    assert past_of(CLOSE, known) == before
    others = [
        each if each.resolves_at <= CLOSE else told(each.number, each.resolves_at, data.draw(rows)) for each in rounds
    ]
    assert past_of(CLOSE, [*others, told(999, CLOSE + TICK, data.draw(rows))]) == before


def test_past_of__a_round_that_was_missed_counts_nothing_and_rates_are_of_the_rounds_at_risk() -> None:
    rounds = [
        told(1, CLOSE - 3 * DAY, {"a": (7, 10, 5, "x"), "b": (-7, -10, 15, "x")}),
        told(2, CLOSE - 2 * DAY, {"a": (1, 5, 1, "x")}),
        told(3, CLOSE - 1 * DAY, {"c": (5, 0, 1, None)}),
        told(4, CLOSE + 1 * DAY, {"a": (10**9, 10**9, 1, "x")}),
    ]
    found = past_of(CLOSE, rounds)
    assert found.standings.models == {"a": 2, "b": -3, "c": 1}  # 8/3, −7/3, 5/3, rounded down
    assert found.standings.accounts == {"x": -1}  # (5·7 − 15·7)/20 = −3.5, then 1, then nothing: −2.5/3
    assert found.rates == {"a": 7, "b": -10, "c": 0}


def test_past_of__a_settlement_comes_before_a_close_of_the_same_instant_and_a_year_is_forgotten() -> None:
    one = {"a": (12, 12, 1, "x")}
    assert past_of(CLOSE, [told(1, CLOSE, one)]).rates == {"a": 12}
    assert past_of(CLOSE, [told(1, CLOSE + TICK, one)]).rates == {}
    assert past_of(CLOSE, [told(1, CLOSE - 365 * DAY + TICK, one)]).rates == {"a": 12}
    assert past_of(CLOSE, [told(1, CLOSE - 365 * DAY, one)]).rates == {}


def test_past_of__nobody_knows_anything_before_the_first_round_resolves() -> None:
    assert parts(past_of(CLOSE, [])) == ({}, {}, {})
    empty = told(1, CLOSE - DAY, {})
    assert parts(past_of(CLOSE, [empty])) == ({}, {}, {})
    full = told(2, CLOSE - DAY, {"a": (12, 12, 1, None)})
    assert past_of(CLOSE, [empty, full]).standings.models == {"a": 6}


def test_past_of__an_account_whose_stakes_are_nothing_in_a_round_has_nothing_there() -> None:
    both = told(1, CLOSE - DAY, {"a": (12, 0, 4, "x"), "b": (4, 0, 4, "x")})
    none = replace(both, stakes={"a": 0, "b": 0})
    assert past_of(CLOSE, [both, none]).standings.accounts == {"x": 4}
    assert past_of(CLOSE, [none]).standings.accounts == {}
