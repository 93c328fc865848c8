"""OpenSSH's own server on loopback, which lets in whoever holds one fresh key: how a cluster reaches other machines."""

import getpass
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncssh

from tests.services.service import RigError, Spec, free_ports, listens, service

_PLACES = "/usr/sbin:/usr/local/sbin:/sbin"
_CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host
AuthorizedKeysFile {folder}/authorized
PidFile none
StrictModes no
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
"""


@contextmanager
def sshd(folder: Path) -> Iterator[Mapping[str, Any]]:
    """Yields how asyncssh connects; the host's key is known, any other would be refused.

    Args:
        folder: for keys, configuration and log; must exist.
    """
    (port,) = free_ports(1)
    host, person = asyncssh.generate_private_key("ssh-ed25519"), asyncssh.generate_private_key("ssh-ed25519")
    for name, key in (("host", host), ("id", person)):
        key.write_private_key(folder / name)
        (folder / name).chmod(0o600)
    person.write_public_key(folder / "authorized")
    public = host.export_public_key("openssh").decode().strip()
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n")
    (folder / "sshd_config").write_text(_CONFIG.format(port=port, folder=folder))
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # where a server of root separates its privileges
    command = [sshd_program(), "-D", "-e", "-f", str(folder / "sshd_config")]
    with service(Spec("sshd", command, folder, lambda _: listens(port))):
        yield {
            "username": getpass.getuser(),
            "port": port,
            "client_keys": [str(folder / "id")],
            "known_hosts": str(folder / "known_hosts"),
        }


def sshd_program() -> str:
    """The server's program.

    Raises:
        RigError: there is none.
    """
    found = shutil.which("sshd") or shutil.which("sshd", path=_PLACES)
    if found is None:
        raise RigError("there is no SSH server: install Debian's package openssh-server")
    return found
