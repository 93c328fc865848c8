"""The command line, as an operator uses it, in a process of its own."""

import subprocess
import sys
from collections.abc import Mapping

from tests.services.service import ROOT, clean_environment

_COMMAND = "from flows.cli import main; main()"


def stakeweight(
    *arguments: str, environment: Mapping[str, str], limit_s: float = 240.0
) -> subprocess.CompletedProcess[str]:
    """Runs `stakeweight` with these arguments and whatever exit code."""
    return subprocess.run(
        [sys.executable, "-c", _COMMAND, *arguments],
        cwd=ROOT,
        env={**clean_environment(), **environment},
        capture_output=True,
        text=True,
        timeout=limit_s,
        check=False,
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    """What the command said last on standard error: its one line about a failure."""
    return (done.stderr.strip().splitlines() or [""])[-1]
