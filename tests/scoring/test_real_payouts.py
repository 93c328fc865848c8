"""Money that was really paid: 53 244 payouts of 2020-2022 against the built-in rulebook."""

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction

import pandas as pd
import pytest

from scoring.payouts import FACTOR_ONE, Settlement, payout_factor, settle_stake
from scoring.published import score_units
from scoring.rulebook import Rules, builtin
from tests.scoring.shared_data import shared_file

DECIMALS = 18
ATOMS = 10**DECIMALS
COLUMNS = {"corr_tie_broken": "corr", "mmc_bagged": "mmc", "tc": "tc"}
THE_EXCEPTION = (312, "m01827")
COMPLETE_ROUNDS = range(205, 263)


@pytest.fixture(scope="module")
def payouts() -> pd.DataFrame:
    return pd.read_parquet(shared_file("real_payouts.parquet"))


def exact_units(number: float, per_unit: int) -> int:
    """Returns the whole number of units nearest to a double."""
    return round(Fraction(number) * per_unit)


def chosen_multipliers(row) -> dict[str, Decimal]:
    found = {key: Decimal(str(getattr(row, f"{column}_multiplier"))) for key, column in COLUMNS.items()}
    return {key: value for key, value in found.items() if value}


def settle(row, rules: Rules) -> Settlement:
    multipliers = rules.multipliers(chosen_multipliers(row))
    scores = {key: score_units(getattr(row, COLUMNS[key])) for key, value in multipliers.items() if value}
    factor = exact_units(row.payout_factor, FACTOR_ONE)
    return settle_stake(exact_units(row.stake, ATOMS), scores, multipliers, factor, rules)


def error_atoms(row, rules: Rules) -> int:
    settled = settle(row, rules)
    return abs(settled.payout_atoms - settled.burn_atoms - exact_units(row.payout, ATOMS))


def matches(row, rules: Rules) -> bool:
    return error_atoms(row, rules) <= max(exact_units(row.stake, ATOMS) // 10**8, 1)


def clipped_rows(payouts: pd.DataFrame) -> Iterator[tuple]:
    """Yields the rows of rounds 311-315 that the clip touches: only they tell the order of clip and factor."""
    for row in payouts[payouts["round"] >= 311].itertuples():
        if abs(row.corr_multiplier * row.corr + row.tc_multiplier * row.tc) >= 0.25:
            yield row


def test_settle_stake__repays_every_real_payout_but_one(payouts):
    book = builtin()
    missed = [(row.round, row.model) for row in payouts.itertuples() if not matches(row, book.at(row.round))]
    assert len(payouts) == 53_244
    assert missed == [THE_EXCEPTION]


def test_refusal__every_real_choice_of_multipliers_is_on_offer(payouts):
    book = builtin()
    choices = payouts.drop_duplicates(["round", "corr_multiplier", "mmc_multiplier", "tc_multiplier"])
    assert not [
        refusal for row in choices.itertuples() if (refusal := book.at(row.round).refusal(chosen_multipliers(row)))
    ]


def test_settle_stake__rounds_311_to_315_clip_before_the_factor(payouts):
    clip_first, factor_first = builtin().at(311), builtin().at(316)
    assert (clip_first.order, factor_first.order) == ("clip_first", "factor_first")
    rows = list(clipped_rows(payouts))
    assert len(rows) == 9
    assert all(matches(row, clip_first) for row in rows)
    assert not any(matches(row, factor_first) for row in rows)


def test_payout_factor__is_that_of_every_complete_real_round(payouts):
    rounds = payouts[payouts["round"].isin(COMPLETE_ROUNDS)].groupby("round")
    assert len(rounds) == 38
    for number, rows in rounds:
        total = sum(exact_units(stake, ATOMS) for stake in rows["stake"])
        factor = payout_factor(total, builtin().at(number), DECIMALS)
        assert factor / FACTOR_ONE == pytest.approx(rows["payout_factor"].iloc[0], abs=1e-7), number
