"""What runs on one machine: which processes, with which ports, environment and command lines.

Pure of effects but for the port file: `Plan` says what is to run, `supervised`
runs it, `stack` decides when. A service is added by its name in `SERVICES`.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from deploy.local.ports import load_ports, setting
from services.kit.testing.engines import HOST, KafkaEngine, MongoEngine, tied_to_parent

ROOT = Path(__file__).resolve().parents[2]
#: The hospitals, each a process of its own: the first is called clinical alone.
HOSPITALS = {"hospital-a": "Hospital A", "hospital-b": "Hospital B", "hospital-c": "Hospital C"}
CLINICAL = {"clinical" if number == 0 else f"clinical.{site}": site for number, site in enumerate(HOSPITALS)}
#: Of each hospital, the process that speaks for it in studies.
AGENTS = {"agent" if number == 0 else f"agent.{site}": site for number, site in enumerate(HOSPITALS)}
#: By process: a service's name, or a service's and a site's.
SERVICES = (
    "production",
    "traceability",
    *CLINICAL,
    "alerting",
    "rnd",
    "loops",
    "exchange",
    *AGENTS,
    "evaluator",
)
#: Where a service's program lies, if not in a package of its own name.
_PROGRAMS = {"agent": "services.exchange.site.main", "evaluator": "services.exchange.evaluator.main"}


def program_of(process: str) -> str:
    """The module that a process runs."""
    service = process.partition(".")[0]
    return _PROGRAMS.get(service, f"services.{service}.main")


def port_name(process: str, kind: str) -> str:
    """The name of a process's port: what its setting is called, too."""
    return f"{process.replace('.', '_').replace('-', '_')}_{kind}"


PORT_NAMES = [
    "kafka",
    "kafka_controller",
    "mongodb",
    *(port_name(service, kind) for service in SERVICES for kind in ("grpc", "metrics")),
    "world_metrics",
    "portal_http",
    "portal_metrics",
]
MIGRATE = "migrate"
PORTAL = "portal"
WORLD = "world"


