"""The compose files: valid, closed, and telling processes what the local run tells them."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import compose_spec
import pytest
import yaml

from deploy.images.catalogue import IMAGES
from deploy.local.plan import AGENTS, CLINICAL, PORT_NAMES, PORTAL, ROOT, SERVICES, WORLD, Plan, program_of
from services.kit.contracts import contract
from services.kit.settings import (
    KafkaSettings,
    MongoSettings,
    PlatformSettings,
    read_settings,
    service_settings,
)
from services.kit.startup.environment import check_environment
from services.portal.settings import PortalSettings
from tests.unit.images.composed import FILES, FOLDER, MADE, layered, load, merged, sources

PROCESSES = [*SERVICES, PORTAL]
#: Where a process listens beside the loopback, how much it logs and where its spans go: what one machine need
#: not be told.
BEYOND = (
    *("_GRPC_HOST", "_METRICS_HOST", "_HTTP_HOST"),
    *("PHARMALOOP_LOG_LEVEL", "PHARMALOOP_OTLP_ENDPOINT", "PHARMALOOP_TRACE_RATIO"),
)
OURS = ("PHARMALOOP_", "KAFKA_", "MONGODB_", "PYTHON")


def container(process: str) -> str:
    """The name of a process as a container: a dot in it would be a domain's."""
    return process.replace(".", "-")


@pytest.fixture(scope="module")
def base() -> dict[str, Any]:
    services: dict[str, Any] = load("compose.yaml")["services"]
    return services


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(Path("/state"), {name: number for number, name in enumerate(PORT_NAMES, 20000)}, {})


def _local(plan: Plan, process: str) -> dict[str, str]:
    """What one process is told by the local run, without what is said to its neighbours."""
    service = process.partition(".")[0]
    every = {name.partition(".")[0] for name in SERVICES} | {PORTAL, WORLD}
    others = tuple(f"PHARMALOOP_{name}_".upper() for name in every if name != service)
    own = next(program for program in plan.programs if program.name == process).environment
    shared = plan.child_environment()
    return {n: v for n, v in {**shared, **own}.items() if n.startswith(OURS) and not n.startswith(others)}


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_valid(name: str) -> None:
    parsed = compose_spec.PyCompose.from_yaml(merged(name))
    assert set(parsed.service_names()) == set(load(name)["services"])


def test_an_unknown_word_is_refused() -> None:
    wrong = merged("compose.yaml").replace("    restart:", "    restrat:", 1)
    with pytest.raises(ValueError, match="restrat"):
        compose_spec.PyCompose.from_yaml(wrong)


def test_every_process_of_the_local_run_is_there(base: dict[str, Any]) -> None:
    ours = {container(process) for process in PROCESSES}
    assert set(base) == ours | {"kafka", "mongodb", "migrate"}


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_is_told_the_same_names(process: str, base: dict[str, Any], plan: Plan) -> None:
    told, local = set(base[container(process)]["environment"]), set(_local(plan, process))
    assert local - told == set()
    assert {name for name in told - local if not name.endswith(BEYOND)} == set()


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_runs_the_same_program(process: str, base: dict[str, Any]) -> None:
    service = base[container(process)]
    image = IMAGES[re.sub(r"^pharmaloop-|:.*$", "", service["image"])]
    runs = service["entrypoint"][-1] if "entrypoint" in service else image.main
    assert runs == program_of(process)
    assert runs.split(".")[1] in image.packages
    assert service["build"]["args"]["IMAGE"] == image.name


