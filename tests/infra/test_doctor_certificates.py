"""The doctor tells when the certificates of this machine end, long before every connection is refused."""

import datetime
from pathlib import Path

import dask
import pytest
import yaml

from infra.certificates import LEAF_DAYS, ROLES, Certificates, make_certificates
from infra.doctor_certificates import RENEW_DAYS, certificate_ends, check_certificates
from infra.errors import InfraError

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)


@pytest.fixture
def made(tmp_path: Path) -> Certificates:
    return make_certificates(tmp_path / "tls", ["127.0.0.1"])


def _ends(made: Certificates) -> dict[str, datetime.datetime]:
    with dask.config.set(yaml.safe_load(made.dask_file.read_text())):
        return certificate_ends()


def test_certificate_ends__are_those_of_the_files_that_this_machine_has(made: Certificates) -> None:
    (made.directory / "worker.pem").unlink()
    (made.directory / "client.pem").unlink()
    ends = _ends(made)
    assert {Path(path).name for path in ends} == {"ca.pem", "scheduler.pem"}
    assert abs(ends[str(made.directory / "scheduler.pem")] - made.expires_at) < DAY / 86_400
    assert certificate_ends() == {}  # Dask's settings name none here


def test_certificate_ends__refuses_what_is_no_certificate(made: Certificates) -> None:
    (made.directory / "client.pem").write_text("nothing")
    with pytest.raises(InfraError, match=r"client\.pem: must be a certificate in PEM form"):
        _ends(made)


@pytest.mark.parametrize(
    ("days", "status"),
    [
        (0, "ok"),
        (LEAF_DAYS - RENEW_DAYS - 1, "ok"),
        (LEAF_DAYS - RENEW_DAYS + 1, "warning"),
        (LEAF_DAYS + 1, "problem"),
    ],
)
def test_check_certificates__warns_in_time_of_the_first_that_ends(made: Certificates, days: int, status: str) -> None:
    check = check_certificates(_ends(made), NOW + days * DAY)
    assert check.status == status
    assert f"{made.expires_at:%Y-%m-%d}" in check.found
    assert ("--renew" in check.advice) == (status != "ok")
    assert any(role in check.found for role in ROLES) == (status != "ok")


def test_check_certificates__none_at_all_is_a_problem() -> None:
    assert check_certificates({}, NOW).status == "problem"
