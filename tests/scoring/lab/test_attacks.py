"""Attacks: that a play is what it says it is, and, on a small round, what each does to the money."""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scoring.bags import round_seed
from scoring.lab.attacks import ATTACKS, PARTS
from scoring.lab.attacks_newcomer import MERGED_ACCOUNTS, WHALE
from scoring.lab.attacks_parts import NEWCOMER, SMALL, cut, predictions_of
from scoring.lab.attacks_staker import DUST_ATOMS, KEEPS, SWAPS
from scoring.lab.plays import Ground, Pair, Play
from scoring.ledger import Ledger
from scoring.ranks import rank_vector
from scoring.stakes import Stake, Stakes
from tests.scoring.lab.ground import (
    LARGEST,
    LATE,
    REFUSED,
    UNSTAKED,
    carried_out,
    change_of,
    scores,
    settled,
    small_ground,
    stake_of,
)

NAMES = {
    "pair_for_bonus",
    "throttle_pair",
    "meta_model_copy",
    "split_models",
    "split_accounts",
    "merge_accounts",
    "copy_example",
    "spoil_by_copy",
    "invert_burner",
    "leave_ids_out",
    "own_meta_model",
    "grind_seed",
    "harvest_rounding",
    "swap_after_close",
}
EVERY_PLAY = [(name, choice) for name, attack in ATTACKS.items() for choice in attack.choices]
ABSENT = {"throttle_pair", "meta_model_copy", "copy_example", "spoil_by_copy", "invert_burner"}
"""Where the honest play is to stay away."""


def pair_of(name: str, choice: int | None = None, ground: Ground | None = None) -> Pair:
    attack = ATTACKS[name]
    pair = attack.plays(ground or small_ground(), attack.choices[0] if choice is None else choice)
    assert pair is not None
    return pair


def at_risk(ground: Ground) -> dict[str, int]:
    """The stakes at risk, told by the names of who is not."""
    out = {UNSTAKED, LATE, REFUSED}
    return {row.model: row.atoms for row in ground.stakes.rows if row.model not in out}


def staked(ground: Ground, play: Play) -> int:
    """Atoms of all models of the attacker."""
    rows = ground.stakes.by_model() | {row.model: row for row in play.stakes}
    return sum(rows[model].atoms for model in play.own if model in rows)


def others_of(ground: Ground, pair: Pair, ledger: Ledger) -> int:
    return change_of(ledger, frozenset(row.model for row in ground.stakes.rows) - pair.honest.own - pair.attacking.own)


def ranks_equal(left: np.ndarray, right: np.ndarray) -> bool:
    return bool(np.array_equal(rank_vector(left).doubled, rank_vector(right).doubled))


def original(ground: Ground, model: str) -> np.ndarray:
    return ground.ranks.doubled[ground.ranks.models.index(model)].astype(np.float64)


# What holds of every play


def test_attacks__are_all_there_and_named_as_they_are_asked_for() -> None:
    assert set(ATTACKS) == NAMES
    assert all(name == attack.name and attack.title and attack.how.endswith(".") for name, attack in ATTACKS.items())


@pytest.mark.parametrize(("name", "choice"), EVERY_PLAY)
def test_attacks__give_the_same_plays_again(name: str, choice: int) -> None:
    first, second = pair_of(name, choice), pair_of(name, choice)
    for one, other in ((first.honest, second.honest), (first.attacking, second.attacking)):
        assert (one.own, one.stakes, one.withdrawn, one.seed) == (other.own, other.stakes, other.withdrawn, other.seed)
        assert {name: each.tobytes() for name, each in one.uploads.items()} == {
            name: each.tobytes() for name, each in other.uploads.items()
        }


