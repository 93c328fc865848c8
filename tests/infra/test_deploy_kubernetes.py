"""infra/kubernetes: schemas of Kubernetes and of the Dask operator, and what schemas cannot say about pods.

The schemas come with packages, so nothing is asked of a cluster. The version is that of the oldest Kubernetes that is
still supported upstream.
"""

import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from infra.healthy import PARTS
from infra.settings import PREFIX, Settings
from tests.infra.deploy_files import INFRA, SECRET_NAME, documents, planted, stages

FOLDER = INFRA / "kubernetes"
MANIFESTS = sorted(path for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml")
OPTIONAL = {"dask-gpu-workers.yaml", "rounds.yaml"}
KUBERNETES = "1.34"
SECRETS = {"postgres", "prefect-auth", "object-store", "dask-scheduler-tls", "dask-worker-tls", "dask-client-tls"}


def operator_schema(kind: str) -> dict[str, Any]:
    """The schema of one of the operator's resources, closed: Kubernetes drops unknown keys, we refuse them."""
    folder = resources.files("dask_kubernetes") / "operator/deployment/helm/dask-kubernetes-operator/crds"
    definition = yaml.safe_load((folder / f"{kind.lower()}.yaml").read_text(encoding="utf-8"))
    [version] = definition["spec"]["versions"]
    return dict(_closed({"type": "object", **version["schema"]["openAPIV3Schema"]}))


def _closed(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    open_ended = schema.get("x-kubernetes-preserve-unknown-fields") or "additionalProperties" in schema
    if isinstance(schema.get("properties"), dict) and not open_ended:
        known = closed["properties"]
        if "spec" in known and "status" in known:  # the resource itself
            closed["properties"] = {**known, "apiVersion": {}, "kind": {}, "metadata": {}}
        closed["additionalProperties"] = False
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


def _schema_problems(path: Path) -> Iterator[str]:
    for document in documents(path):
        try:
            if document["apiVersion"] == "kubernetes.dask.org/v1":
                jsonschema.validate(document, operator_schema(document["kind"]))
            else:
                kubernetes_validate.validate(document, KUBERNETES, strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            yield str(error.message)


def _pods(node: Any) -> Iterator[dict[str, Any]]:
    """Every pod specification below a node."""
    if isinstance(node, list):
        for each in node:
            yield from _pods(each)
    if isinstance(node, dict):
        if "containers" in node:
            yield node
        else:
            yield from _pods(list(node.values()))


def _problems(path: Path) -> Iterator[str]:
    for document in documents(path):
        if document["kind"] == "Secret":
            yield "a secret belongs into no file"
        if document["kind"] not in ("Namespace", "Kustomization") and "namespace" not in document["metadata"]:
            yield f"{document['kind']} {document['metadata']['name']} is in no namespace"
        for pod in _pods(document):
            yield from _pod_problems(pod)


def _pod_problems(pod: dict[str, Any]) -> Iterator[str]:
    context = pod.get("securityContext", {})
    if context.get("runAsNonRoot") is not True or not context.get("runAsUser"):
        yield "a pod may run as root"
    if pod.get("enableServiceLinks") is not False:
        yield f"a pod gets variables of services, and a run refuses unknown {PREFIX}*"
    if pod.get("automountServiceAccountToken") is not False:
        yield "a pod holds a token of the cluster"
    volumes = {each["name"]: each for each in pod.get("volumes", [])} | {"data": {}}
    used = {each["secret"]["secretName"] for each in volumes.values() if "secret" in each}
    for container in [*pod.get("initContainers", []), *pod["containers"]]:
        name = container["name"]
        used |= set(re.findall(r"secret(?:Key)?Ref': \{'name': '([\w-]+)'", str(container)))
        own = container.get("securityContext", {})
        if own.get("allowPrivilegeEscalation") is not False or own.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{name} may gain privileges"
        if "memory" not in container.get("resources", {}).get("limits", {}):
            yield f"{name} has no limit of memory"
        for each in container.get("env", []):
            if SECRET_NAME.search(each["name"]) and "valueFrom" not in each:
                yield f"{name}: {each['name']} holds a secret"
        for each in container.get("volumeMounts", []):
            if each["name"] not in volumes:
                yield f"{name}: no volume {each['name']}"
        if re.search(r":[\w.-]*\d", container["image"]) is None:
            yield f"{name}: the image has no version"
        if container.get("args", [])[:1] == ["dask"] and "tls" not in str(container["args"]):
            yield f"{name} does not speak TLS"
    yield from (f"there is no secret {each}" for each in used - SECRETS)
    for container in pod["containers"]:
        if not {"readinessProbe", "livenessProbe"} <= container.keys():
            yield f"{container['name']} lacks a probe"


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.name)
def test_kubernetes__every_manifest_is_valid_and_safe(path: Path) -> None:
    assert list(_schema_problems(path)) == []
    assert list(_problems(path)) == []


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("postgres.yaml", "volumeClaimTemplates", "volumeClaimTemplate"),
        ("prefect-server.yaml", "readinessProbe", "readynessProbe"),
        ("prefect-server.yaml", "replicas: 1", "replicas: one"),
        ("prefect-worker.yaml", "terminationGracePeriodSeconds", "terminationGraceSeconds"),
        ("network.yaml", "podSelector", "podselector"),
        ("disruption.yaml", "maxUnavailable", "maxUnavailabel"),
        ("dask-cluster.yaml", "livenessProbe", "livelinessProbe"),
        ("dask-cluster.yaml", "  worker:\n", "  workers:\n"),
        ("dask-cluster.yaml", "replicas: 4", "replicas: four"),
        ("dask-gpu-workers.yaml", "  cluster: stakeweight", "  clustre: stakeweight"),
        ("dask-gpu-workers.yaml", "tolerations", "toleration"),
    ],
)
def test_kubernetes__a_schema_refuses_a_planted_mistake(name: str, right: str, wrong: str, tmp_path: Path) -> None:
    assert list(_schema_problems(planted(FOLDER / name, right, wrong, tmp_path / name)))


