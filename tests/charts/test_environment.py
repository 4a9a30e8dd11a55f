"""Processes are told in a cluster what they are told on one machine, under the same names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from deploy.charts.catalogue import BY_NAME, WORKLOADS
from deploy.charts.render import EXAMPLES, UMBRELLA, documents, template
from deploy.local.plan import AGENTS, CLINICAL, HOSPITALS, PORT_NAMES, SERVICES, Plan
from services.kit.bus.owner import InstallationSettings
from services.kit.contracts import contract
from services.kit.settings import (
    KafkaSettings,
    MongoSettings,
    PlatformSettings,
    TlsSettings,
    read_settings,
    service_settings,
)
from services.kit.startup.environment import check_environment
from services.portal.settings import PortalSettings
from tests.charts.resources import Pod, Resources

#: What a cluster says beyond: who logs in and how, where to listen beside this machine, which of several
#: processes this is, how much is logged, and whom an agent calls (never another hospital).
BEYOND_KAFKA = {name for name in KafkaSettings.model_fields if name != "bootstrap_servers"}
BEYOND = {f"KAFKA_{name.upper()}" for name in BEYOND_KAFKA} | {
    "MONGODB_TLS_CA_FILE",
    "MONGODB_TLS_CERTIFICATE_KEY_FILE",
    "PHARMALOOP_LOG_LEVEL",
}
OWN = ("INSTANCE", "GRPC_HOST", "METRICS_HOST")


def _plan() -> Plan:
    ports = {name: number for number, name in enumerate(PORT_NAMES, start=20000)}
    return Plan(Path("/state"), ports, {})


def _local(process: str) -> set[str]:
    """Names that one process on one machine is told, without those of its neighbours."""
    plan, service = _plan(), process.partition(".")[0]
    own = next(program for program in plan.programs if program.name == process).environment
    others = {f"PHARMALOOP_{name}_".upper() for name in (*BY_NAME, "portal", "world") if name != service}
    shared = {
        name
        for name in plan.child_environment()
        if not name.startswith(tuple(others))
        and name.startswith(("PHARMALOOP_", "KAFKA_", "MONGODB_", "PYTHON"))
    }
    return shared | set(own)


def _pod_of(resources: Resources, process: str) -> Pod:
    site = {**CLINICAL, **AGENTS}.get(process, "")
    service = process.partition(".")[0]
    name = "-".join(filter(None, ("pharmaloop", service, site)))
    return resources.pod(name)


@pytest.fixture(scope="module")
def whole() -> Resources:
    """Everything that `make run` runs, in a cluster."""
    sites = [
        {"name": site, "displayName": name, "exposureKey": {"secretName": f"exposure-{site}"}}
        for site, name in HOSPITALS.items()
    ]
    text = template(UMBRELLA, [EXAMPLES / "minimal.yaml"], [f"sites={json.dumps(sites)}"])
    return Resources(documents(text))


@pytest.mark.parametrize("process", SERVICES)
def test_a_process_is_told_the_same_names(process: str, whole: Resources) -> None:
    pod, service = _pod_of(whole, process), process.partition(".")[0]
    beyond = BEYOND | {f"PHARMALOOP_{service}_{name}".upper() for name in OWN}
    beyond |= {f"PHARMALOOP_{service}_{called}".upper() for called in BY_NAME[service].calls}
    missing, more = _local(process) - set(pod.environment), set(pod.environment) - _local(process)
    if process in ("clinical", "agent"):
        # On one machine the first hospital's names stand in the common environment too.
        missing -= {name for name in missing if name.endswith(("_SITE", "_SITE_NAME"))}
    assert missing == set()
    assert more <= beyond
    assert json.loads(pod.environment["PHARMALOOP_SITES"]) == list(HOSPITALS)


def test_endpoints_have_the_names_of_one_machine(whole: Resources) -> None:
    local = json.loads(_plan().child_environment()["PHARMALOOP_ENDPOINTS"])
    pod = _pod_of(whole, "production")
    assert set(json.loads(pod.environment["PHARMALOOP_ENDPOINTS"])) == set(local)


def test_endpoints_lead_to_services_that_there_are(platform: Resources) -> None:
    there = {
        f"{service['metadata']['name']}:{port['port']}"
        for service in platform.of("Service")
        for port in service["spec"]["ports"]
    }
    for pod in platform.pods:
        told = json.loads(pod.environment.get("PHARMALOOP_ENDPOINTS", "{}"))
        assert set(told.values()) <= there, pod.name


def _plain(pod: Pod) -> dict[str, str]:
    """The environment as the process finds it, with stand-ins for what Kubernetes fills in."""
    values: dict[str, Any] = pod.environment
    return {name: value if isinstance(value, str) else "stand-in" for name, value in values.items()}


def test_every_service_understands_what_it_is_told(
    platform: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    owners = {topic.owner for topic in contract().topics}
    for pod in platform.processes:
        service = pod.labels["app.kubernetes.io/component"]
        cls = BY_NAME[service].spec.settings
        environment = _plain(pod)
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            check_environment(environment, service, cls, owners)
            settings = service_settings(service, cls)
            read_settings(KafkaSettings)
            read_settings(MongoSettings)
            read_settings(PlatformSettings)
            assert read_settings(TlsSettings).on == ("grpc" in pod.volumes), pod.name
        assert settings.grpc_port == pod.ports["grpc"], pod.name
        assert settings.metrics_port == pod.ports["metrics"], pod.name
        assert settings.health_port == pod.ports.get("health", 0), pod.name
        assert settings.grpc_host == settings.metrics_host == "0.0.0.0", pod.name
        assert getattr(settings, "site", "") == pod.labels.get("pharmaloop/site", ""), pod.name
        assert pod.command[2] == BY_NAME[service].module


def test_where_spans_go_is_told_as_the_settings_say_it(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "tracing.endpoint": "https://collector:4317",
        "tracing.ratio": 0.05,
        "networkPolicy.enabled": False,
    }
    sets = [f"{name}={json.dumps(value)}" for name, value in told.items()]
    for pod in Resources(documents(template(UMBRELLA, [EXAMPLES / "minimal.yaml"], sets))).processes:
        for name in ("PHARMALOOP_OTLP_ENDPOINT", "PHARMALOOP_TRACE_RATIO"):
            monkeypatch.setenv(name, pod.environment[name])
        platform = read_settings(PlatformSettings)
        assert (platform.otlp_endpoint, platform.trace_ratio) == ("https://collector:4317", 0.05)


def test_the_portal_and_the_migration_understand_what_they_are_told(
    production: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    portal, migrate = production.pod("pharmaloop-portal"), production.pod("pharmaloop-migrate")
    for name, value in {**_plain(portal), **_plain(migrate)}.items():
        monkeypatch.setenv(name, value)
    told = PortalSettings()
    assert (told.http_port, told.metrics_port) == (portal.ports["http"], portal.ports["metrics"])
    assert told.http_host == told.metrics_host == "0.0.0.0"
    kafka = read_settings(KafkaSettings)
    assert (kafka.replication_factor, kafka.min_insync_replicas) == (3, 2)
    assert migrate.command == ["python", *_plan().migrate_command()[1:]]


def test_a_release_claims_its_topics_by_its_namespace_and_name_and_takes_over_only_when_told(
    production: Resources, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in _plain(production.pod("pharmaloop-migrate")).items():
        monkeypatch.setenv(name, value)
    claim = read_settings(InstallationSettings)
    assert (claim.installation, claim.take_over) == ("pharma/pharmaloop", "")
    told = documents(template(UMBRELLA, [EXAMPLES / "minimal.yaml"], ['migration.takeOver="old/pharmaloop"']))
    for name, value in _plain(Resources(told).pod("pharmaloop-migrate")).items():
        monkeypatch.setenv(name, value)
    assert read_settings(InstallationSettings).take_over == "old/pharmaloop"


def test_each_process_is_an_instance_of_its_own(platform: Resources) -> None:
    """Static membership: a worker's name outlives it, for it is a member of a set."""
    for pod in platform.processes:
        service = pod.labels["app.kubernetes.io/component"]
        name = pod.environment[f"PHARMALOOP_{service}_INSTANCE".upper()]
        assert name == {"fieldRef": {"fieldPath": "metadata.name"}}, pod.name
        if pod.labels["pharmaloop/role"] in ("worker", "all"):
            assert pod.owner["kind"] == "StatefulSet", pod.name


