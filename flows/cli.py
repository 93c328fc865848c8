"""The command line: thin, quiet, and every failure one clear line.

A command reads its options, asks `tasks` or a flow for the work and prints what came back. Heavy imports happen inside
the commands, so that `stakeweight --help` answers at once. Exit codes: 0 done or already published, 1 a bug, 2 operator
input, 3 nothing to pay or not due, 4 conflict, 5 storage, 6 scores not trustworthy, 130 interrupted.
"""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from scoring.errors import ConflictError, OperatorError, StakeweightError

if TYPE_CHECKING:
    from infra.settings import Settings
    from tasks.conclude import Resolution
    from tasks.plan import RoundRequest

INTERRUPTED = 130
USAGE = 2

app = typer.Typer(
    name="stakeweight",
    help="Scores and pays stake-weighted prediction tournaments, exact to the last atom.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Data = Annotated[str, typer.Option(help="Directory or URL (s3://…) of the tournament.")]
Out = Annotated[str, typer.Option(help="Directory or URL to publish to.")]
Published = Annotated[str, typer.Option("--out", help="Directory or URL of what is published.")]
Number = Annotated[int, typer.Option("--round", help="Number of the round.", min=0)]
TournamentFile = Annotated[Path | None, typer.Option(help="Use this file in place of the data's tournament.toml.")]
Revise = Annotated[bool, typer.Option(help="Publish a correction of a round that is published with other inputs.")]
Scheduler = Annotated[str | None, typer.Option(help="A running Dask scheduler, tcp://… or tls://….")]
Cluster = Annotated[str | None, typer.Option(help="'local', or a YAML file that describes the cluster to start.")]
Workers = Annotated[int | None, typer.Option(help="Worker processes to start; default: one a core.", min=1)]
Gpu = Annotated[bool, typer.Option("--gpu", help="Solve portfolios on workers that offer the resource GPU.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


@app.command()
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
    print_resolution(_resolve(request, _settings(workers=workers)), as_json=as_json)


@app.command()
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
    settings = _settings(scheduler=scheduler, cluster=cluster, workers=workers, gpu=gpu)
    print_resolution(_resolve(request, settings), as_json=as_json)


@app.command()
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
    settings = _settings(scheduler=scheduler, cluster=cluster, workers=workers, gpu=gpu)
    findings = flow.verify(request, settings)
    print_findings(findings, as_json=as_json)
    if not findings.ok:
        raise typer.Exit(ConflictError.exit_code)


@app.command()
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


def main() -> None:
    """Runs a command and ends the process with its exit code."""
    try:
        code = app(standalone_mode=False)  # typer turns Ctrl-C into this code and returns it
    except StakeweightError as error:
        _fail(str(error), error.exit_code)
    except TyperException as error:
        if not error.format_message():  # no command was given: the help is printed already
            sys.exit(USAGE)
        _fail(f"{error.format_message()}; see stakeweight --help", USAGE)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        _fail("interrupted; run the same command again to see whether the round was published", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


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


def _settings(
    scheduler: str | None = None, cluster: str | None = None, workers: int | None = None, gpu: bool = False
) -> "Settings":
    from infra.errors import InfraError
    from infra.settings import read_settings

    try:
        # An option that was not given leaves the word to the environment.
        return read_settings(scheduler=scheduler, cluster=cluster, workers=workers, gpu=gpu or None)
    except InfraError as error:
        raise OperatorError(str(error)) from error


def _fail(message: str, exit_code: int) -> None:
    print(f"stakeweight: {message}", file=sys.stderr)
    sys.exit(exit_code)
