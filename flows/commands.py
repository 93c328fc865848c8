"""The commands on rounds: thin, each asks `tasks` or a flow for the work and prints what came back.

Heavy imports happen inside the commands, so that `stakeweight --help` answers at once, and nothing is started where a
mistake, or an earlier run, leaves nothing to do.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.options import (
    AsJson,
    Cluster,
    Data,
    Gpu,
    Number,
    Out,
    Published,
    Revise,
    Rounds,
    Scheduler,
    TournamentFile,
    Workers,
    settings_of,
)
from scoring.errors import ConflictError

if TYPE_CHECKING:
    from infra.settings import Settings
    from tasks.conclude import Resolution
    from tasks.plan import RoundRequest


def demo(
    directory: Annotated[Path, typer.Argument(help="Where to put the tournament (data) and what is published (out).")],
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Make a seeded synthetic tournament and resolve its first round."""
    from flows.render import print_resolution
    from tasks.plan import RoundRequest
    from tasks.synthetic import DEMO, write_demo

    request = RoundRequest(str(write_demo(directory)), str(directory / "out"), DEMO.first_round)
    print_resolution(_resolve(request, settings_of(workers=workers)), as_json=as_json)


def resolve(
    data: Data,
    out: Out,
    number: Number,
    tournament: TournamentFile = None,
    revise: Revise = False,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    workers: Workers = None,
    gpu: Gpu = False,
    as_json: AsJson = False,
) -> None:
    """Score one round and publish its ledger."""
    from flows.render import print_resolution
    from tasks.plan import RoundRequest

    request = RoundRequest(data, out, number, tournament, revise)
    settings = settings_of(scheduler=scheduler, cluster=cluster, workers=workers, gpu=gpu)
    print_resolution(_resolve(request, settings), as_json=as_json)


def backfill(
    data: Data,
    out: Out,
    rounds: Rounds = None,
    tournament: TournamentFile = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    workers: Workers = None,
    gpu: Gpu = False,
    as_json: AsJson = False,
) -> None:
    """Score and publish every round that is due and not published; verify the others by hash."""
    from flows.render_backfill import print_report
    from tasks.backfill import Backfill, BackfillRequest, read_range
    from tasks.backfill_report import BackfillError, BackfillReport

    settings = settings_of(scheduler=scheduler, cluster=cluster, workers=workers, gpu=gpu)
    report = BackfillReport(())
    # A mistake in the calendar or the transfers, or that nothing is due, is told before anything is started.
    if Backfill(BackfillRequest(data, out, read_range(rounds), tournament), datetime.now(UTC)).remaining:
        from flows.backfill import backfill as flow
        from flows.session import open_session

        try:
            with open_session(settings):
                report = flow(data, out, rounds, None if tournament is None else str(tournament))
        except BackfillError as error:
            report = error.report
    print_report(report, as_json=as_json)
    if report.exit_code:
        raise typer.Exit(report.exit_code)


def score(
    data: Data,
    number: Number,
    out: Annotated[str | None, typer.Option(help="What is published; chained stakes follow from it.")] = None,
    tournament: TournamentFile = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    workers: Workers = None,
    gpu: Gpu = False,
    as_json: AsJson = False,
) -> None:
    """Show provisional scores of a round on the targets there are so far; no money, nothing is published."""
    from flows.render_scores import print_scores
    from tasks.plan import RoundRequest
    from tasks.provisional import plan_provisional

    settings = settings_of(scheduler=scheduler, cluster=cluster, workers=workers, gpu=gpu)
    plan_provisional(RoundRequest(data, out or data, number, tournament))  # a mistake is told before anything starts
    from flows.score import score as flow
    from flows.session import open_session

    with open_session(settings):
        scores = flow(data, out, number, None if tournament is None else str(tournament))
    print_scores(number, scores, as_json=as_json)


def experiment(
    file: Annotated[Path, typer.Argument(help="The experiment: rounds, variants, attacks; see docs/lab.md.")],
    data: Annotated[str | None, typer.Option(help="Use this tournament in place of the file's.")] = None,
    out: Annotated[
        Path | None, typer.Option(help="Where the report and the tables go; default: experiments/<name of the file>.")
    ] = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    workers: Workers = None,
    as_json: AsJson = False,
) -> None:
    """Compare mechanisms on history, attack them, and write a report."""
    from flows.render_experiment import print_findings
    from tasks.lab.laboratory import open_laboratory

    settings = settings_of(scheduler=scheduler, cluster=cluster, workers=workers)
    folder = out or Path("experiments") / file.stem
    open_laboratory(file, folder, data)  # a mistake is told before anything starts
    from flows.experiment import experiment as flow
    from flows.session import open_session

    with open_session(settings):
        findings = flow(str(file), str(folder), data)
    print_findings(findings, folder, as_json=as_json)


def verify(
    out: Published,
    number: Number,
    data: Annotated[str | None, typer.Option(help="Recompute everything from this tournament.")] = None,
    model: Annotated[str | None, typer.Option(help="Recompute this model's scores and payout.")] = None,
    submission: Annotated[Path | None, typer.Option(help="The model's file, parquet or CSV.")] = None,
    features: Annotated[Path | None, typer.Option(help="The round's features.parquet, for FNC.")] = None,
    tournament: TournamentFile = None,
    scheduler: Scheduler = None,
    cluster: Cluster = None,
    workers: Workers = None,
    gpu: Gpu = False,
    as_json: AsJson = False,
) -> None:
    """Check a published round: by itself, by one's own submission, or by computing it again."""
    from flows import verify as flow
    from flows.render import print_findings
    from tasks.verify import VerifyRequest, own_files

    request = VerifyRequest(out, number, own_files(model, submission, features), data, tournament)
    settings = settings_of(scheduler=scheduler, cluster=cluster, workers=workers, gpu=gpu)
    findings = flow.verify(request, settings)
    print_findings(findings, as_json=as_json)
    if not findings.ok:
        raise typer.Exit(ConflictError.exit_code)


def synthetic(
    directory: Annotated[Path, typer.Argument(help="An empty or new directory.")],
    rounds: Annotated[int, typer.Option(help="Number of weekly rounds.", min=1)] = 4,
    models: Annotated[int, typer.Option(help="Number of models.", min=1)] = 200,
    stocks: Annotated[int, typer.Option(help="Number of stocks a round.", min=1)] = 500,
    seed: Annotated[int, typer.Option(help="Everything follows from it.", min=0)] = 1,
    as_json: AsJson = False,
) -> None:
    """Make a seeded synthetic tournament of any size."""
    from flows.render import print_written
    from scoring.synthetic import SyntheticSpec
    from tasks.synthetic import write_tournament

    spec = SyntheticSpec(rounds=rounds, models=models, stocks=stocks, seed=seed)
    write_tournament(directory, spec)
    print_written(directory, spec, as_json=as_json)


def _resolve(request: "RoundRequest", settings: "Settings") -> "Resolution":
    """Resolves a round; starts nothing where a mistake, or an earlier run, leaves nothing to do."""
    from tasks.conclude import Resolution
    from tasks.plan import AlreadyPublished, plan_round

    plan = plan_round(request, datetime.now(UTC))
    if isinstance(plan, AlreadyPublished):
        return Resolution(plan.manifest)
    from flows.resolve import resolve  # Prefect takes 1.5 s to import; a published round needs none of it
    from flows.session import open_session

    override = None if request.tournament is None else str(request.tournament)
    with open_session(settings):
        return resolve(request.data, request.out, request.round, override, request.revise)
