"""The backbone as Strimzi resources need it: topics, and who may do what with each.

Everything comes from the contract's list of topics and from what the services
say that they read. A service may read what its workers fold, and its own topics
(it looks there after a restored backup, and tells its changes from there); it may
write what it publishes, and the dead letters of what it reads.
"""

from __future__ import annotations

from typing import Any

from deploy.charts.catalogue import SITE, WORKLOADS, Workload, reads, writes
from services.kit.bus.migrate import wanted
from services.kit.bus.register import TOPIC as REGISTER
from services.kit.contracts import contract
from services.kit.settings import KafkaSettings
from services.loops.engine import APP_ID

#: Who creates topics, registers the contract, and reads neither.
MIGRATE = "migrate"


def topics() -> list[dict[str, Any]]:
    """Every topic as the migration would make it, `{site}` where it exists once for each site."""
    kafka = KafkaSettings.model_construct(replication_factor=1, min_insync_replicas=1)
    found = []
    for topic in wanted(contract(), (SITE,), kafka):
        config = {key: value for key, value in (topic.config or {}).items() if key != "min.insync.replicas"}
        found.append({"name": topic.topic, "partitions": topic.num_partitions, "config": config})
    return found


def users() -> list[dict[str, Any]]:
    """Who logs in, and what for: one user a service, one a service and site where it stands at one."""
    return [*(_user(workload) for workload in WORKLOADS), _migration()]


def _user(workload: Workload) -> dict[str, Any]:
    own_logs = [log for log in contract().changelogs if log.owner == workload.service]
    read, written = {*reads(workload), *(log.source for log in own_logs)}, set(writes(workload))
    letters, logs = {f"{name}.dlq" for name in read}, {log.name for log in own_logs}
    owned = {t.name for t in contract().topics if t.owner == workload.service}
    return {
        "name": workload.service,
        "site": workload.site,
        "reads": sorted(read | letters | logs | owned | {REGISTER}),
        "writes": sorted(written | letters | logs),
        "groups": sorted(_groups(workload)),
    }


def _groups(workload: Workload) -> set[str]:
    """Its consumer groups. A rebuilt view reads in a group with `.g` and a number behind the name."""
    site = f".{SITE}" if workload.site else ""
    runners = {f"{workload.service}.{reactor.name}{site}" for reactor in workload.spec.reactors}
    loops = {APP_ID} if any(log.owner == workload.service for log in contract().changelogs) else set()
    return {*runners, *loops}


def _migration() -> dict[str, Any]:
    return {"name": MIGRATE, "site": False, "reads": [REGISTER], "writes": [REGISTER], "groups": []}


def document() -> dict[str, Any]:
    """The backbone as the chart reads it."""
    return {"topics": topics(), "users": users()}
