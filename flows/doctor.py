"""The doctor: asks this machine, the stores, the Prefect API and the cluster, and prints one line a check.

Nothing is started and nothing is left behind. All questions are on their way at once, each with a limit, and one that
fails is itself a finding: whoever calls a doctor because something does not answer must not get a traceback, or wait.
Without a scheduler or an API it is about this machine alone and takes 1 s, for neither Dask nor Prefect is imported.
"""

import json
import sys
import tempfile
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.doctor import (
    WORKER_BYTES,
    Check,
    check_api,
    check_clock,
    check_folder,
    check_memory,
    check_object_store,
    check_own_gpu,
    check_packages,
    check_secrets,
    check_zone,
)
from infra.doctor_ask import ApiAnswer, ask_api
from infra.doctor_facts import Facts, Surroundings, find_facts
from infra.doctor_machine import cuda_device, readable_secrets
from infra.errors import InfraError, one_line
from infra.question import Question
from infra.settings import Settings, read_settings
from scoring.errors import StakeweightError
from tasks.probe import DataFacts, probe_data, probe_out
from tasks.submission_file import printable

if TYPE_CHECKING:
    from infra.doctor_cluster import ClusterAnswer

LIMIT_S = 10.0
"""For each step of a question to another process."""
LIMITS_S = {
    "data": 30.0,  # an object store that cannot be reached is tried again for minutes by itself
    "out": 30.0,
    "object store": 10.0,
    "prefect api": 45.0,  # three requests, and the import of Prefect, which knows its password
    "scheduler": 100.0,  # to connect, to show a worker, to answer, and to ask torch for a GPU
    "certificates": 10.0,
    "cluster file": 10.0,
    "gpu": 60.0,
}
"""For each question as a whole, by its name in the report."""
ADVICE = {
    "data": "name a tournament that can be read",
    "out": "name a place that can be published to; if the probe stopped half way, its folder probe-… may be left",
    "object store": "correct AWS_ENDPOINT_URL",
    "prefect api": "start it, or correct PREFECT_API_URL, PREFECT_API_AUTH_STRING or PREFECT_API_KEY",
    "scheduler": "start it and its workers, or correct --scheduler",
    "certificates": "make them anew, or correct Dask's settings (distributed.comm.tls)",
    "cluster file": "correct the file",
    "gpu": "leave --gpu out",
}
"""What to do where a question fails."""

_LONGEST_LINE = 2_000


@dataclass(frozen=True, slots=True)
class DoctorRequest:
    """What to look at; None leaves the word to the environment, or the thing out.

    Attributes:
        data: directory or URL of a tournament; only read.
        out: directory or URL to publish to; files are created there and removed again.
        scheduler: address of a running Dask scheduler.
        cluster: `local`, or a YAML file that describes a cluster; only read.
        gpu: whether portfolios are to be solved on GPUs.
    """

    data: str | None = None
    out: str | None = None
    scheduler: str | None = None
    cluster: str | None = None
    gpu: bool = False


def examine(request: DoctorRequest) -> list[Check]:
    """Returns every check, in the order of the report; raises nothing that a check can tell."""
    checks: list[Check] = []
    settings = _settings(request, checks)
    around = Surroundings()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Mismatched versions found")  # Dask's own page about it
        asked = {name: Question(ask, LIMITS_S[name]) for name, ask in _questions(request, settings, around)}
        here = _look_around(request, around, checks)
        answers = {name: _answer(name, question, checks) for name, question in asked.items()}
    _judge(answers, here, settings, checks)
    return checks


def has_problem(checks: Iterable[Check]) -> bool:
    """Whether a run should not be started."""
    return any(check.status == "problem" for check in checks)


def print_checks(checks: Sequence[Check], *, as_json: bool) -> None:
    """Prints one line a check, and how many are not fine; or all of it as one line of JSON."""
    if as_json:
        print(json.dumps({"ok": not has_problem(checks), "checks": [asdict(check) for check in checks]}))
        return
    width = max(len(check.name) for check in checks)
    for check in checks:
        advice = f"; {check.advice}" if check.advice else ""
        print(_plain(f"{check.status:<8} {check.name:<{width}}  {check.found}{advice}"))
    counts = [(sum(check.status == status for check in checks), status) for status in ("problem", "warning")]
    print(", ".join(f"{count} {what}{'s' if count > 1 else ''}" for count, what in counts if count) or "all is well")


def _settings(request: DoctorRequest, checks: list[Check]) -> Settings:
    try:
        return read_settings(scheduler=request.scheduler, cluster=request.cluster, gpu=request.gpu or None)
    except InfraError as error:
        advice = "correct it; neither the cluster nor the Prefect API is asked"
        checks.append(Check("settings", "problem", str(error), advice))
        return Settings.model_construct()


