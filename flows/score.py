"""The flow of provisional scores: a round on the targets there are so far. No money, nothing is published."""

from pathlib import Path

import pyarrow as pa
from prefect import flow

from flows.artifacts import ShownProgress, show_table
from flows.resolve import STAGES, carry_out
from flows.runtime import UnitRunner
from tasks.plan import RoundRequest
from tasks.provisional import plan_provisional, provisional_scores


@flow(
    name="score",
    flow_run_name="score round {round}",
    task_runner=UnitRunner(),  # type: ignore[arg-type]  # Prefect types the runner by its futures, invariantly
    validate_parameters=False,
    persist_result=False,
)
def score(data: str, out: str | None, round: int, tournament: str | None = None) -> pa.Table:
    """Scores one round; within an open session.

    Args:
        data: directory or URL of the tournament.
        out: directory or URL of what is published, for chained stakes; None where there is nothing yet.
        round: number of the round.
        tournament: a file to use in place of the data's `tournament.toml`.

    Returns:
        A row a model, in the columns of the `scores` table.
    """
    return score_provisionally(RoundRequest(data, out or data, round, None if tournament is None else Path(tournament)))


def score_provisionally(request: RoundRequest) -> pa.Table:
    """Scores one round and leaves the table in Prefect; called within a flow and an open session.

    Raises:
        OperatorError: the operator's files are wrong.
        NotDueError: there are no targets yet, nobody has a stake, or chained stakes are not known yet.
    """
    plan = plan_provisional(request)
    work = carry_out(plan, ShownProgress(f"round {request.round} progress", STAGES - 1))
    scores = provisional_scores(plan, work)
    show_table(f"round {request.round} provisional", scores.to_pylist(), "provisional, no money")
    return scores
