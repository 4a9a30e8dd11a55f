"""What the processes of a stack are told."""

import json
from pathlib import Path

from deploy.local.plan import PORT_NAMES, SERVICES, Plan


def plan(state: Path, environment: dict[str, str] | None = None, only: tuple[str, ...] = ()) -> Plan:
    ports = {name: 1000 + index for index, name in enumerate(PORT_NAMES)}
    return Plan(state, ports, environment or {}, frozenset(only), world_options=("--seed", "3"))


def test_children_get_their_ports_the_engines_and_every_endpoint(tmp_path: Path) -> None:
    stack = plan(tmp_path)
    told = stack.child_environment()
    assert told["KAFKA_BOOTSTRAP_SERVERS"] == f"127.0.0.1:{stack.ports['kafka']}"
    assert told["MONGODB_URI"] == f"mongodb://127.0.0.1:{stack.ports['mongodb']}/?replicaSet=rs0"
    assert told["PHARMALOOP_STATE_DIR"] == str(tmp_path)
    assert told["PHARMALOOP_CLINICAL_SITE"] == "hospital-a"
    assert told["PHARMALOOP_RND_GRPC_PORT"] == str(stack.ports["rnd_grpc"])
    assert told["PHARMALOOP_WORLD_METRICS_PORT"] == str(stack.ports["world_metrics"])
    assert json.loads(told["PHARMALOOP_ENDPOINTS"]) == {
        service: f"127.0.0.1:{stack.ports[f'{service}_grpc']}" for service in SERVICES
    }


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
