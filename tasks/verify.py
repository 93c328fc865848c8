"""Verifying what is published, with nothing but what is published: the whole round, and one participant's own part.

The checks of the files, of the tables against one another, and of one submission stand in `verify_round`,
`verify_tables` and `verify_submission`; `verify_data` compares with a second run of the round, which needs workers and
so is carried out by `flows.verify`.
"""

from dataclasses import dataclass
from pathlib import Path

from scoring.errors import OperatorError
from tasks.findings import Findings, merge
from tasks.store import open_store
from tasks.verify_round import Revision, read_revisions
from tasks.verify_submission import OwnFiles, verify_submission
from tasks.verify_tables import verify_tables

_NOT_RECOMPUTED = (
    "meta models, portfolio, mmc_bagged_price and tc_price take all submissions: recomputed with --data only"
)


@dataclass(frozen=True, slots=True)
class VerifyRequest:
    """What is to be verified, and by what.

    Attributes:
        out: directory or URL of what is published.
        round: number of the round.
        own: one model's files; None leaves its own part out.
        data: directory or URL of the tournament, to recompute everything; None leaves that out.
        tournament: a file to use in place of the data's `tournament.toml`.
    """

    out: str
    round: int
    own: OwnFiles | None = None
    data: str | None = None
    tournament: Path | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """The newest revision as it lies in the store, and what was found."""

    newest: Revision
    findings: Findings


def own_files(model: str | None, submission: Path | None, features: Path | None) -> OwnFiles | None:
    """Returns the files of one model as the operator named them; None where he named none.

    Raises:
        OperatorError: only a part of what is needed was named.
    """
    if model is None and submission is None and features is None:
        return None
    if model is None or submission is None:
        raise OperatorError("to verify one model, --model and --submission must be given, both")
    return OwnFiles(model, submission, features)


def verify_published(request: VerifyRequest) -> Verified:
    """Verifies every revision of a round, and in the newest one model's own part where its files are given.

    Raises:
        OperatorError: there is no such round or model, or a file of the participant cannot be read.
        StorageError: the store failed, or a manifest is damaged.
    """
    store = open_store(request.out)
    revisions, findings = read_revisions(store, request.round)
    notes = () if request.data else (_NOT_RECOMPUTED,)
    parts = [Findings(notes=notes), findings, *(verify_tables(revision) for revision in revisions)]
    newest = revisions[-1]
    if request.own is not None:
        parts.append(verify_submission(newest, request.own))
    return Verified(newest, merge(parts))
