"""What a run leaves in Prefect for people to look at. Nothing is decided by it, so nothing here may fail a run.

Guards against the failure where scores are done and paid for, and the run ends as failed because the API, to which it
tells so, was just restarted.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol
from uuid import UUID

from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact

from tasks.conclude import Resolution

_SHOWN_DIGITS = 6
_log = logging.getLogger(__name__)


def show_table(key: str, rows: Sequence[Mapping[str, Any]], description: str = "") -> None:
    """Leaves a searchable table.

    Args:
        key: its lasting name, one history a key, e.g. `round 812 scores`.
        rows: one mapping a row; floats are shown with 6 significant digits.
        description: markdown above the table.
    """
    shown = [{column: _shown(value) for column, value in row.items()} for row in rows]
    _attempt(create_table_artifact, table=shown, key=_artifact_key(key), description=description or None)


def show_round(resolution: Resolution) -> None:
    """Leaves the table of a round: its totals, and the models that gained and lost most."""
    manifest, summary = resolution.manifest, resolution.summary
    if summary is None:
        return
    facts = {"revision": manifest.revision, "models": summary.models, **summary.facts()["totals"], **summary.statuses}
    description = ", ".join(f"{name} {value}" for name, value in facts.items())
    rows = [
        {"model": line.model, "at_risk": str(line.at_risk), "change": str(line.change)}
        | {key: None if score is None else float(score) for key, score in line.scores.items()}
        for line in (*summary.best, *reversed(summary.worst))
    ]
    show_table(f"round {manifest.round}", rows, description)


class Steps(Protocol):
    """Whom a run tells that one more step is done."""

    def step(self) -> None:
        """Counts one step."""


class Unshown:
    """Tells nobody: a round of a backfill is one step of its own."""

    def step(self) -> None:
        """Counts nothing."""


class ShownProgress:
    """A percentage in Prefect's UI.

    Args:
        key: its lasting name, e.g. `backfill`.
        total: how many steps make 100 %.
        description: what is counted.
    """

    def __init__(self, key: str, total: int, description: str = "") -> None:
        self._total = max(total, 1)
        self._done = 0
        self._id: UUID | None = _attempt(
            create_progress_artifact, progress=0.0, key=_artifact_key(key), description=description or None
        )

    def step(self) -> None:
        """Shows that one more step is done."""
        self._done += 1
        if self._id is not None:
            _attempt(update_progress_artifact, artifact_id=self._id, progress=100.0 * self._done / self._total)


def _attempt(function: Callable[..., Any], **arguments: Any) -> Any:
    try:
        return function(**arguments)
    except Exception as error:  # whatever it is: the run goes on
        _log.info("no artifact: %s", error)
        return None


def _artifact_key(name: str) -> str:
    """Prefect takes lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def _shown(value: Any) -> Any:
    return float(f"{value:.{_SHOWN_DIGITS}g}") if isinstance(value, float) else value
