"""What a run leaves in Prefect for people to look at. Nothing is decided by it, so nothing here may fail a run.

Guards against the failure where scores are done and paid for, and the run ends as failed because the API, to which it
tells so, was just restarted.
"""

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, create_table_artifact, update_progress_artifact

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


class ShownProgress:
    """A percentage in Prefect's UI, for runs of hours such as a backfill.

    Args:
        key: its lasting name, e.g. `backfill`.
        description: what is counted.
    """

    def __init__(self, key: str, description: str = "") -> None:
        self._id: UUID | None = _attempt(
            create_progress_artifact, progress=0.0, key=_artifact_key(key), description=description or None
        )

    def show(self, done: int, total: int) -> None:
        """Shows how much is done."""
        if self._id is not None:
            _attempt(update_progress_artifact, artifact_id=self._id, progress=100.0 * done / max(total, 1))


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
