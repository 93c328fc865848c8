"""Verifying a round with a second run in this process: what `flows/verify.py` does with one on workers."""

from pathlib import Path

from scoring.true_contribution import TrueContribution
from tasks.findings import Findings, merge
from tasks.store import open_store
from tasks.verify import VerifyRequest, verify_published
from tasks.verify_data import compare_runs
from tasks.verify_round import Revision, read_revisions
from tasks.verify_solved import published_solution, solved_findings, within_tolerance
from tests.flows.in_process import resolve_in_process
from tests.tasks.published_round import NUMBER, solving


def newest(out: Path) -> Revision:
    """The revision in force of the one round."""
    return read_revisions(open_store(out), NUMBER)[0][-1]


def verified(data: Path, out: Path, again: Path) -> Findings:
    """Verifies what is published, with a second run that publishes to `again`."""
    own: list[TrueContribution] = []

    def taken(found: TrueContribution) -> TrueContribution:
        own.append(found)
        published = published_solution(newest(out))
        return found if published is None else within_tolerance(found, published)

    with solving(taken):
        resolve_in_process(data, again, NUMBER)
    alone = verify_published(VerifyRequest(str(out), NUMBER, None, str(data))).findings
    return merge([alone, compare_runs(newest(out), newest(again)), solved_findings(newest(out), own[0])])
