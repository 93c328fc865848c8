"""The options that several commands share, each described once, and the settings that follow from them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from scoring.errors import OperatorError

if TYPE_CHECKING:
    from infra.settings import Settings

Data = Annotated[str, typer.Option(help="Directory or URL (s3://…) of the tournament.")]
Out = Annotated[str, typer.Option(help="Directory or URL to publish to.")]
Published = Annotated[str, typer.Option("--out", help="Directory or URL of what is published.")]
Number = Annotated[int, typer.Option("--round", help="Number of the round.", min=0)]
TournamentFile = Annotated[Path | None, typer.Option(help="Use this file in place of the data's tournament.toml.")]
Revise = Annotated[bool, typer.Option(help="Publish a correction of a round that is published with other inputs.")]
Scheduler = Annotated[str | None, typer.Option(help="A running Dask scheduler, tcp://… or tls://….")]
Cluster = Annotated[str | None, typer.Option(help="'local', or a YAML file that describes the cluster to start.")]
Workers = Annotated[int | None, typer.Option(help="Worker processes to start; default: one a core.", min=1)]
Gpu = Annotated[
    bool, typer.Option("--gpu", help="Solve portfolios on workers that offer the resource GPU, where there are any.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Rounds = Annotated[str | None, typer.Option(help="Rounds such as 101-130; all by default.")]


def settings_of(
    scheduler: str | None = None, cluster: str | None = None, workers: int | None = None, gpu: bool = False
) -> "Settings":
    """Returns the settings of a run: these options, and the environment for those that were not given.

    Raises:
        OperatorError: a variable of the environment or an option is wrong.
    """
    from infra.errors import InfraError
    from infra.settings import read_settings

    try:
        # An option that was not given leaves the word to the environment.
        return read_settings(scheduler=scheduler, cluster=cluster, workers=workers, gpu=gpu or None)
    except InfraError as error:
        raise OperatorError(str(error)) from error
