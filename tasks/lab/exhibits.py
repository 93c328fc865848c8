"""The exhibits by name, and the variants that each needs.

An exhibit reads what an experiment found and says what it means. The failure guarded against: an experiment that is
computed for minutes and then lacks a variant that its exhibit compares; `NEEDED` is looked at before any work.
"""

from collections.abc import Mapping

from tasks.lab.exhibit import Maker
from tasks.lab.exhibits_conformity_tax import conformity_tax_seed
from tasks.lab.exhibits_drawdown import drawdown_combination
from tasks.lab.exhibits_leave_out import leave_out
from tasks.lab.exhibits_payouts import NEW, OLD, account_weighting_example, payouts_2x1_1x3
from tasks.lab.exhibits_score_stability import score_stability
from tasks.lab.exhibits_stake_influence import stake_influence

EXHIBITS: Mapping[str, Maker] = {
    "conformity_tax_seed": conformity_tax_seed,
    "score_stability": score_stability,
    "stake_influence": stake_influence,
    "leave_out": leave_out,
    "payouts_2x1_1x3": payouts_2x1_1x3,
    "account_weighting_example": account_weighting_example,
    "drawdown_combination": drawdown_combination,
}

NEEDED: Mapping[str, tuple[str, ...]] = {
    "leave_out": ("leave-out-1", "leave-out-3", "leave-out-5"),
    "payouts_2x1_1x3": (NEW, OLD),
}
"""Names of variants beside the baseline."""
