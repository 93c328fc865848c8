"""The whole report: one line a check, whatever is broken, and never a wait or a traceback."""

import io
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flows.doctor import DoctorRequest, examine, has_problem, print_checks
from infra.doctor import Check
from tests.infra.doctor_rig import ROOT, scheduler, wait_for_workers, worker
from tests.tasks.fixtures import write_round

ALONE = """
import sys, time
started = time.monotonic()
from flows.doctor import DoctorRequest, examine
names = [check.name for check in examine(DoctorRequest())]
print(time.monotonic() - started, sorted({"dask", "distributed", "prefect", "torch"} & sys.modules.keys()), names)
"""
SILENCE = """
import sys
import flows.doctor as doctor
doctor.LIMIT_S = 1.0
doctor.print_checks(doctor.examine(doctor.DoctorRequest(scheduler=sys.argv[1])), as_json=True)
"""


@pytest.fixture(autouse=True)
def own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the person who runs the tests: neither settings nor files with secrets."""
    for name in [name for name in os.environ if name.startswith(("STAKEWEIGHT_", "PREFECT_", "AWS_"))]:
        monkeypatch.delenv(name)
    place = tmp_path / "place"
    (place / "home").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(place / "home"))
    monkeypatch.setenv("PREFECT_HOME", str(place / "prefect"))
    monkeypatch.chdir(place)
    return place


def _by_name(request: DoctorRequest) -> dict[str, Check]:
    checks = examine(request)
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks}


def test_examine__alone_is_quick_and_needs_neither_dask_nor_prefect() -> None:
    run = subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True, check=True)
    took, _, rest = run.stdout.partition(" ")
    modules, _, names = rest.partition("] ")
    assert modules == "["
    assert "'packages'" in names
    assert float(took) < 10  # 1 s on a quiet machine; what it may never do is start a cluster or an API
    assert run.stderr == ""


def test_examine__alone_is_about_this_machine_and_leaves_nothing(own_environment: Path) -> None:
    before = sorted(own_environment.rglob("*"))
    checks = _by_name(DoctorRequest())
    assert list(checks) == [
        "packages",
        "disk, temporary",
        "disk, PREFECT_HOME",
        "secrets",
        "memory, this machine",
        "time zone",
        "clock",
    ]
    assert (checks["packages"].status, checks["secrets"].status, checks["clock"].status) == ("ok", "ok", "ok")
    assert sorted(own_environment.rglob("*")) == before


def test_examine__stores_that_are_sound_are_told_and_left_as_they_were(tmp_path: Path) -> None:
    data = write_round(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    checks = _by_name(DoctorRequest(data=str(data), out=str(tmp_path / "out")))
    assert checks["data"].found.startswith("tournament 'tiny', rounds: 1; round 7 has 20 stocks and ")
    assert checks["out"].found == f"{tmp_path}/out creates files once, reads, lists and removes them"
    assert (checks["data"].status, checks["out"].status) == ("ok", "ok")
    assert sorted(tmp_path.rglob("*")) == before


def test_examine__every_failing_question_is_a_problem_of_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("PREFECT_API_URL", "http://127.0.0.1:9/api")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "file" / "home"))
    request = DoctorRequest(str(tmp_path / "none"), str(tmp_path / "file" / "out"), scheduler="tcp://127.0.0.1:9")
    monkeypatch.setattr("flows.doctor.LIMIT_S", 1.0)
    checks = _by_name(request)
    wanted = {
        "data": "none: must be a directory, found nothing",
        "out": "file/out: the directory cannot be made: Not a directory",
        "prefect api": "no Prefect API answers at http://127.0.0.1:9/api/health",
        "scheduler": "no scheduler answered at tcp://127.0.0.1:9 within 1 s",
        "disk, PREFECT_HOME": "cannot be written: Not a directory",
    }
    for name, text in wanted.items():
        assert checks[name].status == "problem"
        assert text in checks[name].found
        assert checks[name].advice
        assert "\n" not in checks[name].found


def test_examine__silence_ends_at_the_limit_and_the_process_with_it() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-c", SILENCE, f"tcp://{address}"]
        environment = {**os.environ, "PREFECT_API_URL": f"http://{address}/api"}
        run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    checks = {check["name"]: check["found"] for check in json.loads(run.stdout)["checks"]}
    assert checks["prefect api"].endswith("timed out")
    assert checks["scheduler"] == f"no scheduler answered at tcp://{address} within 1 s"
    assert run.stderr == ""


def test_examine__a_misspelt_setting_is_a_problem_and_not_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STAKEWEIGHT_WORKRES", "3")
    checks = _by_name(DoctorRequest())
    assert checks["settings"].status == "problem"
    assert "did you mean STAKEWEIGHT_WORKERS?" in checks["settings"].found
    assert checks["packages"].status == "ok"


def test_examine__an_open_secret_is_a_problem(own_environment: Path) -> None:
    (own_environment / ".env").write_text("AWS_SECRET_ACCESS_KEY=abc")
    (own_environment / ".env").chmod(0o644)
    assert _by_name(DoctorRequest())["secrets"].status == "problem"


def test_examine__reads_a_cluster_file_and_starts_nothing(tmp_path: Path) -> None:
    marker = tmp_path / "started"
    (tmp_path / "cluster.yaml").write_text(
        f"cluster_class: pathlib.Path\ncluster_kwargs: {{host: 0.0.0.0, marker: {marker}}}\n"
    )
    check = _by_name(DoctorRequest(cluster=str(tmp_path / "cluster.yaml")))["cluster file"]
    assert check.status == "problem"
    assert check.found.endswith("opens a scheduler without TLS on 0.0.0.0")
    assert _by_name(DoctorRequest(cluster=str(tmp_path / "none.yaml")))["cluster file"].status == "problem"


def test_examine__a_gpu_that_is_asked_for_and_missing_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    check = _by_name(DoctorRequest(gpu=True))["gpu"]
    assert (check.status, check.found) == ("problem", "asked for, but torch finds no CUDA device here")


def test_examine__a_running_cluster_is_asked_and_left_running(tmp_path: Path) -> None:
    data = write_round(tmp_path / "data")
    with scheduler(tmp_path) as address, worker(address, tmp_path):
        wait_for_workers(address, 1)
        first = _by_name(DoctorRequest(data=str(data), scheduler=address))
        again = _by_name(DoctorRequest(scheduler=address))
    names = ["scheduler", "workers", "versions", "code", "memory, workers", "threads", "gpu", "time zone", "clock"]
    assert {name: (first[name].status, again[name].status) for name in names} == dict.fromkeys(names, ("ok", "ok"))
    assert "memory, this machine" not in first
    assert first["clock"].found == "agrees with 2 others"


CHECKS = [
    Check("packages", "ok", "all there"),
    Check("out", "problem", "株 [/b]\n\x1b[31m", "name another"),
    Check("clock", "warning", "20 s"),
    Check("zone", "warning", "other"),
]


def test_print_checks__prints_one_line_a_check(capsys: pytest.CaptureFixture[str]) -> None:
    print_checks(CHECKS, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "ok       packages  all there",
        "problem  out       株 [/b]\\n\\x1b[31m; name another",
        "warning  clock     20 s",
        "warning  zone      other",
        "1 problem, 2 warnings",
    ]
    print_checks(CHECKS[:1], as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == "all is well"


def test_print_checks__what_the_output_cannot_encode_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, "ascii"))
    print_checks(CHECKS, as_json=False)
    sys.stdout.flush()
    assert b"out       \\u682a [/b]" in raw.getvalue()


def test_print_checks__json_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    print_checks(CHECKS, as_json=True)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    told = json.loads(lines[0])
    assert told["ok"] is False
    assert [Check(**check) for check in told["checks"]] == CHECKS


def test_has_problem__a_warning_is_none() -> None:
    assert has_problem(CHECKS)
    assert not has_problem([CHECKS[0], CHECKS[2]])
