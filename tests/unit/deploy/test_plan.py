"""What the processes of a stack are told."""

import json
from configparser import ConfigParser
from pathlib import Path
from typing import cast

import pytest

from deploy.local.plan import PORT_NAMES, SERVICES, Plan, port_name
from deploy.local.supervised import Supervisor
from services.clinical.main import ClinicalSettings
from services.exchange.evaluator.main import EvaluatorSettings
from services.exchange.main import ExchangeSettings
from services.exchange.site.main import AgentSettings
from services.kit.contracts import contract
from services.kit.settings import ServiceSettings
from services.kit.startup.environment import check_environment


def plan(state: Path, environment: dict[str, str] | None = None, only: tuple[str, ...] = ()) -> Plan:
    ports = {name: 1000 + index for index, name in enumerate(PORT_NAMES)}
    return Plan(state, ports, environment or {}, frozenset(only), world_options=("--seed", "3"))


def test_children_get_their_ports_the_engines_and_every_endpoint(tmp_path: Path) -> None:
    stack = plan(tmp_path)
    told = stack.child_environment()
    assert told["KAFKA_BOOTSTRAP_SERVERS"] == f"127.0.0.1:{stack.ports['kafka']}"
    assert told["MONGODB_URI"] == f"mongodb://127.0.0.1:{stack.ports['mongodb']}/?replicaSet=rs0"
    assert told["PHARMALOOP_STATE_DIR"] == str(tmp_path)
    assert json.loads(told["PHARMALOOP_SITES"]) == ["hospital-a", "hospital-b", "hospital-c"]
    assert told["PHARMALOOP_RND_GRPC_PORT"] == str(stack.ports["rnd_grpc"])
    assert told["PHARMALOOP_WORLD_METRICS_PORT"] == str(stack.ports["world_metrics"])
    assert json.loads(told["PHARMALOOP_ENDPOINTS"]) == {
        service: f"127.0.0.1:{stack.ports[port_name(service, 'grpc')]}" for service in SERVICES
    }


@pytest.mark.parametrize(
    ("service", "module"),
    [("clinical", "services.clinical.main"), ("agent", "services.exchange.site.main")],
)
def test_every_hospital_is_a_process_with_its_own_site_and_ports(
    tmp_path: Path, service: str, module: str
) -> None:
    """All are told the same, but for what makes each the process of its site."""
    stack = plan(tmp_path)
    told = {program.name: program for program in stack.programs if program.name.startswith(service)}
    assert list(told) == [service, f"{service}.hospital-b", f"{service}.hospital-c"]
    assert {program.command[-3] for program in told.values()} == {module}
    prefix = f"PHARMALOOP_{service.upper()}_"
    sites = {name: program.environment[f"{prefix}SITE"] for name, program in told.items()}
    assert list(sites.values()) == json.loads(stack.child_environment()["PHARMALOOP_SITES"])
    grpc = cast(dict[str, str], stack.endpoints()["grpc"])
    for name, program in told.items():
        assert grpc[name].endswith(f":{program.environment[f'{prefix}GRPC_PORT']}")
        assert [port for _, port, _ in stack.listening(name)] == [
            int(program.environment[f"{prefix}{kind}_PORT"]) for kind in ("GRPC", "METRICS")
        ]


def test_only_the_processes_of_hospitals_are_told_something_of_their_own(tmp_path: Path) -> None:
    own = [program.name for program in plan(tmp_path).programs if program.environment]
    assert {name.partition(".")[0] for name in own} == {"clinical", "agent"}


def test_no_process_is_told_a_setting_that_it_does_not_have(tmp_path: Path) -> None:
    """A service refuses to start with an unknown variable of its own."""
    stack = plan(tmp_path)
    for program in stack.programs:
        if program.name in SERVICES:
            told = {**stack.child_environment(), **program.environment}
            service = program.name.partition(".")[0]
            own: dict[str, type[ServiceSettings]] = {
                "clinical": ClinicalSettings,
                "agent": AgentSettings,
                "exchange": ExchangeSettings,
                "evaluator": EvaluatorSettings,
            }
            owners = {topic.owner for topic in contract().topics}
            check_environment(told, service, own.get(service, ServiceSettings), owners)


def test_the_supervisor_reads_what_each_process_is_told(tmp_path: Path) -> None:
    config = ConfigParser(interpolation=None)
    config.read_string(Supervisor(plan(tmp_path))._config())
    told = config["program:clinical.hospital-b"]["environment"]
    assert 'PHARMALOOP_CLINICAL_SITE="hospital-b"' in told
    assert 'PHARMALOOP_CLINICAL_SITE_NAME="Hospital B"' in told
    assert "environment" not in config["program:production"]


def test_engines_that_are_given_are_used_and_not_started(tmp_path: Path) -> None:
    given = {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9092", "MONGODB_URI": "mongodb://db/?replicaSet=x"}
    stack = plan(tmp_path, given)
    assert stack.engines == []
    assert stack.endpoints() | {"kafka": "kafka:9092", "mongodb": given["MONGODB_URI"]} == stack.endpoints()
    assert given.items() <= stack.child_environment().items()


def test_the_world_is_told_its_options_and_is_not_restarted_when_it_is_done(tmp_path: Path) -> None:
    (world,) = plan(tmp_path, only=("world",)).programs
    assert world.command[-4:] == ["-m", "services.world.main", "--seed", "3"]
    assert world.autorestart == "unexpected"
