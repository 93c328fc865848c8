"""What must hold of a store after a fault: the undisturbed bytes, or nothing published.

The undisturbed bytes come from the stages one after the other in one process. Beyond them may lie only what nobody
reads: unfinished local files (`#` and digits at the end of their name), and strays that `verify` tells.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from tasks.conclude import conclude
from tasks.plan import AlreadyPublished, RoundPlan, RoundRequest, plan_round
from tasks.store import Store, open_store
from tasks.verify import VerifyRequest, verify_published
from tests.flows.in_process import work_in_process

UNFINISHED = re.compile(r".*#\d+")
"""How a local file is called while it is written."""


def plan(data: str, out: str, number: int) -> RoundPlan | AlreadyPublished:
    """Plans a round as of now."""
    return plan_round(RoundRequest(data, out, number), datetime.now(UTC))


def resolve(data: str, out: str, number: int) -> bool:
    """Resolves a round in this process; returns False where it was published before."""
    planned = plan(data, out, number)
    if isinstance(planned, AlreadyPublished):
        return False
    conclude(planned, work_in_process(planned))
    return True


def undisturbed(data: str, out: Path, rounds: Iterable[int]) -> dict[str, bytes]:
    """Resolves rounds into an empty directory and returns every file that this gives."""
    for number in rounds:
        resolve(data, str(out), number)
    return contents(open_store(out))


def contents(store: Store) -> dict[str, bytes]:
    """Every file that the store lists, by its path."""
    return {entry.path: store.read(entry.path) for entry in store.list()}


def check_published(out: str, expected: Mapping[str, bytes]) -> None:
    """Every expected file is there with exactly its bytes, every round verifies, and nothing else counts."""
    store = open_store(out)
    found = contents(store)
    wrong = sorted(path for path, data in expected.items() if found.get(path) != data)
    assert not wrong, f"{out}: missing or with other bytes: {wrong}"
    notes: list[str] = []
    for number in rounds_of(expected):
        findings = verify_published(VerifyRequest(out, number)).findings
        assert findings.ok, findings.problems
        notes += findings.notes
    untold = [path for path in found.keys() - expected.keys() if not any(note.startswith(path) for note in notes)]
    assert not untold, f"{out}: no manifest names these and verify does not tell them: {untold}"
    if "://" not in out:
        unlisted = set(files(Path(out))) - found.keys()
        assert all(UNFINISHED.fullmatch(path) for path in unlisted), unlisted


def check_nothing_half(out: Path) -> set[int]:
    """Each manifest's files are there, whole; returns the published rounds. Asks the disk only, nothing of ours."""
    found = files(out)
    manifests = {path: data for path, data in found.items() if re.fullmatch(r"manifests/round=\d+/\d+\.json", path)}
    for path, data in manifests.items():
        for output in json.loads(data)["outputs"].values():
            assert output["path"] in found, f"{path} names {output['path']}, which is not there"
            assert hashlib.sha256(found[output["path"]]).hexdigest() == output["sha256"], output["path"]
    return rounds_of(manifests)


def rounds_of(paths: Iterable[str]) -> set[int]:
    """The rounds that have a manifest among these paths."""
    found = (re.match(r"manifests/round=(\d+)/", path) for path in paths)
    return {int(match[1]) for match in found if match}


def manifests(out: str) -> list[str]:
    """Paths of all manifests in a store."""
    return [entry.path for entry in open_store(out, create=True).list("manifests")]


def files(root: Path) -> dict[str, bytes]:
    """Every file on the disk below a directory, unfinished ones too."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
