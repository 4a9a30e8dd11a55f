"""What may be deployed, and how: the facts about each workload that the charts need to know.

Half of it is read from the services themselves (topics read and written, the
partitions that cap how far a worker scales, settings); the other half is what no
program can see: which state a process keeps outside its database, and why some
of them must stay whole or alone.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any

from deploy.local.plan import program_of
from services.kit.app import ServiceSpec
from services.kit.contracts import contract
from services.kit.settings import ServiceSettings

#: Stands for a hospital in names of topics; the charts put each site's own there.
SITE = "{site}"
_HUB = "the agents' streams end in the process whose steps lead the jobs"
_SPEAKS = "one process speaks for it"


@dataclass(frozen=True)
class Workload:
    """A service as it is deployed.

    `whole`: why its api and its workers must be one process; `alone`: why there
    may be one such process only; empty where neither is so. `keys`: it keeps
    sealing keys in a folder; `tables`: tables of loops, which Kafka can restore.
    `calls`: services that it calls. `cpu` and `memory` are what it asks for and
    the most memory that it may take.
    """

    service: str
    site: bool = False
    keys: bool = False
    tables: bool = False
    whole: str = ""
    alone: str = ""
    calls: tuple[str, ...] = ()
    cpu: str = "100m"
    memory: tuple[str, str] = ("160Mi", "512Mi")

    @property
    def module(self) -> str:
        return program_of(self.service)

    @property
    def spec(self) -> ServiceSpec:
        found: ServiceSpec = importlib.import_module(self.module).SPEC
        return found


WORKLOADS = (
    Workload("production", keys=True, cpu="250m", memory=("320Mi", "1Gi")),
    Workload("traceability", cpu="250m", memory=("256Mi", "1Gi")),
    Workload("clinical", site=True, keys=True),
    Workload("alerting"),
    Workload("rnd", keys=True),
    Workload("loops", tables=True, memory=("256Mi", "1Gi")),
    Workload("exchange", whole=_HUB, alone=_HUB),
    Workload("agent", site=True, keys=True, whole=_SPEAKS, alone=_SPEAKS, calls=("exchange", "clinical")),
    Workload("evaluator", keys=True, whole=_SPEAKS, alone=_SPEAKS, calls=("exchange",)),
)
BY_NAME = {workload.service: workload for workload in WORKLOADS}
#: Settings that the charts set themselves, or that have no meaning there.
OWN = frozenset({
    "grpc_host", "grpc_port", "metrics_host", "metrics_port", "instance", "heartbeat_file",
    "site", "site_name", "exchange", "clinical",
})  # fmt: skip


def reads(workload: Workload) -> tuple[str, ...]:
    """Topics that a service's workers fold; `{site}` stands for the site."""
    site = SITE if workload.site else ""
    return tuple(sorted({t for reactor in workload.spec.reactors for t in reactor.topics(contract(), site)}))


def writes(workload: Workload) -> tuple[str, ...]:
    """Topics that a service publishes on; those of sites where it stands at one, or writes to all."""
    service = workload.service
    return tuple(sorted(t.name for t in contract().topics if service in (t.owner, *t.writers)))


@cache
def cap(service: str) -> int:
    """As many processes of a service have records to take: the most partitions of a topic that it reads."""
    workload = BY_NAME[service]
    partitions = {topic.name: topic.partitions for topic in contract().topics}
    logs = [partitions[log.source] for log in contract().changelogs if log.owner == service]
    return max(*logs, 1, *(partitions[name] for name in reads(workload)))


def own_settings(workload: Workload) -> dict[str, Any]:
    """Settings of a service that an installation may give, by name, as pydantic fields."""
    cls: type[ServiceSettings] = workload.spec.settings
    return {name: info for name, info in cls.model_fields.items() if name not in OWN}


def document() -> dict[str, Any]:
    """The catalogue as the chart reads it."""
    return {
        workload.service: {
            "module": workload.module,
            "site": workload.site,
            "keys": workload.keys,
            "tables": workload.tables,
            "whole": workload.whole,
            "alone": workload.alone,
            "calls": list(workload.calls),
            "cap": 1 if workload.alone else cap(workload.service),
            "cpu": workload.cpu,
            "memory": dict(zip(("request", "limit"), workload.memory, strict=True)),
        }
        for workload in WORKLOADS
    }
