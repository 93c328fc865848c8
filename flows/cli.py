"""The command line: thin, quiet, and every failure one clear line.

What a command does stands in `flows.commands` and `flows.operations`. Exit codes: 0 done or already published, 1 a bug,
2 operator input, 3 nothing to pay or not due, 4 conflict, 5 storage, 6 scores not trustworthy, 130 interrupted.
"""

import signal
import sys

import typer
from typer.exceptions import TyperException

from flows import commands, operations
from scoring.errors import StakeweightError

INTERRUPTED = 130
USAGE = 2

app = typer.Typer(
    name="stakeweight",
    help="Scores and pays stake-weighted prediction tournaments, exact to the last atom.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (
    commands.demo,
    commands.resolve,
    commands.backfill,
    commands.score,
    commands.experiment,
    commands.verify,
    commands.synthetic,
    operations.doctor,
    operations.certificates,
):
    app.command()(command)


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
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # all is cleared up: a second Ctrl-C must not hide that
        _fail("interrupted; run the same command again to see whether the round was published", INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, exit_code: int) -> None:
    print(f"stakeweight: {message}", file=sys.stderr)
    sys.exit(exit_code)