@pytest.mark.parametrize(
    ("name", "right", "wrong", "problem"),
    [
        ("prefect-server.yaml", "runAsNonRoot: true", "runAsNonRoot: false", "as root"),
        ("dask-cluster.yaml", "runAsUser: 10001", "runAsUser: 0", "as root"),
        ("dask-cluster.yaml", "enableServiceLinks: false", "enableServiceLinks: true", "variables of services"),
        ("prefect-worker.yaml", "automountServiceAccountToken: false", "hostNetwork: false", "token"),
        ("dask-gpu-workers.yaml", "capabilities: {drop: [ALL]}", "capabilities: {}", "privileges"),
        ("postgres.yaml", "limits: {cpu", "requests: {cpu", "no limit"),
        ("postgres.yaml", "name: run, mountPath", "name: rnu, mountPath", "no volume"),
        ("dask-cluster.yaml", "dask-worker-tls", "dask-wrker-tls", "no secret"),
        ("prefect-server.yaml", "name: prefect-auth", "name: prefect-aut", "no secret"),
        ("prefect-server.yaml", "livenessProbe", "lifecycle", "lacks a probe"),
        ("prefect-worker.yaml", "stakeweight-cpu:0.1.0", "stakeweight-cpu", "no version"),
        ("dask-cluster.yaml", "tls", "tcp", "does not speak TLS"),
    ],
)
def test_kubernetes__a_planted_risk_is_found(name: str, right: str, wrong: str, problem: str, tmp_path: Path) -> None:
    found = list(_problems(planted(FOLDER / name, right, wrong, tmp_path / name)))
    assert any(problem in each for each in found), found


def test_kubernetes__restarts_a_part_that_hangs_after_the_time_that_compose_and_systemd_allow_too() -> None:
    parts = {
        "prefect-server.yaml": ["prefect-server"],
        "prefect-worker.yaml": ["prefect-worker"],
        "dask-cluster.yaml": ["dask-scheduler", "dask-worker"],
        "dask-gpu-workers.yaml": ["dask-worker"],
    }
    for name, expected in parts.items():
        pods = [pod for document in documents(FOLDER / name) for pod in _pods(document)]
        probes = [container["livenessProbe"] for pod in pods for container in pod["containers"]]
        found = [each["periodSeconds"] * each["failureThreshold"] for each in probes]
        assert found == [PARTS[part].patience_s for part in expected], name


def test_kubernetes__whoever_has_the_keys_of_the_store_has_its_region() -> None:
    [settings] = documents(FOLDER / "settings.yaml")
    assert "AWS_REGION" in settings["data"]
    keyed = [
        container
        for path in MANIFESTS
        for document in documents(path)
        for pod in _pods(document)
        for container in pod["containers"]
        if "'object-store'" in str(container)
    ]
    assert len(keyed) == 3
    assert [each["name"] for each in keyed if not re.search(r"configMapRef|'key': 'AWS_REGION'", str(each))] == []


