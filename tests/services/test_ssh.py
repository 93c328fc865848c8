"""`infra/cluster_specs/remote.yaml` on a real SSH server: scheduler and workers start over it, speak TLS, and end."""

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.certificates import ROLES, make_certificates
from infra.clusters import open_cluster
from infra.settings import Settings
from tests.infra.deploy_files import INFRA
from tests.services.sshd import sshd

pytestmark = pytest.mark.services


def _spec(folder: Path) -> dict[str, Any]:
    """The file as it stands, with the certificates of a folder."""
    spec = dict(yaml.safe_load((INFRA / "cluster_specs" / "remote.yaml").read_text(encoding="utf-8")))
    spec["dask_config"] = {
        key: str(value).replace("/etc/stakeweight", str(folder)) if "tls." in key else value
        for key, value in spec["dask_config"].items()
    }
    assert {Path(value).stem for key, value in spec["dask_config"].items() if key.endswith("cert")} == set(ROLES)
    return spec


def test_remote_yaml__starts_scheduler_and_workers_over_ssh_with_tls(tmp_path: Path) -> None:
    make_certificates(tmp_path / "tls", ["127.0.0.1"])
    spec = _spec(tmp_path)
    with sshd(tmp_path) as connect:
        kwargs = spec["cluster_kwargs"]
        assert len(kwargs["hosts"]) == 3
        kwargs |= {"hosts": ["127.0.0.1"] * 2, "remote_python": sys.executable}
        kwargs["connect_options"] |= connect
        kwargs["scheduler_options"] |= {"port": 0, "host": "127.0.0.1"}
        kwargs["worker_options"] |= {"n_workers": 2, "host": "127.0.0.1"}
        file = tmp_path / "cluster.yaml"
        file.write_text(yaml.safe_dump(spec), encoding="utf-8")
        with open_cluster(Settings(cluster=str(file), connect_limit_s=90)) as client:
            client.wait_for_workers(2, timeout=90)
            workers = client.scheduler_info(n_workers=-1)["workers"]
            assert client.scheduler.address.startswith("tls://")
            assert {address.partition(":")[0] for address in workers} == {"tls"}
            assert set(client.run(lambda: os.environ["NUMBA_NUM_THREADS"]).values()) == {"1"}
            pids = set(client.run(os.getpid).values())
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in pids) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert [pid for pid in pids if Path(f"/proc/{pid}").exists()] == []