@dataclass(frozen=True, slots=True)
class Program:
    """One process that the supervisor keeps: what a config file needs to know of it."""

    name: str
    group: str
    command: list[str]
    autorestart: str = "true"
    stop_seconds: int = 20
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """One stack: a state directory, its ports and its choice of processes."""

    state: Path
    ports: dict[str, int]
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    only: frozenset[str] = frozenset()
    world_options: tuple[str, ...] = ()
    restart_world: bool = True

    def runs(self, name: str) -> bool:
        return not self.only or name in self.only

    @cached_property
    def kafka(self) -> KafkaEngine | None:
        """The local Kafka; None when another one is given."""
        if "KAFKA_BOOTSTRAP_SERVERS" in self.environment or not self.runs("kafka"):
            return None
        return KafkaEngine(self.state / "kafka", self.ports["kafka"], self.ports["kafka_controller"])

    @cached_property
    def mongod(self) -> MongoEngine | None:
        """The local mongod; None when another one is given."""
        if "MONGODB_URI" in self.environment or not self.runs("mongod"):
            return None
        return MongoEngine(self.state / "mongod", self.ports["mongodb"])

    @property
    def engines(self) -> list[KafkaEngine | MongoEngine]:
        return [engine for engine in (self.kafka, self.mongod) if engine]

    @property
    def bootstrap(self) -> str:
        return self.environment.get("KAFKA_BOOTSTRAP_SERVERS") or f"{HOST}:{self.ports['kafka']}"

    @property
    def mongodb_uri(self) -> str:
        return self.environment.get("MONGODB_URI") or MongoEngine(self.state, self.ports["mongodb"]).uri

    @property
    def services(self) -> list[str]:
        return [service for service in SERVICES if self.runs(service)]

    def log_file(self, name: str) -> Path:
        return self.state / "logs" / f"{name}.log"

    @cached_property
    def programs(self) -> list[Program]:
        """In the order in which they start; they stop the other way round, group by group."""
        python = sys.executable
        engines = [
            Program(e.name, "engines", tied_to_parent(e.command()), stop_seconds=40) for e in self.engines
        ]
        services = [
            Program(
                name,
                "services",
                tied_to_parent([python, "-m", program_of(name), "--role", "all"]),
                environment=self._own_environment(name),
            )
            for name in self.services
        ]
        portal = Program(PORTAL, PORTAL, tied_to_parent([python, "-m", program_of(PORTAL)]), stop_seconds=5)
        world = Program(
            WORLD,
            WORLD,
            tied_to_parent([python, "-m", "services.world.main", *self.world_options]),
            autorestart="unexpected" if self.restart_world else "false",
        )
        last = [program for program in (portal, world) if self.runs(program.name)]
        return [*engines, *services, *last]

    def migrate_command(self) -> list[str]:
        return [sys.executable, "-m", "services.kit.bus.migrate"]

    def endpoints(self) -> dict[str, object]:
        """Where everything listens: written for the command line tool, and for whoever looks."""
        metrics = [*self.services, *(name for name in (PORTAL, WORLD) if self.runs(name))]
        return {
            "grpc": {name: f"{HOST}:{self.ports[port_name(name, 'grpc')]}" for name in self.services},
            "metrics": {name: f"{HOST}:{self.ports[port_name(name, 'metrics')]}" for name in metrics},
            "kafka": self.bootstrap,
            "mongodb": self.mongodb_uri,
            **({"portal": self.portal_url} if self.runs(PORTAL) else {}),
        }

    @property
    def portal_url(self) -> str:
        return f"http://{HOST}:{self.ports['portal_http']}"

    def child_environment(self) -> dict[str, str]:
        """One environment serves all: the names of what differs carry the service's name.

        What differs between the processes of one service is told to each (`Program.environment`).
        """
        services = {name.partition(".")[0] for name in SERVICES}
        listens = {
            f"PHARMALOOP_{name}_PORT".upper(): str(self.ports[name])
            for name in PORT_NAMES
            if name.rpartition("_")[0] in {*services, PORTAL, WORLD}
        }
        return {
            **self.environment,
            **listens,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "MONGODB_URI": self.mongodb_uri,
            "PHARMALOOP_STATE_DIR": str(self.state),
            "PHARMALOOP_ENDPOINTS": json.dumps(self.endpoints()["grpc"]),
            "PHARMALOOP_SITES": json.dumps(list(HOSPITALS)),
            "PYTHONUNBUFFERED": "1",
        }

    def _own_environment(self, process: str) -> dict[str, str]:
        """A hospital's process: which one it is, and where it listens."""
        site = {**CLINICAL, **AGENTS}.get(process)
        if site is None:
            return {}
        prefix = f"PHARMALOOP_{process.partition('.')[0].upper()}_"
        ports = {
            f"{prefix}{kind.upper()}_PORT": str(self.ports[port_name(process, kind)])
            for kind in ("grpc", "metrics")
        }
        return {f"{prefix}SITE": site, f"{prefix}SITE_NAME": HOSPITALS[site], **ports}

    def listening(self, program: str) -> list[tuple[str, int, str]]:
        """The ports that a program will open: name, port, and the setting that changes it."""
        kinds = ("grpc", "metrics", "http")
        names = [name for kind in kinds if (name := port_name(program, kind)) in PORT_NAMES]
        return [(name, self.ports[name], setting(name)) for name in names]


def state_dir(environment: Mapping[str, str] = os.environ) -> Path:
    return Path(environment.get("PHARMALOOP_STATE_DIR") or ROOT / ".state").resolve()


def make_plan(
    only: frozenset[str] = frozenset(), world_options: tuple[str, ...] = (), *, restart_world: bool = True
) -> Plan:
    state = state_dir()
    return Plan(
        state,
        load_ports(state, PORT_NAMES),
        only=only,
        world_options=world_options,
        restart_world=restart_world,
    )