def test_kubernetes__the_settings_are_those_that_a_run_knows() -> None:
    [settings] = documents(FOLDER / "settings.yaml")
    own = {key.removeprefix(PREFIX).lower() for key in settings["data"] if key.startswith(PREFIX)}
    assert own
    assert own <= Settings.model_fields.keys()
    assert all(isinstance(value, str) for value in settings["data"].values())


def test_kubernetes__services_and_policies_select_pods_that_are_there() -> None:
    everything = [each for path in MANIFESTS for each in documents(path)]
    labels = [
        each["spec"]["template"]["metadata"]["labels"] for each in everything if "template" in each.get("spec", {})
    ]
    labels += [{"dask.org/cluster-name": "stakeweight", "dask.org/component": part} for part in ("scheduler", "worker")]
    selectors = [
        each["spec"]["selector"].get("matchLabels", each["spec"]["selector"])
        for each in everything
        if each["kind"] in ("Service", "PodDisruptionBudget")
    ]
    selectors += [match["podSelector"]["matchLabels"] for match in _selecting(everything)]
    assert len(selectors) >= 8
    assert [wanted for wanted in selectors if not any(wanted.items() <= each.items() for each in labels)] == []


def _selecting(node: Any) -> Iterator[dict[str, Any]]:
    for each in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        if isinstance(each, dict) and "matchLabels" in each.get("podSelector", {}):
            yield each
        yield from _selecting(each)


def test_kubernetes__the_operator_leaves_the_address_with_tls_alone() -> None:
    """It adds DASK_SCHEDULER_ADDRESS as tcp:// to every worker that does not set it."""
    from dask_kubernetes.operator.controller.controller import build_worker_deployment_spec

    [cluster], [group] = documents(FOLDER / "dask-cluster.yaml"), documents(FOLDER / "dask-gpu-workers.yaml")
    for spec in (cluster["spec"]["worker"]["spec"], group["spec"]["worker"]["spec"]):
        made = build_worker_deployment_spec("default", "stakeweight", "stakeweight", "1", spec, {}, {})
        [pod] = _pods(made)
        addresses = [each["value"] for each in pod["containers"][0]["env"] if "ADDRESS" in each["name"]]
        assert addresses == ["tls://stakeweight-scheduler:8786"]
        assert "DASK_WORKER_NAME" in {each["name"] for each in pod["containers"][0]["env"]}


def test_kubernetes__only_the_gpu_group_offers_a_gpu_and_runs_the_gpu_image() -> None:
    offering = {path.name for path in MANIFESTS if "--resources=GPU=1" in path.read_text()}
    assert offering == {path.name for path in MANIFESTS if 'nvidia.com/gpu: "1"' in path.read_text()}
    assert offering == {path.name for path in MANIFESTS if "stakeweight-gpu:" in path.read_text()}
    assert offering == {"dask-gpu-workers.yaml"}
    assert {"cpu", "gpu"} <= stages(INFRA / "Dockerfile").keys()


def test_kustomization__takes_every_manifest_but_the_optional_ones() -> None:
    [kustomization] = documents(FOLDER / "kustomization.yaml")
    assert sorted(kustomization["resources"]) == sorted(path.name for path in MANIFESTS if path.name not in OPTIONAL)
    assert "  # - dask-gpu-workers.yaml" in (FOLDER / "kustomization.yaml").read_text()


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed here")
def test_kustomization__sets_the_version_of_every_image(tmp_path: Path) -> None:
    for path in MANIFESTS:
        shutil.copy(path, tmp_path)
    target = planted(FOLDER / "kustomization.yaml", "newTag: 0.1.0", "newTag: 7.7.7", tmp_path / "kustomization.yaml")
    target.write_text(target.read_text().replace("  # - dask-gpu", "  - dask-gpu"))
    result = subprocess.run(["kubectl", "kustomize", tmp_path], capture_output=True, text=True, check=True)
    images = set(re.findall(r"image: (\S+)", result.stdout))
    assert images == {"stakeweight-cpu:7.7.7", "stakeweight-gpu:7.7.7", "postgres:15.14-bookworm"}