def _questions(
    request: DoctorRequest, settings: Settings, around: Surroundings
) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yields what to ask, each by its name in the report."""
    if request.data is not None:
        yield "data", partial(probe_data, request.data)
    if request.out is not None:
        yield "out", partial(probe_out, request.out)
    if any(location is not None and location.startswith("s3://") for location in (request.data, request.out)):
        yield "object store", partial(check_object_store, around.endpoint)
    if settings.prefect_api_url is not None:
        yield "prefect api", partial(ask_api, settings.prefect_api_url, _authorization, LIMIT_S)
    if settings.scheduler is not None and settings.scheduler.startswith("tls://"):
        yield "certificates", _look_at_certificates
    if settings.scheduler is not None:
        yield "scheduler", partial(_ask_cluster, settings)
    elif settings.cluster != "local":
        yield "cluster file", partial(_look_at_cluster_file, settings.cluster)
    if settings.scheduler is None and settings.gpu:
        yield "gpu", lambda: check_own_gpu(cuda_device())


def _answer(name: str, question: Question[Any], checks: list[Check]) -> Any:
    """Returns the answer, None where it is a failure, which becomes a problem among the checks."""
    try:
        return question.answer()
    except (InfraError, StakeweightError) as error:
        checks.append(Check(name, "problem", str(error), ADVICE[name]))
    except Exception as error:  # whatever a library or another machine raises
        checks.append(Check(name, "problem", one_line(error), ADVICE[name]))
    return None


def _judge(answers: Mapping[str, Any], here: Facts, settings: Settings, checks: list[Check]) -> None:
    """Adds what the answers mean; one that is missing has its line already."""
    checks += [answer for answer in answers.values() if isinstance(answer, Check)]
    data: DataFacts | None = answers.get("data")
    api: ApiAnswer | None = answers.get("prefect api")
    cluster: ClusterAnswer | None = answers.get("scheduler")
    if data is not None:
        checks.append(Check("data", "ok", _described(data)))
    if answers.get("out") is not None:
        checks.append(Check("out", "ok", f"{answers['out']} creates files once, reads, lists and removes them"))
    skews_s: dict[str, float] = {}
    if api is not None:
        checks += check_api(api, here)
        skews_s["the Prefect API"] = api.skew_s
    scoring_bytes = 0 if data is None else data.scoring_bytes
    zones: dict[str, str] = {}
    if cluster is not None:
        from infra.doctor_workers import check_cluster

        checks += check_cluster(here, cluster, scoring_bytes, settings.gpu)
        heard = [peer for peer in (cluster.scheduler, *cluster.workers) if peer.facts is not None]
        skews_s |= {peer.name: peer.skew_s for peer in heard}
        zones = {peer.name: peer.facts.zone for peer in heard if peer.facts is not None}
    if settings.scheduler is None:
        workers = settings.workers or here.cores
        needed = WORKER_BYTES + scoring_bytes // workers
        checks.append(check_memory("this machine", here.free_memory_bytes // workers, needed))
    checks += [check_zone(here, zones), check_clock(skews_s)]


def _authorization() -> str | None:
    """Returns the header that Prefect's own client would send; only Prefect knows all places of its settings."""
    from prefect.settings import get_current_settings  # 1.5 s

    api = get_current_settings().api
    if api.auth_string is not None:
        return "Basic " + b64encode(api.auth_string.get_secret_value().encode()).decode()
    return None if api.key is None else f"Bearer {api.key.get_secret_value()}"


def _look_at_certificates() -> Check:
    from infra.doctor_certificates import certificate_ends, check_certificates  # with Dask

    return check_certificates(certificate_ends(), datetime.now(UTC))


def _ask_cluster(settings: Settings) -> "ClusterAnswer":
    from infra.doctor_cluster import ask_cluster  # with Dask, 0.7 s

    return ask_cluster(settings, LIMIT_S)


def _look_at_cluster_file(cluster: str) -> Check:
    from infra.doctor_workers import check_cluster_file

    return check_cluster_file(cluster)


def _look_around(request: DoctorRequest, around: Surroundings, checks: list[Check]) -> Facts:
    """Looks at what needs no one else."""
    folders = {"temporary": tempfile.gettempdir(), "PREFECT_HOME": str(around.home)}
    if request.out is not None and "://" not in request.out:
        folders["out"] = request.out
    here = find_facts(folders.values())
    checks.append(check_packages(here))
    checks += map(check_folder, folders, here.folders)
    home = Path.home()
    files = [around.home / "profiles.toml", Path(".env"), Path("prefect.toml"), home / ".aws" / "credentials"]
    checks.append(check_secrets(readable_secrets(files)))
    return here


def _described(data: DataFacts) -> str:
    if data.newest is None:
        return f"tournament {data.name!r} has no round yet"
    newest = f"round {data.newest} has {data.stocks} stocks and {data.submissions} submissions"
    return f"tournament {data.name!r}, rounds: {data.rounds}; {newest}"


def _plain(line: str) -> str:
    """Returns a line that stays one, acts on no terminal, and that standard output can encode."""
    encoding = sys.stdout.encoding or "utf-8"
    return printable(line, _LONGEST_LINE).encode(encoding, "backslashreplace").decode(encoding)
