"""The chain of balances, against each balance added up from scratch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.chain import Balances, Chain, RoundDates, Transfer
from scoring.errors import OperatorError
from scoring.stakes import Stake, Stakes

START = datetime(2026, 1, 5, 13, tzinfo=UTC)
MODELS = "abc"


def at(hours: float) -> datetime:
    return START + timedelta(hours=hours)


def dates(number: int, closes: float, resolves: float) -> RoundDates:
    return RoundDates(at(resolves), number, at(closes), at(closes - 1))


def deposit(hours: float, atoms: int, model: str = "a") -> Transfer:
    return Transfer(at(hours), model, atoms)


@dataclass
class Naive:
    """Every balance is added up anew from all that happened before it; at one instant a settlement is first, then the
    transfers, then the closes.
    """

    rounds: Sequence[RoundDates]
    transfers: Sequence[Transfer]
    changes: dict[int, Mapping[str, int]] = field(default_factory=dict)

    def at_close(self, number: int) -> dict[str, int]:
        close = next(each.closes_at for each in self.rounds if each.number == number)
        settled = [each.number for each in self.rounds if each.resolves_at <= close]
        return self._sum(settled, [each for each in self.transfers if each.at <= close])

    def before(self, number: int) -> dict[str, int]:
        own = next(each for each in self.rounds if each.number == number)
        key = (own.resolves_at, own.number)
        settled = [each.number for each in self.rounds if (each.resolves_at, each.number) < key]
        return self._sum(settled, [each for each in self.transfers if each.at < own.resolves_at])

    def overdrawn(self, until: datetime | None) -> bool:
        """Whether a withdrawal before a moment (None: ever) takes more than there is."""
        for row, each in enumerate(self.transfers):
            if until is not None and each.at >= until:
                continue
            settled = [one.number for one in self.rounds if one.resolves_at <= each.at]
            earlier = [other for other in self.transfers if other.at < each.at]
            earlier += [other for other in self.transfers[: row + 1] if other.at == each.at]
            if self._sum(settled, earlier)[each.model] < 0:
                return True
        return False

    def _sum(self, settled: Sequence[int], transfers: Sequence[Transfer]) -> dict[str, int]:
        return {
            model: sum(each.atoms for each in transfers if each.model == model)
            + sum(self.changes[number].get(model, 0) for number in settled)
            for model in MODELS
        }


def nonzero(balances: Mapping[str, int]) -> dict[str, int]:
    return {model: atoms for model, atoms in balances.items() if atoms}


# Few distinct hours: settlements, transfers and closes often meet at one instant.
HOURS = st.integers(0, 12)
CALENDARS = st.lists(st.tuples(HOURS, st.integers(1, 8)), min_size=1, max_size=6)
TRANSFERS = st.lists(st.tuples(HOURS, st.sampled_from(MODELS), st.integers(-5, 60)), max_size=12)
SHARES = st.lists(st.tuples(*[st.fractions(-1, 1, max_denominator=7)] * len(MODELS)), min_size=6, max_size=6)


@settings(max_examples=400, deadline=None)
@given(calendar=CALENDARS, transfers=TRANSFERS, shares=SHARES, order=st.randoms(use_true_random=False))
def test_chain__every_balance_is_what_adding_up_from_scratch_gives(calendar, transfers, shares, order):
    rounds = [dates(number, closes, closes + length) for number, (closes, length) in enumerate(calendar, 1)]
    moves = [Transfer(at(hour), model, atoms) for hour, model, atoms in transfers]
    naive, resolve_order = Naive(rounds, moves), sorted(rounds)
    untils = [*(each.resolves_at for each in resolve_order), None]
    shuffled = rounds[:]
    order.shuffle(shuffled)
    if naive.overdrawn(untils[0]):
        with pytest.raises(OperatorError, match="more than its balance"):
            Chain(shuffled, moves)
        return
    chain = Chain(shuffled, moves)
    for own, until, share in zip(resolve_order, untils[1:], shares, strict=False):
        assert chain.next_round == own.number
        before = naive.before(own.number)
        assert nonzero(chain.balances) == nonzero(before)
        assert nonzero(chain.at_close(own.number) or {}) == nonzero(naive.at_close(own.number))
        naive.changes[own.number] = {
            model: int(before[model] * each) for model, each in zip(before, share, strict=True)
        }
        if naive.overdrawn(until):
            with pytest.raises(OperatorError, match="more than its balance"):
                chain.settle(own.number, naive.changes[own.number])
            return
        chain.settle(own.number, naive.changes[own.number])
    assert chain.next_round is None


def test_chain__knows_what_is_at_risk_as_soon_as_all_before_the_close_have_settled() -> None:
    chain = Chain([dates(1, 0, 10), dates(2, 5, 15), dates(3, 10, 20)], [deposit(0, 100)])
    assert [chain.at_close(number) for number in (1, 2, 3)] == [{"a": 100}, {"a": 100}, None]
    chain.settle(1, {"a": 7})
    assert chain.at_close(3) == {"a": 107}


def test_chain__at_one_instant_settles_then_transfers_then_closes() -> None:
    chain = Chain([dates(1, 0, 10), dates(2, 10, 20)], [deposit(0, 100), deposit(10, 5)])
    assert chain.balances == {"a": 100}  # not the deposit of the instant at which round 1 settles
    chain.settle(1, {"a": 1})
    assert chain.at_close(2) == {"a": 106}


def test_chain__rounds_of_one_instant_settle_by_number() -> None:
    chain = Chain([dates(12, 1, 10), dates(9, 2, 10), dates(10, 3, 10)], [deposit(0, 8)])
    seen = []
    while (number := chain.next_round) is not None:
        seen.append((number, chain.balances["a"]))
        chain.settle(number, {"a": -1})
    assert seen == [(9, 8), (10, 7), (12, 6)]


def test_chain__transfers_of_one_instant_count_in_their_order() -> None:
    assert Chain([dates(1, 2, 3)], [deposit(1, 5), deposit(1, -5)]).at_close(1) == {"a": 0}
    with pytest.raises(OperatorError):
        Chain([dates(1, 2, 3)], [deposit(1, -5), deposit(1, 5)])


@pytest.mark.parametrize("withdrawn", [101, 10**30])
def test_chain__names_the_withdrawal_that_exceeds_its_balance(withdrawn: int) -> None:
    with pytest.raises(OperatorError) as caught:
        Chain([dates(1, 2, 3)], [deposit(0, 100), deposit(1, -withdrawn)])
    message = str(caught.value)
    for part in ("model a", at(1).isoformat(), str(withdrawn), "balance of 100"):
        assert part in message


def test_chain__a_withdrawal_of_money_that_is_only_paid_later_is_refused_when_it_is_known() -> None:
    rounds, moves = [dates(1, 0, 10)], [deposit(0, 100), deposit(11, -105)]
    Chain(rounds, moves).settle(1, {"a": 5})
    with pytest.raises(OperatorError, match="more than its balance of 104"):
        Chain(rounds, moves).settle(1, {"a": 4})


def test_chain__a_burn_above_the_balance_is_refused() -> None:
    chain = Chain([dates(1, 0, 10)], [deposit(0, 100), deposit(5, -60)])
    with pytest.raises(OperatorError, match="round 1 burns 41 atoms, more than its balance of 40"):
        chain.settle(1, {"a": -41})


@pytest.mark.parametrize("number", [2, 3, 99])
def test_chain__settles_in_no_other_order(number: int) -> None:
    chain = Chain([dates(1, 0, 10), dates(2, 1, 11), dates(3, 2, 12)], [deposit(0, 100)])
    with pytest.raises(ValueError, match=f"round 1 settles next, not round {number}"):
        chain.settle(number, {})
    assert (chain.next_round, chain.balances) == (1, {"a": 100})


def test_chain__a_round_that_closes_when_it_resolves_has_nothing_at_risk_to_settle_and_is_refused() -> None:
    """At one instant a settlement comes before a close: such a round would settle before it has closed."""
    with pytest.raises(OperatorError, match="round 1"):
        Chain([dates(1, 10, 10)], [deposit(0, 100)])


def test_chain__what_is_returned_is_a_copy() -> None:
    chain = Chain([dates(1, 0, 10), dates(2, 1, 11)], [deposit(0, 100)])
    balances = chain.balances
    chain.settle(1, {"a": 1})
    assert (balances["a"], chain.balances["a"]) == (100, 101)


def test_applied__puts_balances_in_place_of_stakes_and_leaves_the_rest() -> None:
    stakes = Stakes((Stake("a", "x", 1, late=True), Stake("b", "y", 2), Stake("c", None, 3)))
    found = Balances({"a": 10, "b": 20}, {"a": 11, "z": 5}).applied(stakes)
    assert [(row.model, row.account, row.atoms, row.before, row.late) for row in found.rows] == [
        ("a", "x", 10, 11, True),
        ("b", "y", 20, 0, False),
        ("c", None, 0, 0, False),
    ]


def test_applied__before_is_what_was_at_risk_as_long_as_nothing_else_is_known() -> None:
    (row,) = Balances({"a": 10}).applied(Stakes((Stake("a", None, 1),))).rows
    assert (row.atoms, row.balance, row.before) == (10, None, 10)