@pytest.mark.parametrize(("name", "choice"), EVERY_PLAY)
def test_attacks__hand_in_what_can_be_handed_in(name: str, choice: int) -> None:
    ground, pair = small_ground(), pair_of(name, choice)
    for play in (pair.honest, pair.attacking):
        Stakes(play.stakes)  # sorted, each model once
        assert {row.model for row in play.stakes} | play.uploads.keys() | play.withdrawn <= play.own
        for predictions in play.uploads.values():
            assert (predictions.dtype, predictions.shape) == (np.float64, (ground.ranks.stocks,))
            there = predictions[~np.isnan(predictions)]
            assert ((there > 0) & (there < 1)).all()
            assert name == "leave_ids_out" or there.size == predictions.size


@pytest.mark.parametrize(("name", "choice"), EVERY_PLAY)
def test_attacks__add_models_only_with_stake_and_predictions(name: str, choice: int) -> None:
    known = {row.model for row in small_ground().stakes.rows}
    pair = pair_of(name, choice)
    for play in (pair.honest, pair.attacking):
        added = {row.model for row in play.stakes if row.atoms > 0} - known
        assert added == play.uploads.keys() - known == play.own - known


@pytest.mark.parametrize(("name", "choice"), EVERY_PLAY)
def test_attacks__risk_the_same_capital_as_the_honest_play(name: str, choice: int) -> None:
    ground, pair = small_ground(), pair_of(name, choice)
    honest, attacking = staked(ground, pair.honest), staked(ground, pair.attacking)
    if name == "leave_ids_out":
        assert (pair.honest.withdrawn, pair.attacking.stakes) == ({LARGEST}, ())
    elif name in ABSENT:
        assert pair.honest == Play()
        assert attacking > 0
    elif name == "own_meta_model":
        assert (honest, attacking) == (sum(at_risk(ground).values()) // 100, 20 * sum(at_risk(ground).values()))
    else:
        assert honest == attacking > 0


@pytest.mark.parametrize(("name", "choice"), EVERY_PLAY)
def test_attacks__take_no_name_that_somebody_has(name: str, choice: int) -> None:
    ground = small_ground()
    taken = Stake(f"{NEWCOMER}_002", NEWCOMER, 5)
    crowded = replace(ground, stakes=Stakes((taken, *ground.stakes.rows)))
    attacking = pair_of(name, choice, crowded).attacking
    assert taken.model not in attacking.own
    assert all(row.account != taken.account for row in attacking.stakes)


@pytest.mark.parametrize(("name", "choice"), EVERY_PLAY)
def test_attacks__find_no_occasion_where_nothing_is_at_risk(name: str, choice: int) -> None:
    ground = small_ground()
    rows = tuple(replace(row, late=True) for row in ground.stakes.rows)
    assert ATTACKS[name].plays(replace(ground, stakes=Stakes(rows)), choice) is None


@pytest.mark.parametrize("name", ["merge_accounts", "own_meta_model", "invert_burner"])
def test_attacks__that_need_a_past_find_no_occasion_without_one(name: str) -> None:
    attack = ATTACKS[name]
    assert attack.plays(replace(small_ground(), past_rate={}), attack.choices[0]) is None


@pytest.mark.parametrize("name", ["split_models", "split_accounts", "leave_ids_out", "swap_after_close"])
def test_attacks__of_the_largest_staker_are_of_who_is_really_at_risk(name: str) -> None:
    """A late and a refused model have more at stake; the refused one is in his account, as is one more."""
    pair = pair_of(name, ATTACKS[name].choices[-1])
    assert pair.honest.own == {LARGEST, "model_01", REFUSED}
    assert LARGEST in {row.model for row in pair.attacking.stakes} | pair.attacking.uploads.keys()


@settings(deadline=None)
@given(st.integers(0, 10**27), st.integers(1, 60))
def test_cut__sums_to_the_whole_in_parts_that_differ_by_one_atom(atoms: int, parts: int) -> None:
    found = cut(atoms, parts)
    assert (sum(found), len(found)) == (atoms, parts)
    assert max(found) - min(found) <= 1


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=40).filter(lambda values: len(set(values)) > 1))
def test_predictions_of__an_opposite_has_the_mirrored_ranks(values: list[int]) -> None:
    doubled = rank_vector(np.array(values, dtype=np.float64)).doubled[0]
    straight, turned = predictions_of(doubled), predictions_of(doubled, turned=True)
    assert np.array_equal(rank_vector(straight).doubled[0], doubled)
    assert np.array_equal(rank_vector(turned).doubled[0].astype(int), 2 * len(values) + 2 - doubled.astype(int))


