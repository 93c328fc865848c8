"""PostgreSQL as Debian packages it, in a folder of its own, with everything it does for durability switched on."""

import getpass
import os
import pwd
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.services.service import RigError, Service, Spec, free_ports, run_once, service

_UNPRIVILEGED = ("postgres", "nobody")
"""Whom the server runs as where the tests run as root, which it refuses."""


@dataclass(frozen=True, slots=True)
class Postgres:
    """A database server with one empty database.

    Attributes:
        url: of the database, as Prefect takes it.
        service: to kill, stop, restart; its data stay.
    """

    url: str
    service: Service


@contextmanager
def postgres(folder: Path) -> Iterator[Postgres]:
    """Yields a server with the database `prefect`, reached over loopback with a password.

    Args:
        folder: for the log; its data lie in a folder of their own that its user can reach.
    """
    programs, user = postgres_programs(), _user()
    home = Path(tempfile.mkdtemp(prefix="stakeweight-postgres-"))
    (port,) = free_ports(1)
    password = secrets.token_urlsafe(16)
    try:
        os.chown(home, user.pw_uid, user.pw_gid)
        _make_cluster(programs, home, user, password)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise
    spec = Spec(
        "postgres",
        [str(programs / "postgres"), "-D", str(home / "data"), "-p", str(port), "-k", str(home), "-h", "127.0.0.1"],
        folder,
        lambda _: _accepts(programs, port),
        user=_ids(user),
        stop_signal=signal.SIGINT,  # ends sessions, then stops in order
        remove=[str(home)],
    )
    with service(spec) as running:
        admin = {"PGPASSWORD": password}
        connection = ["-h", "127.0.0.1", "-p", str(port), "-U", "prefect"]
        run_once([str(programs / "createdb"), *connection, "prefect"], admin)
        yield Postgres(f"postgresql+asyncpg://prefect:{password}@127.0.0.1:{port}/prefect", running)


def postgres_programs() -> Path:
    """The folder with `initdb` and `postgres`, the newest where Debian has several.

    Raises:
        RigError: there is none.
    """
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    elsewhere = shutil.which("initdb")
    if not found and elsewhere is None:
        raise RigError("there is no PostgreSQL: install Debian's package postgresql")
    return (found[-1] if found else Path(str(elsewhere)).resolve()).parent


def _make_cluster(programs: Path, home: Path, user: pwd.struct_passwd, password: str) -> None:
    secret = home / "password"
    secret.write_text(password)
    secret.chmod(0o600)
    os.chown(secret, user.pw_uid, user.pw_gid)
    run_once(
        [
            *_as(user),
            str(programs / "initdb"),
            f"--pgdata={home / 'data'}",
            "--username=prefect",
            "--auth=scram-sha-256",
            f"--pwfile={secret}",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--data-checksums",
        ],
        {},
    )
    secret.unlink()


def _accepts(programs: Path, port: int) -> bool:
    run_once([str(programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(port)], {}, limit_s=10)
    return True


def _user() -> pwd.struct_passwd:
    names = _UNPRIVILEGED if os.geteuid() == 0 else (getpass.getuser(),)
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    return next(known[name] for name in names if name in known)


def _ids(user: pwd.struct_passwd) -> tuple[int, int] | None:
    return (user.pw_uid, user.pw_gid) if os.geteuid() == 0 else None


def _as(user: pwd.struct_passwd) -> list[str]:
    if os.geteuid() != 0:
        return []
    return ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups", "--"]