def test_an_agent_calls_its_own_hospital(three_sites: Resources) -> None:
    for site in ("hospital-a", "hospital-b"):
        told = three_sites.pod(f"pharmaloop-agent-{site}").environment
        assert told["PHARMALOOP_AGENT_CLINICAL"] == f"pharmaloop-clinical-{site}:50051"
        assert told["PHARMALOOP_AGENT_EXCHANGE"] == "pharmaloop-exchange:50051"
    assert "pharmaloop-agent-hospital-c" not in three_sites.names("StatefulSet")


def test_a_site_may_have_its_own_database_and_its_own_way_to_the_backbone(three_sites: Resources) -> None:
    def told(letter: str) -> tuple[Any, Any]:
        found = three_sites.pod(f"pharmaloop-clinical-hospital-{letter}").environment
        return found["KAFKA_BOOTSTRAP_SERVERS"], found["MONGODB_URI"]["secretKeyRef"]

    usual = "backbone-kafka-bootstrap.kafka:9093"
    assert told("a") == (usual, {"name": "mongodb", "key": "uri"})
    assert told("b") == (usual, {"name": "mongodb-hospital-b", "key": "uri"})
    assert told("c") == (
        "backbone-hospital-c.kafka:9095",
        {"name": "mongodb-hospital-c", "key": "connection"},
    )


def test_a_service_logs_in_as_itself(production: Resources, three_sites: Resources) -> None:
    """With Strimzi the name of a user's Secret is the user's name."""
    users = {pod.name: pod.environment.get("KAFKA_SASL_PASSWORD") for pod in production.processes}
    assert users["pharmaloop-rnd-api"] == users["pharmaloop-rnd-worker"]
    names = {value["secretKeyRef"]["name"] for value in users.values() if value}
    assert {"kafka-rnd", "kafka-production", "kafka-clinical-hospital-b"} <= names
    client = three_sites.pod("pharmaloop-clinical-hospital-b").volumes["kafka-client"]
    assert client["secret"]["secretName"] == "pharmaloop-clinical-hospital-b"


def test_settings_of_services_arrive(production: Resources) -> None:
    told = production.pod("pharmaloop-alerting").environment
    assert told["PHARMALOOP_ALERTING_ESCALATE_CRITICAL_MINUTES"] == "3"
    assert json.loads(told["PHARMALOOP_ALERTING_ESCALATE_KIND_MINUTES"]) == {"no_run": 2}


def test_every_service_of_one_machine_is_in_the_catalogue() -> None:
    assert {process.partition(".")[0] for process in SERVICES} == {w.service for w in WORKLOADS}