# Newcomers


@pytest.mark.parametrize("name", ["pair_for_bonus", "throttle_pair"])
def test_pair__is_two_accounts_whose_scores_cancel_to_the_last_bit(name: str) -> None:
    ground, pair = small_ground(), pair_of(name)
    first, second = sorted(pair.attacking.own)
    found = scores(ground, pair.attacking)
    assert found[first] == {key: -value for key, value in found[second].items()}
    assert len({row.account for row in pair.attacking.stakes}) == 2


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_pair_for_bonus__gains_nothing_where_gains_are_as_large_as_losses(seed: int) -> None:
    """Half the stake on each, rounded toward zero: what is left over is an odd atom of stake."""
    ground = small_ground(seed)
    pair = pair_of("pair_for_bonus", ground=ground)
    assert abs(change_of(settled(ground, pair.attacking), pair.attacking.own)) <= 1


def test_pair_for_bonus__stakes_one_part_in_a_hundred_honestly_on_the_same_p() -> None:
    ground, pair = small_ground(), pair_of("pair_for_bonus")
    assert staked(ground, pair.honest) == sum(at_risk(ground).values()) // SMALL
    (model,) = pair.honest.own
    assert np.array_equal(pair.honest.uploads[model], pair.attacking.uploads[model])


def test_throttle_pair__halves_what_everybody_else_is_paid_and_costs_nothing() -> None:
    ground, pair = small_ground(), pair_of("throttle_pair")
    threshold = Decimal(sum(at_risk(ground).values())).scaleb(-18)
    before, after = settled(ground, Play(), threshold), settled(ground, pair.attacking, threshold)
    everybody = frozenset(at_risk(ground))
    assert (before.rows[0].factor, after.rows[0].factor) == (10**18, 10**18 // 2)
    assert abs(change_of(after, pair.attacking.own)) <= 1
    moved = {row.model: row.payout - row.burn for row in before.rows}
    for row in after.rows:
        if row.model in everybody:
            assert abs(2 * (row.payout - row.burn) - moved[row.model]) <= abs(moved[row.model]) * 1e-6


def test_throttle_pair__leaves_the_meta_model_as_it_was() -> None:
    ground, pair = small_ground(), pair_of("throttle_pair")
    without, beside = scores(ground, Play()), scores(ground, pair.attacking)
    assert all(abs(beside[name][key] - value) <= 1 for name in without for key, value in without[name].items())


def test_meta_model_copy__has_an_mmc_of_exactly_0() -> None:
    ground, pair = small_ground(), pair_of("meta_model_copy")
    (model,) = pair.attacking.own
    assert scores(ground, pair.attacking)[model]["mmc"] == 0
    assert staked(ground, pair.attacking) == sum(at_risk(ground).values())


@pytest.mark.parametrize("broken", [np.nan, 0.0])
def test_meta_model_copy__needs_a_meta_model_that_ranks_something(broken: float) -> None:
    ground = small_ground()
    nothing = np.full(ground.ranks.stocks, broken)
    assert ATTACKS["meta_model_copy"].plays(replace(ground, meta_model=nothing), 1) is None
    assert ATTACKS["copy_example"].plays(replace(ground, example=nothing), 1) is None


def test_copy_example__ranks_as_the_example_does() -> None:
    ground, pair = small_ground(), pair_of("copy_example")
    (predictions,) = pair.attacking.uploads.values()
    assert ranks_equal(predictions, ground.example)


def test_spoil_by_copy__is_the_largest_stakers_submission_with_next_to_no_stake() -> None:
    ground, pair = small_ground(), pair_of("spoil_by_copy")
    rival = max(at_risk(ground), key=lambda model: (at_risk(ground)[model], model))
    (predictions,) = pair.attacking.uploads.values()
    assert ranks_equal(predictions, original(ground, rival))
    assert staked(ground, pair.attacking) == sum(at_risk(ground).values()) // 1_000_000


def test_invert_burner__scores_the_negative_of_the_largest_staker_who_lost() -> None:
    ground, pair = small_ground(), pair_of("invert_burner")
    losing = {model: atoms for model, atoms in at_risk(ground).items() if ground.past_rate.get(model, 0) < 0}
    burner = max(losing, key=lambda model: losing[model])
    (model,) = pair.attacking.own
    found = scores(ground, pair.attacking)
    assert found[model] == {key: -value for key, value in found[burner].items()}


def test_merge_accounts__is_half_of_all_at_risk_from_fifty_accounts_or_from_one() -> None:
    ground, pair = small_ground(), pair_of("merge_accounts")
    assert len({row.account for row in pair.honest.stakes}) == len(pair.honest.own) == MERGED_ACCOUNTS
    assert len(pair.attacking.own) == 1
    assert staked(ground, pair.attacking) == sum(at_risk(ground).values())
    best = "model_11"  # the past is better the higher the number
    for play in (pair.honest, pair.attacking):
        assert all(ranks_equal(each, original(ground, best)) for each in play.uploads.values())


def test_merge_accounts__makes_no_difference_under_one_full_meta_model() -> None:
    ground, pair = small_ground(), pair_of("merge_accounts")
    gain = change_of(settled(ground, pair.attacking), pair.attacking.own)
    gain -= change_of(settled(ground, pair.honest), pair.honest.own)
    assert abs(gain) <= staked(ground, pair.honest) * 1e-9


def test_own_meta_model__makes_his_own_contribution_vanish() -> None:
    ground, pair = small_ground(), pair_of("own_meta_model")
    (model,) = pair.attacking.own
    ours, honest = scores(ground, pair.attacking)[model], scores(ground, pair.honest)[model]
    assert abs(ours["mmc"]) < abs(honest["mmc"]) / 5
    assert staked(ground, pair.attacking) == WHALE * sum(at_risk(ground).values())


def test_newcomers__choose_multipliers_that_are_on_offer() -> None:
    ground = small_ground()
    chosen: Mapping[str, Decimal] = {"corr": Decimal(1), "tc": Decimal(2)}
    rows = tuple(replace(row, multipliers=chosen) for row in ground.stakes.rows)
    pair = pair_of("copy_example", ground=replace(ground, stakes=Stakes(rows)))
    assert [row.multipliers for row in pair.attacking.stakes] == [chosen]


# The largest staker


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("name", ["split_models", "split_accounts"])
def test_split__is_the_same_stake_and_prediction_in_parts(name: str, parts: int) -> None:
    ground, pair = small_ground(), pair_of(name, parts)
    whole, rows = stake_of(ground, LARGEST), pair.attacking.stakes
    assert (len(rows), sum(row.atoms for row in rows)) == (parts, whole.atoms)
    assert max(row.atoms for row in rows) - min(row.atoms for row in rows) <= 1
    assert len({row.account for row in rows}) == (1 if name == "split_models" else parts)
    assert stake_of(ground, LARGEST).account in {row.account for row in rows}
    assert all(ranks_equal(each, original(ground, LARGEST)) for each in pair.attacking.uploads.values())
    assert len(pair.attacking.uploads) == parts - 1


@pytest.mark.parametrize("name", ["split_models", "split_accounts"])
def test_split__moves_only_odd_atoms_where_payouts_are_linear(name: str) -> None:
    ground, pair = small_ground(), pair_of(name, 20)
    before, after = settled(ground, pair.honest), settled(ground, pair.attacking)
    gain = change_of(after, pair.attacking.own) - change_of(before, pair.honest.own)
    assert abs(gain) <= 20 + staked(ground, pair.honest) * 1e-9
    assert abs(others_of(ground, pair, after) - others_of(ground, pair, before)) <= staked(ground, pair.honest) * 1e-9


def test_split_models__opens_an_account_for_who_has_none_whether_he_splits_or_not() -> None:
    ground = small_ground()
    rows = tuple(replace(row, account=None) for row in ground.stakes.rows)
    pair = pair_of("split_models", 3, replace(ground, stakes=Stakes(rows)))
    accounts = {row.account for play in (pair.honest, pair.attacking) for row in play.stakes}
    assert accounts == {NEWCOMER}
    assert pair.honest.own == {LARGEST}


@pytest.mark.parametrize("name", ["split_models", "split_accounts", "harvest_rounding"])
def test_split__cuts_a_chained_balance_as_it_cuts_the_stake(name: str) -> None:
    ground = small_ground()
    rows = tuple(replace(row, balance=row.atoms // 2 + 1) for row in ground.stakes.rows)
    pair = pair_of(name, 10, replace(ground, stakes=Stakes(rows)))
    assert sum(row.before for row in pair.attacking.stakes) == stake_of(ground, LARGEST).atoms // 2 + 1


@pytest.mark.parametrize("seed", range(6))
def test_harvest_rounding__moves_less_than_an_atom_a_model(seed: int) -> None:
    """With his stake, and so everybody's scores, as it is: the meta model moves by less than a published decimal."""
    ground = small_ground(seed)
    pair = pair_of("harvest_rounding", 50, ground)
    before, after = settled(ground, pair.honest), settled(ground, pair.attacking)
    gain = change_of(after, pair.attacking.own) - change_of(before, pair.honest.own)
    assert abs(gain) <= 50 + 1
    tiny = [row for row in after.rows if row.model in pair.attacking.uploads]
    assert [row.at_risk for row in tiny] == [DUST_ATOMS] * 50
    rate = Fraction(tiny[0].clipped_rate or 0, 10**36)
    assert all(row.payout - row.burn == int(DUST_ATOMS * rate) for row in tiny)


def test_leave_ids_out__leaves_out_the_middle_of_his_prediction() -> None:
    ground = small_ground()
    (given_in,) = pair_of("leave_ids_out", 10).attacking.uploads.values()
    left_out = np.isnan(given_in)
    distance = np.abs(original(ground, LARGEST) - (ground.ranks.stocks + 1))
    assert left_out.sum() == ground.ranks.stocks // 10
    assert distance[left_out].max() <= distance[~left_out].min()


def test_leave_ids_out__moves_nobody_where_it_is_refused() -> None:
    ground, pair = small_ground(), pair_of("leave_ids_out")
    assert LARGEST not in carried_out(ground, pair.attacking)[0].models
    assert scores(ground, pair.attacking) == scores(ground, pair.honest)
    gain = change_of(settled(ground, pair.attacking), pair.attacking.own)
    assert gain == change_of(settled(ground, pair.honest), pair.honest.own)


def test_grind_seed__tries_seeds_that_differ_from_the_rounds_and_from_each_other() -> None:
    ground, attack = small_ground(), ATTACKS["grind_seed"]
    seeds = [pair_of("grind_seed", attempt).attacking.seed for attempt in attack.choices]
    assert seeds == [round_seed(str(ground.seed), attempt) for attempt in attack.choices]
    assert len({*seeds, ground.seed}) == len(attack.choices) + 1
    assert attack.each_round


def test_swap_after_close__puts_his_stake_out_of_risk_and_gains_only_what_he_would_have_burned() -> None:
    ground, pair = small_ground(), pair_of("swap_after_close", SWAPS)
    (row,) = pair.attacking.stakes
    assert (row.model, row.late, row.atoms) == (LARGEST, True, stake_of(ground, LARGEST).atoms)
    his = frozenset({LARGEST})
    assert change_of(settled(ground, pair.attacking), his) == 0
    (given_in,) = pair.attacking.uploads.values()
    assert ranks_equal(given_in, -original(ground, LARGEST))


def test_swap_after_close__may_also_be_left_undone() -> None:
    pair = pair_of("swap_after_close", KEEPS)
    assert pair.attacking == pair.honest
