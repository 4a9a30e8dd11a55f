"""Certificates of gRPC: each who serves or calls has its own, for the names under which it is called."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.charts.render import EXAMPLES, UMBRELLA, documents, template
from deploy.local.plan import PORT_NAMES, Plan
from tests.charts.resources import Pod, Resources
from tests.unit.images.composed import layered

FOLDER = "/etc/pharmaloop/grpc"
VARIABLES = {f"PHARMALOOP_TLS_{name}" for name in ("CERT", "KEY", "CA")}


@pytest.fixture(scope="module")
def own() -> Resources:
    """With Secrets that a user brings, under other keys than cert-manager's, and the simulated industry."""
    sets = [
        "grpcTls.enabled=true",
        'grpcTls.secretName="ours"',
        'grpcTls.certificateKey="chain.pem"',
        "demo.enabled=true",
        'demo.clock.anchor="2026-11-27T09:00:00+00:00"',
    ]
    return Resources(documents(template(UMBRELLA, [EXAMPLES / "minimal.yaml"], sets)))


def callers(resources: Resources) -> list[Pod]:
    """Whoever is told where services listen."""
    return [pod for pod in resources.pods if "PHARMALOOP_ENDPOINTS" in pod.environment]


def secret_of(pod: Pod) -> str:
    return str(pod.volumes["grpc"]["secret"]["secretName"])


def test_who_calls_or_serves_has_a_certificate_and_nobody_else(production: Resources) -> None:
    names = {pod.name for pod in callers(production)}
    assert {"pharmaloop-portal", "pharmaloop-test", "pharmaloop-production-worker"} <= names
    for pod in production.pods:
        assert ("grpc" in pod.volumes) == (pod.name in names), pod.name
        assert (set(pod.environment) >= VARIABLES) == (pod.name in names), pod.name
        for variable in VARIABLES & set(pod.environment):
            assert str(pod.environment[variable]).startswith(f"{FOLDER}/"), pod.name
    for pod in callers(production):
        mount = pod.mounts[FOLDER]
        assert mount["readOnly"] is True
        assert "subPath" not in mount, "a file that is mounted so is never renewed"


def test_a_certificate_is_for_the_names_under_which_its_service_is_called(production: Resources) -> None:
    certificates = {one["spec"]["secretName"]: one["spec"] for one in production.of("Certificate")}
    told = json.loads(production.pod("pharmaloop-portal").environment["PHARMALOOP_ENDPOINTS"])
    hosts = {address.partition(":")[0] for address in told.values()}
    for pod in production.processes:
        spec = certificates[secret_of(pod)]
        (host,) = hosts & set(spec["dnsNames"])
        assert f"{host}.pharma.svc" in spec["dnsNames"]
        service = production.named("Service", host)["spec"]["selector"]
        assert service["app.kubernetes.io/component"] == pod.labels["app.kubernetes.io/component"]
        assert service.get("pharmaloop/site") == pod.labels.get("pharmaloop/site")
        assert spec["usages"] == ["server auth", "client auth"], "agents and services call others"
    assert hosts <= {name for spec in certificates.values() for name in spec.get("dnsNames", [])}


def test_certificates_are_renewed_in_good_time_and_by_one_issuer(production: Resources) -> None:
    specs = [one["spec"] for one in production.of("Certificate") if one["spec"]["secretName"] != "portal-tls"]
    assert len({spec["secretName"] for spec in specs}) == len(specs) > 10
    for spec in specs:
        assert spec["issuerRef"] == {"name": "internal", "kind": "ClusterIssuer", "group": "cert-manager.io"}
        assert spec["privateKey"]["rotationPolicy"] == "Always"
        hours = {name: int(spec[name].removesuffix("h")) for name in ("duration", "renewBefore")}
        assert hours["renewBefore"] * 3600 > 14 * 86_400, "before anybody is told that it expires"
        assert hours["duration"] >= 2 * hours["renewBefore"]
    callers_alone = {spec["commonName"] for spec in specs if spec["usages"] == ["client auth"]}
    assert callers_alone == {"portal", "test"}


def test_who_brings_certificates_is_told_which_and_for_which_names(own: Resources) -> None:
    assert own.of("Certificate") == []
    named = {secret_of(pod): pod for pod in callers(own)}
    assert {"ours-portal", "ours-test", "ours-world", "ours-clinical-hospital-a"} <= set(named)
    assert named.keys() <= own.secrets.keys()
    said = own.secrets["ours-clinical-hospital-a"]
    assert said.startswith("chain.pem, tls.key, ca.crt: certificate and key for gRPC")
    assert "for the name pharmaloop-clinical-hospital-a" in said
    assert "it only calls" in own.secrets["ours-portal"]
    for pod in named.values():
        assert pod.environment["PHARMALOOP_TLS_CERT"] == f"{FOLDER}/chain.pem", pod.name


def test_the_local_run_and_compose_tell_of_certificates_by_the_same_names(production: Resources) -> None:
    """And inside a container the files stand in the same folder."""
    ports = {name: number for number, name in enumerate(PORT_NAMES, start=20000)}
    local = Plan(Path("/state"), ports, dict.fromkeys(VARIABLES, "x")).child_environment()
    composed = layered("compose.yaml", "compose.tls.yaml")["rnd"]["environment"]
    for told in (local, composed, *(pod.environment for pod in production.processes)):
        assert {name for name in told if name.startswith("PHARMALOOP_TLS_")} == VARIABLES
    assert {Path(composed[variable]).parent for variable in VARIABLES} == {Path(FOLDER)}


def test_without_it_nothing_of_it_is_there(three_sites: Resources) -> None:
    assert three_sites.of("Certificate") == []
    for pod in three_sites.pods:
        assert "grpc" not in pod.volumes
        assert not VARIABLES & set(pod.environment)
        assert "health" not in pod.ports
