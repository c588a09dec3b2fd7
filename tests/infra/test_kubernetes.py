"""The manifests are what Kubernetes takes, and keep to what a careful cluster asks of them."""

from __future__ import annotations

import base64
from pathlib import Path

import kubernetes_validate
import pytest

from tests.infra.support import SECRETS, Resource, build, pods

STORES = {"consul", "minio"}


@pytest.mark.parametrize("version", ["1.25", "1.31", "1.37"])
def test_every_manifest_is_what_this_kubernetes_takes(resources: list[Resource], version: str) -> None:
    for resource in resources:
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_misspelt_field_would_be_found(resources: list[Resource]) -> None:
    service = next(resource for resource in resources if resource["kind"] == "Service")
    misspelt = service | {"spec": service["spec"] | {"selektor": {}}}

    with pytest.raises(kubernetes_validate.ValidationError, match="selektor"):
        kubernetes_validate.validate(misspelt, "1.37", strict=True)


def test_the_manifests_hold_the_ledger_the_data_store_and_tracing_and_nothing_outside_the_two_namespaces(
    resources: list[Resource],
) -> None:
    started = dict(pods(resources))
    namespaces = {resource["metadata"].get("namespace") for resource in resources if resource["kind"] != "Namespace"}

    assert started.keys() == {"consul", "minio", "jaeger"}
    assert namespaces == {"faasflow", "openfaas-fn"}


def test_secrets_are_made_from_the_files_of_the_reader_under_the_names_that_functions_ask_for(
    resources: list[Resource],
) -> None:
    secrets = {
        (resource["metadata"]["namespace"], resource["metadata"]["name"]): {
            key: base64.b64decode(value).decode().strip() for key, value in resource["data"].items()
        }
        for resource in resources
        if resource["kind"] == "Secret"
    }

    assert secrets == {
        **{("openfaas-fn", name): {name: value} for name, value in SECRETS.items()},
        ("faasflow", "minio-keys"): {name: SECRETS[name] for name in ("s3-access-key", "s3-secret-key")},
    }


@pytest.mark.parametrize("secret", SECRETS)
def test_nothing_is_built_when_a_secret_was_not_made(tmp_path: Path, secret: str) -> None:
    built = build(tmp_path / "kubernetes", without=secret)

    assert built.returncode != 0
    assert secret in built.stderr


def test_every_container_has_a_pinned_image_probes_requests_and_limits(resources: list[Resource]) -> None:
    for name, pod in pods(resources):
        for container in pod["containers"]:
            tag = container["image"].rpartition(":")[2]
            assert any(map(str.isdigit, tag)), name
            assert tag != "latest", name
            assert container["readinessProbe"], name
            assert container["livenessProbe"], name
            assert container["resources"]["limits"].keys() == {"cpu", "memory"}, name
            assert container["resources"]["requests"].keys() == {"cpu", "memory"}, name


def test_every_pod_keeps_to_the_restricted_pod_security_standard_that_its_namespace_enforces(
    resources: list[Resource],
) -> None:
    namespace = next(resource for resource in resources if resource["kind"] == "Namespace")
    for name, pod in pods(resources):
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, name

    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_what_must_survive_a_restart_is_on_a_volume_of_its_own_and_owned_by_one_process(
    resources: list[Resource],
) -> None:
    kept = {
        resource["metadata"]["name"]: resource["spec"]
        for resource in resources
        if resource.get("spec", {}).get("volumeClaimTemplates")
    }

    assert kept.keys() == STORES
    for spec in kept.values():
        (claim,) = spec["volumeClaimTemplates"]
        (container,) = spec["template"]["spec"]["containers"]
        mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert spec["replicas"] == 1
        assert any(mounted[claim["metadata"]["name"]] in part for part in container["command"])


def test_every_service_leads_to_ports_that_its_pod_has(resources: list[Resource]) -> None:
    ports = {
        name: {port["name"]: (port["containerPort"], port.get("protocol", "TCP")) for port in container["ports"]}
        for name, pod in pods(resources)
        for container in pod["containers"]
    }
    for service in (resource for resource in resources if resource["kind"] == "Service"):
        leads = {port["targetPort"]: (port["port"], port.get("protocol", "TCP")) for port in service["spec"]["ports"]}
        assert leads == ports[service["spec"]["selector"]["app.kubernetes.io/name"]]
        assert service["spec"].get("type", "ClusterIP") == "ClusterIP"


def test_only_functions_are_let_in(resources: list[Resource]) -> None:
    policies = [resource["spec"] for resource in resources if resource["kind"] == "NetworkPolicy"]
    peers = [peer for policy in policies for rule in policy.get("ingress", []) for peer in rule["from"]]

    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in policies
    assert len(peers) == 3
    for peer in peers:
        assert peer == {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "openfaas-fn"}}}