@pytest.mark.parametrize("process", SERVICES)
def test_a_service_understands_what_it_is_told(
    process: str, base: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = __import__(program_of(process), fromlist=["SPEC"])
    cls = module.SPEC.settings
    environment: dict[str, str] = base[container(process)]["environment"]
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    service = process.partition(".")[0]
    check_environment(environment, service, cls, {topic.owner for topic in contract().topics})
    settings = service_settings(service, cls)
    platform, kafka = read_settings(PlatformSettings), read_settings(KafkaSettings)
    assert (settings.grpc_host, settings.grpc_port) == ("0.0.0.0", 50051)
    assert (settings.metrics_host, settings.metrics_port) == ("0.0.0.0", 9464)
    assert getattr(settings, "site", "") == {**CLINICAL, **AGENTS}.get(process, "")
    # The probe looks at the file that this very process writes.
    site = getattr(settings, "site", "")
    heartbeat = "-".join(filter(None, (service, site, settings.instance)))
    probe = base[container(process)]["healthcheck"]["test"]
    assert probe[-1] == f"{platform.state_dir}/alive/{heartbeat}.json"
    assert kafka.bootstrap_servers == "kafka:9092"
    assert read_settings(MongoSettings).uri.startswith("mongodb://mongodb:27017/")


def test_endpoints_lead_to_containers_and_have_the_local_names(base: dict[str, Any], plan: Plan) -> None:
    local = json.loads(plan.child_environment()["PHARMALOOP_ENDPOINTS"])
    for name, service in {**base, WORLD: layered(*FILES)[WORLD]}.items():
        if "PHARMALOOP_ENDPOINTS" in service.get("environment", {}):
            told = json.loads(service["environment"]["PHARMALOOP_ENDPOINTS"])
            assert told == {process: f"{container(process)}:50051" for process in local}, name


def test_the_portal_and_the_migration_understand_what_they_are_told(
    base: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**base["portal"]["environment"], **base["migrate"]["environment"]}.items():
        monkeypatch.setenv(name, value)
    portal = PortalSettings()
    assert (portal.http_host, portal.http_port) == ("0.0.0.0", 8080)
    assert (portal.metrics_host, portal.metrics_port) == ("0.0.0.0", 9464)
    # Platform time is the wall's: with a faster clock, deadlines of real patients would pass in minutes.
    assert read_settings(PlatformSettings).clock_speed == 1.0
    assert base["migrate"]["entrypoint"] == ["python", *Plan(Path("/s"), {}, {}).migrate_command()[1:]]


def test_our_containers_are_closed() -> None:
    for name, service in layered(*FILES).items():
        if "build" in service:
            assert service["user"] == "10001:10001", name
            assert service["read_only"] is True, name
            assert service["cap_drop"] == ["ALL"], name
            assert service["security_opt"] == ["no-new-privileges:true"], name


def test_ports_are_open_to_this_machine_alone() -> None:
    for name, service in layered(*FILES).items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), (name, port)


def test_nothing_starts_before_its_topics(base: dict[str, Any]) -> None:
    for process in SERVICES:
        assert base[container(process)]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"}
        }
    assert set(base["migrate"]["depends_on"]) == {"kafka", "mongodb"}


def test_versions_are_pinned_and_ours_is_the_projects() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for name, service in layered(*FILES).items():
        tag = service["image"].rpartition(":")[2]
        assert re.fullmatch(r"v?\d+\.\d+\.\d+", tag), name
        if "build" in service:
            assert tag == service["build"]["args"]["VERSION"] == version, name


def test_kafka_is_the_version_that_is_tested_with() -> None:
    pom = (ROOT / "deploy" / "local" / "pom.xml").read_text()
    tested = re.findall(r"<kafka.version>(.+?)<", pom)
    assert [load("compose.yaml")["services"]["kafka"]["image"].rpartition(":")[2]] == tested


def test_a_password_is_demanded() -> None:
    with pytest.raises(KeyError, match="PHARMALOOP_GRAFANA_PASSWORD: choose"):
        load("compose.observability.yaml", {})


def test_files_that_are_mounted_exist() -> None:
    for name, service in layered(*FILES).items():
        for source in sources(service):
            if source.startswith(".") and not source.startswith(MADE):
                assert (FOLDER / source).exists(), (name, source)


def test_volumes_are_declared() -> None:
    for name in FILES:
        declared = set(load("compose.yaml").get("volumes", {})) | set(load(name).get("volumes", {}))
        for service in load(name)["services"].values():
            assert {source for source in sources(service) if not source.startswith(".")} <= declared


def test_prometheus_is_told_what_it_is_told_elsewhere() -> None:
    own = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    shipped = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yaml").read_text())
    found = own["scrape_configs"][0].pop("static_configs")
    shipped["scrape_configs"][0].pop("file_sd_configs")
    own["alerting"]["alertmanagers"][0].pop("static_configs")
    shipped["alerting"]["alertmanagers"][0].pop("static_configs")
    assert own == shipped
    sites = {**CLINICAL, **AGENTS}
    assert found == [
        {
            "targets": [f"{container(process)}:9464"],
            "labels": {
                "service": process.partition(".")[0],
                "process": process,
                **({"site": sites[process]} if process in sites else {}),
            },
        }
        for process in PROCESSES
    ]
