"""Provisional scores: what a round's submissions would score on the targets there are so far. No money, no publication.

The same plan and the same work as a round's that resolves, but for what only money needs: the round need not have
resolved, and nothing is written. The failure guarded against: a number that people take for final, so nothing here
ends in a ledger or under a revision.
"""

from datetime import datetime

import pyarrow as pa

from scoring.errors import NotDueError
from scoring.rounds import Targets
from tasks.checks import refuse_unstaked
from tasks.conclude import Work
from tasks.history import round_dates
from tasks.inputs import RoundInputs, round_folder
from tasks.plan import RoundPlan, RoundRequest, read_plan
from tasks.scores import publish_scores, scores_table, with_true_contribution
from tasks.store import open_store
from tasks.tournament import read_tournament


def plan_provisional(request: RoundRequest) -> RoundPlan:
    """Reads and checks a round that may not have resolved yet.

    Args:
        request: where stakes are chained, `out` tells what is published; else it is not looked at.

    Raises:
        OperatorError: the operator's files are wrong.
        NotDueError: there are no targets yet, nobody has a stake, or chained stakes are not known yet.
    """
    return read_plan(request, _targets_so_far, provisional=True)


def provisional_scores(plan: RoundPlan, work: Work) -> pa.Table:
    """Returns the scores of every model with a stake or a submission, in the columns of the `scores` table."""
    units, _ = with_true_contribution(publish_scores(work.scores), plan.tournament.true_contribution)
    models = {stake.model for stake in plan.inputs.stakes.rows} | {receipt.model for receipt in work.receipts}
    return scores_table(sorted(models), plan.inputs.stakes, units)


def unresolved_rounds(request: RoundRequest, now: datetime) -> list[int]:
    """Returns the rounds that have opened and not resolved, in the order in which they will.

    Raises:
        OperatorError: the tournament or its calendar is wrong.
        StorageError: the store failed.
    """
    data = open_store(request.data)
    dates = round_dates(data, read_tournament(data, request.tournament))
    return [each.number for each in dates if each.opens_at <= now < each.resolves_at]


def _targets_so_far(inputs: RoundInputs) -> Targets:
    number = inputs.round.number
    if inputs.targets is None:
        raise NotDueError(f"round {number}: no scores yet, {round_folder(number)}/targets.parquet is missing")
    refuse_unstaked(inputs)
    return inputs.targets
