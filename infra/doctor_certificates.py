"""When the certificates of this machine end, for `stakeweight doctor`: on that day every connection is refused."""

import datetime
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509

from infra.certificates import ROLES
from infra.doctor import Check
from infra.errors import InfraError, one_line

RENEW_DAYS = 30
"""So long before the end a renewal is due: time to spread the files while old and new ones understand each other."""


def certificate_ends() -> dict[str, datetime.datetime]:
    """Returns when each certificate ends that Dask's settings name and this machine has, by its file.

    Raises:
        InfraError: a file is no certificate, or cannot be read.
    """
    import dask  # 0.2 s, and needed for a cluster only

    names = ["ca-file", *(f"{role}.cert" for role in ROLES)]
    paths = {dask.config.get(f"distributed.comm.tls.{name}", None) for name in names} - {None}
    return {path: _end_of(Path(path)) for path in sorted(paths) if Path(path).exists()}


def check_certificates(ends: Mapping[str, datetime.datetime], now: datetime.datetime) -> Check:
    """No certificate has ended, and none is about to.

    Args:
        ends: when each ends, by its file; UTC.
        now: the time, UTC.
    """
    if not ends:
        return Check(
            "certificates", "problem", "Dask's settings name none that is here", "set DASK_CONFIG to dask.yaml"
        )
    path, first = min(ends.items(), key=lambda item: item[1])
    advice = "stakeweight certificates --renew, then spread the files and restart"
    if first <= now:
        return Check("certificates", "problem", f"{path} ended on {first:%Y-%m-%d}", advice)
    if first <= now + datetime.timedelta(days=RENEW_DAYS):
        return Check("certificates", "warning", f"{path} ends on {first:%Y-%m-%d}", advice)
    return Check("certificates", "ok", f"the first of {len(ends)} ends on {first:%Y-%m-%d}")


def _end_of(path: Path) -> datetime.datetime:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    except (ValueError, OSError) as error:
        raise InfraError(f"{path}: must be a certificate in PEM form: {one_line(error)}") from error
