"""The flow of a verification: what is published against itself, and, with the data, against a second run.

The second run has the stages of `resolve`, on the workers of this command; its folder is thrown away afterwards.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from infra.settings import Settings
from scoring.true_contribution import TrueContribution
from tasks.findings import Findings, merge
from tasks.plan import RoundRequest
from tasks.store import open_store
from tasks.verify import VerifyRequest, verify_published
from tasks.verify_data import compare_runs, stand_in, verify_inputs
from tasks.verify_round import Revision, read_revisions
from tasks.verify_solved import published_solution, solved_findings


def verify(request: VerifyRequest, settings: Settings) -> Findings:
    """Verifies a published round.

    Args:
        request: what is to be verified, and by what.
        settings: where the second run is carried out; nothing is started without data.

    Raises:
        OperatorError: there is no such round, model or file, or the data cannot be resolved.
        StorageError: a store failed, or a manifest is damaged.
    """
    verified = verify_published(request)
    if request.data is None:
        return verified.findings
    inputs = verify_inputs(open_store(request.data), verified.newest.manifest)
    if not inputs.ok:
        note = Findings(notes=("nothing was recomputed: with other inputs nothing would agree",))
        return merge([verified.findings, inputs, note])
    with TemporaryDirectory(prefix="stakeweight-verify-") as folder:
        solved = _resolve_again(request, verified.newest, folder, settings)
        again, _ = read_revisions(open_store(folder), request.round)
        compared = [compare_runs(verified.newest, again[-1]), solved_findings(verified.newest, solved)]
        return merge([verified.findings, inputs, *compared])


def _resolve_again(
    request: VerifyRequest, newest: Revision, folder: str, settings: Settings
) -> TrueContribution | None:
    from flows.recompute import recompute  # Prefect takes 1.5 s to import; without data nothing needs it
    from flows.session import open_session

    stand_in(open_store(Path(folder)), newest.manifest)
    revise = newest.manifest.revision > 1
    again = RoundRequest(str(request.data), folder, request.round, request.tournament, revise, history=request.out)
    with open_session(settings):
        return recompute(again, published_solution(newest))
