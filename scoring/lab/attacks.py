"""Attacks: every way to game a tournament that is known from practice, by the name that an experiment's file uses.

An attack is a function of what the attacker can know of a round; it returns two plays of the same attacker, honest and
attacking, and the lab carries out both by the same rules. Whether it pays is what the lab finds, not what is said here:
each function tells what decides. Where the honest play is to stay away, the whole result of the attack is its gain.

    pair_for_bonus, throttle_pair, meta_model_copy, copy_example,
    spoil_by_copy, invert_burner, merge_accounts, own_meta_model    by a newcomer      (scoring.lab.attacks_newcomer)
    split_models, split_accounts, leave_ids_out, grind_seed,
    harvest_rounding, swap_after_close                              the largest staker (scoring.lab.attacks_staker)

References:
    Known from practice in the tournament and its forum, 2019–2024; docs/lab.md, section 3, says what each does.
"""

from collections.abc import Mapping

from scoring.lab import attacks_newcomer, attacks_staker
from scoring.lab.plays import Attack

PARTS = (2, 3, 5, 10, 20, 50)
"""Into how many models or accounts a stake is split; the lab finds the best between the first and the last."""

ATTEMPTS = tuple(range(1, 9))
"""Seeds that can be tried before a round."""

_NEWCOMER = (
    Attack(
        "pair_for_bonus",
        "p and 1 − p for a bonus",
        "A newcomer stakes half on a random p and half on 1 − p, in two accounts, in place of all on p: he risks "
        "nothing and takes whatever a rule gives to gains but does not take from losses.",
        attacks_newcomer.pair_for_bonus,
    ),
    Attack(
        "throttle_pair",
        "p and 1 − p to throttle the payout factor",
        "A newcomer stakes the total at risk, half on p and half on 1 − p: it costs him nothing and halves what "
        "everybody else is paid wherever the factor counts all that is at risk.",
        attacks_newcomer.throttle_pair,
    ),
    Attack(
        "meta_model_copy",
        "A copy of the meta model as a throttle",
        "A newcomer stakes the total at risk on a copy of the meta model: its MMC is exactly 0, and the payout "
        "factor is halved.",
        attacks_newcomer.meta_model_copy,
    ),
    Attack(
        "copy_example",
        "Copying the example predictions",
        "A newcomer stakes 1 % of the total at risk on the predictions that everybody is given.",
        attacks_newcomer.copy_example,
    ),
    Attack(
        "spoil_by_copy",
        "A copy to spoil another's uniqueness",
        "A newcomer stakes a millionth of the total at risk on a copy of the largest staker's predictions, who is "
        "then like another.",
        attacks_newcomer.spoil_by_copy,
    ),
    Attack(
        "invert_burner",
        "Inverting a large burning staker",
        "A newcomer stakes 1 % of the total at risk on the opposite of the largest staker who has lost so far.",
        attacks_newcomer.invert_burner,
    ),
    Attack(
        "merge_accounts",
        "Merging a stake under bagging",
        "A newcomer stakes the total at risk on the best model of the past, in one account in place of fifty: half "
        "of the bags leave a single account out.",
        attacks_newcomer.merge_accounts,
        choices=(attacks_newcomer.MERGED_ACCOUNTS,),
    ),
    Attack(
        "own_meta_model",
        "A whale who is his own meta model",
        "A newcomer stakes twenty times the total at risk on the best model of the past, in place of 1 % of it: the "
        "meta model is then his.",
        attacks_newcomer.own_meta_model,
    ),
)

_STAKER = (
    Attack(
        "split_models",
        "Splitting a stake into models",
        "The largest staker splits his stake evenly into models of his own account with the same predictions, to stay "
        "below thresholds and caps on a model.",
        attacks_staker.split_models,
        choices=PARTS,
        between=True,
    ),
    Attack(
        "split_accounts",
        "Splitting a stake into accounts",
        "The largest staker splits his stake evenly into models of different accounts with the same predictions, to "
        "stay below thresholds and caps on an account as well.",
        attacks_staker.split_accounts,
        choices=PARTS,
        between=True,
    ),
    Attack(
        "leave_ids_out",
        "Leaving ids out",
        "The largest staker leaves out the tenth of the stocks that he says least about, so that others' weights move "
        "them, in place of staying away; a file that is refused comes to the same.",
        attacks_staker.leave_ids_out,
        choices=(10,),
    ),
    Attack(
        "grind_seed",
        "Grinding the seed of the bags",
        "The largest staker has the round's seed chosen among eight by what each earns him.",
        attacks_staker.grind_seed,
        choices=ATTEMPTS,
        each_round=True,
    ),
    Attack(
        "harvest_rounding",
        "Harvesting rounding",
        "The largest staker cuts off models of ten atoms each, whose burns round to nothing.",
        attacks_staker.harvest_rounding,
        choices=(10, 50),
    ),
    Attack(
        "swap_after_close",
        "Swapping a file after the close",
        "The largest staker hands in the opposite after the close, in the rounds where he knows that his own file will "
        "lose; the late file counts for nothing, but being late may save the stake.",
        attacks_staker.swap_after_close,
        choices=(attacks_staker.KEEPS, attacks_staker.SWAPS),
        each_round=True,
    ),
)

ATTACKS: Mapping[str, Attack] = {attack.name: attack for attack in (*_NEWCOMER, *_STAKER)}
"""All attacks by name, in the order of a report."""
