"""The flow of a verification: what is published against itself, and, with the data, against a second run.

The second run is `resolve` itself, with the workers of this command, into a folder that is thrown away afterwards.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from infra.settings import Settings
from tasks.findings import Findings, merge
from tasks.publish import Manifest
from tasks.store import open_store
from tasks.verify import VerifyRequest, verify_published
from tasks.verify_data import compare_runs, stand_in, verify_inputs
from tasks.verify_round import read_revisions


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
        _resolve_again(request, verified.newest.manifest, folder, settings)
        again, _ = read_revisions(open_store(folder), request.round)
        return merge([verified.findings, inputs, compare_runs(verified.newest, again[-1])])


def _resolve_again(request: VerifyRequest, manifest: Manifest, folder: str, settings: Settings) -> None:
    from flows.resolve import resolve  # Prefect takes 1.5 s to import; without data nothing needs it
    from flows.session import open_session

    stand_in(open_store(Path(folder)), manifest)
    override = None if request.tournament is None else str(request.tournament)
    with open_session(settings):
        resolve(str(request.data), folder, request.round, override, revise=manifest.revision > 1)
