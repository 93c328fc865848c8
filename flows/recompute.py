"""The flow of a second run: a published round computed again, to be compared with what is published.

It is `resolve`, stage by stage, but for what a solver found: where that agrees with the published solution, the second
run goes on with the published one, so that everything else can be compared to the bit.
"""

from datetime import UTC, datetime

from prefect import flow

from flows.artifacts import ShownProgress
from flows.resolve import STAGES, carry_out
from flows.runtime import UnitRunner
from scoring.errors import ConflictError
from scoring.true_contribution import TrueContribution
from tasks.conclude import conclude
from tasks.plan import AlreadyPublished, RoundRequest, plan_round


@flow(
    name="recompute",
    flow_run_name="recompute round {request.round}",
    task_runner=UnitRunner(),  # type: ignore[arg-type]  # Prefect types the runner by its futures, invariantly
    validate_parameters=False,
    persist_result=False,
)
def recompute(request: RoundRequest, published: TrueContribution | None) -> TrueContribution | None:
    """Resolves a round again into a place of its own.

    Args:
        request: the round, and where nothing of it is published yet.
        published: the solution in force; None where the round has no True Contribution.

    Returns:
        What the run's own solver found.

    Raises:
        ConflictError: the place holds the round already.
    """
    plan = plan_round(request, datetime.now(UTC))
    if isinstance(plan, AlreadyPublished):
        raise ConflictError(f"{request.out}: round {request.round} is published there; give another place")
    shown = ShownProgress(f"round {request.round} again", STAGES, f"stages of round {request.round}, computed again")
    work = carry_out(plan, shown, published)
    conclude(plan, work)
    shown.step()
    return work.solved
