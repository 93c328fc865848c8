"""infra/cluster_specs: each file is read, and what stands in it starts the cluster it describes.

Slurm has two scripts in its place: `sbatch` and `scancel`, which run a job here. Scheduler, workers, TLS and
the packages that start them are the real ones. Of Kubernetes only the request is made and held against the operator's
own schema. SSH has a server of its own in `tests/services/test_ssh.py`.
"""

import gc
import importlib
import inspect
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import distributed
import jsonschema
import pytest
import yaml
from distributed import Nanny

from infra.clusters import open_cluster, read_spec
from infra.errors import InfraError
from infra.settings import Settings
from tests.infra.deploy_files import INFRA, planted
from tests.infra.test_deploy_kubernetes import operator_schema

FOLDER = INFRA / "cluster_specs"
SPECS = sorted(FOLDER.glob("*.yaml"))
_JOB = """#!/bin/sh
# {name}: keeps a copy of the job, as Slurm does, runs it here in a process group of its own, and tells its number.
job={log}.$$
cp "$1" "$job"
setsid sh "$job" >>{log} 2>&1 &
echo "Submitted batch job $!"
"""
_CANCEL = """#!/bin/sh
for job in "$@"; do kill -TERM -- "-$job"; done
"""


def _text(spec: str) -> dict[str, Any]:
    return dict(yaml.safe_load((FOLDER / spec).read_text(encoding="utf-8")))


def _write(folder: Path, spec: dict[str, Any]) -> str:
    path = folder / "cluster.yaml"
    path.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return str(path)


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_cluster_specs__every_file_is_read_and_its_class_takes_the_arguments(path: Path) -> None:
    spec = read_spec(str(path))
    module, _, name = spec.cluster_class.rpartition(".")
    kind = getattr(importlib.import_module(module), name)
    signature = inspect.signature(kind)
    signature.bind(**spec.cluster_kwargs)
    passed_on = {"SLURMCluster": _slurm_arguments(), "LocalCluster": set(inspect.signature(Nanny).parameters)}
    assert spec.cluster_kwargs.keys() <= signature.parameters.keys() | passed_on.get(name, set())


def _slurm_arguments() -> set[str]:
    from dask_jobqueue.core import Job, JobQueueCluster
    from dask_jobqueue.slurm import SLURMJob

    return {each for kind in (Job, SLURMJob, JobQueueCluster) for each in inspect.signature(kind).parameters}


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("slurm.yaml", "cluster_kwargs:", "cluster_kwarg:"),
        ("remote.yaml", "dask_config:", "dask:"),
        ("kubernetes.yaml", "cluster_class: dask_kubernetes.operator.KubeCluster", "cluster: KubeCluster"),
    ],
)
def test_cluster_specs__a_misspelt_key_is_refused(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    with pytest.raises(InfraError, match="and may have"):
        read_spec(str(planted(FOLDER / name, right, wrong, tmp_path / name)))


def _dask_settings() -> set[str]:
    def paths(node: Any, above: str) -> Iterator[str]:
        yield above
        for key, value in node.items() if isinstance(node, dict) else ():
            yield from paths(value, f"{above}.{key}")

    shipped = yaml.safe_load((Path(distributed.__file__).parent / "distributed.yaml").read_text())
    return set(paths(shipped["distributed"], "distributed"))


@pytest.mark.parametrize("path", SPECS, ids=lambda path: path.name)
def test_cluster_specs__dask_knows_every_setting(path: Path) -> None:
    """Dask takes any key, and a misspelt one does nothing; variables of a worker's environment may have any name."""
    own = {key for key in read_spec(str(path)).dask_config if ".pre-spawn-environ." not in key}
    assert own <= _dask_settings()


def test_kubernetes_yaml__asks_the_operator_for_what_its_schema_takes() -> None:
    from dask_kubernetes.operator import make_cluster_spec

    kwargs = _text("kubernetes.yaml")["cluster_kwargs"]
    known = inspect.signature(make_cluster_spec).parameters
    made = make_cluster_spec(**{key: value for key, value in kwargs.items() if key in known})
    jsonschema.validate(made, operator_schema("DaskCluster"))
    [container] = made["spec"]["worker"]["spec"]["containers"]
    assert container["args"][:4] == ["dask", "worker", "--nthreads=1", "--nworkers=1"]
    assert [each for each in container["env"] if "KEY" in each["name"] and "valueFrom" not in each] == []
    assert (made["spec"]["worker"]["replicas"], container["image"]) == (4, "stakeweight-cpu:0.1.0")
    made["spec"]["worker"]["replicas"] = "four"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(made, operator_schema("DaskCluster"))


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The file as it stands, but for the paths of this machine and the size of a job; `sbatch` runs it here."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", _JOB), ("scancel", _CANCEL)):
        (programs / name).write_text(text.format(name=name, log=tmp_path / "job.log") if name == "sbatch" else text)
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    spec = _text("slurm.yaml")
    here = {"python": sys.executable, "local_directory": str(tmp_path), "shared_temp_directory": str(tmp_path)}
    small = {"cores": 2, "processes": 2, "memory": "2GB", "n_workers": 2}
    spec["cluster_kwargs"] |= here | small
    return _write(tmp_path, spec)


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # dask-jobqueue leaves the files of its certificates open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_slurm_yaml__a_job_gives_workers_that_speak_tls_and_goes_with_the_command(slurm: str, tmp_path: Path) -> None:
    with open_cluster(Settings(cluster=slurm, connect_limit_s=90)) as client:
        client.wait_for_workers(2, timeout=90)
        workers = client.scheduler_info(n_workers=-1)["workers"]
        assert {address.partition(":")[0] for address in workers} == {"tls"}
        assert {worker["nthreads"] for worker in workers.values()} == {1}
        assert set(client.run(lambda: os.environ["NUMBA_NUM_THREADS"]).values()) == {"1"}
        script = client.cluster.job_script()
        assert "#SBATCH --cpus-per-task=2" in script
        assert "#SBATCH -p compute" in script
        pids = set(client.run(os.getpid).values())
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in pids):
            break
        threading.Event().wait(0.2)
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids), (tmp_path / "job.log").read_text()
    del client
    gc.collect()  # so that what it left open is closed in this test
