"""What a service makes sure of before it starts, in order, and how long it waits for what may come.

A wrong setting ends the start at once. What may come by itself (an engine that
is still starting, a predecessor that is leaving, topics being made) is waited
for, visibly and for a bounded time; then the process ends, for its supervisor
to start it again. No part of the service runs before everything is as it must be.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from services.kit.alive import FOLDER, Heartbeat
from services.kit.bus.register import InstalledContract, check_contract, installed_contract, read_register
from services.kit.clock import SKEW_SECONDS, PlatformClock, load_clock, wall_clock
from services.kit.contracts import Contract
from services.kit.errors import Retryable
from services.kit.log import get_logger
from services.kit.presence import Presence
from services.kit.settings import KafkaSettings, MongoSettings, PlatformSettings, ServiceSettings, TlsSettings
from services.kit.startup.backbone import BackboneProbe, check_topics, needed
from services.kit.startup.database import DatabaseProbe
from services.kit.startup.environment import check_environment
from services.kit.startup.machine import check_ports, check_state_dir

_log = get_logger("kit.startup")
_PAUSE_SECONDS = 0.5
_TELL_SECONDS = 5.0
T = TypeVar("T")


@dataclass(frozen=True)
class Plan:
    """What is to start: the service, its settings, the topics its runners read."""

    service: str
    site: str
    role: str
    settings: ServiceSettings
    platform: PlatformSettings
    kafka: KafkaSettings
    mongo: MongoSettings
    tls: TlsSettings
    database: str
    contract: Contract
    reads: tuple[str, ...]
    alone: bool = False

    @property
    def consumes(self) -> bool:
        return self.role in ("worker", "all")

    @property
    def heartbeat(self) -> Path:
        if self.settings.heartbeat_file:
            return Path(self.settings.heartbeat_file)
        role = "" if self.role == "all" else self.role
        name = "-".join(filter(None, (self.service, self.site, self.settings.instance, role)))
        return self.platform.state_dir / FOLDER / f"{name}.json"


@dataclass(frozen=True)
class Ground:
    """What the checks found, and goes on being watched."""

    backbone: BackboneProbe
    database: DatabaseProbe
    presence: Presence
    heartbeat: Heartbeat
    contract: InstalledContract
    clock: PlatformClock


class _Patience:
    """Asks again until it is so, or the time is over."""

    def __init__(self, seconds: float, heartbeat: Heartbeat) -> None:
        self._end = time.monotonic() + seconds
        self._heartbeat = heartbeat
        self._told: tuple[str, float] = ("", 0.0)

    async def until(self, check: Callable[[], T]) -> T:
        while True:
            try:
                return await asyncio.to_thread(check)
            except Retryable as error:
                if time.monotonic() > self._end:
                    raise
                self._tell(str(error))
            await asyncio.sleep(_PAUSE_SECONDS)

    def _tell(self, reason: str) -> None:
        with contextlib.suppress(OSError):
            self._heartbeat.write({}, f"starting: {reason}")
        now = time.monotonic()
        if reason != self._told[0] or now - self._told[1] > _TELL_SECONDS:
            self._told = reason, now
            left = max(0.0, self._end - now)
            _log.warning("waiting to start", reason=reason, seconds_left=round(left, 1))


async def prepare(plan: Plan) -> Ground:
    """Run every check. Raises what is wrong: Retryable after waiting for it, else at once."""
    services = {topic.owner for topic in plan.contract.topics}
    check_environment(os.environ, plan.service, type(plan.settings), services)
    heartbeat = Heartbeat(plan.heartbeat, plan.service)
    patience = _Patience(plan.platform.start_seconds, heartbeat)
    await patience.until(lambda: check_state_dir(plan.platform.state_dir))
    await patience.until(lambda: check_ports(plan.service, plan.settings))
    backbone = await _check_backbone(plan, patience)
    database = DatabaseProbe(plan.mongo, plan.database)
    try:
        presence = await _take_place(plan, patience, database)
        clock = await patience.until(lambda: load_clock(plan.platform.state_dir))
    except BaseException:
        database.close()
        raise
    contract = installed_contract(lambda: read_register(plan.kafka), plan.contract)
    return Ground(backbone, database, presence, heartbeat, contract, clock)


async def _take_place(plan: Plan, patience: _Patience, database: DatabaseProbe) -> Presence:
    """Be the one who runs as this instance, at a time that is not before its last."""
    await patience.until(database.check)
    presence = Presence(
        database, plan.service, plan.settings.instance, plan.role, plan.consumes, alone=plan.alone
    )
    last = await patience.until(presence.claim)
    skew = await asyncio.to_thread(database.skew)
    wall_clock.begin(skew if skew and abs(skew) > SKEW_SECONDS else 0.0, last)
    return presence


async def _check_backbone(plan: Plan, patience: _Patience) -> BackboneProbe:
    probe = BackboneProbe(plan.kafka, plan.service)
    topics = list(
        needed(
            plan.contract,
            plan.service,
            plan.reads,
            plan.site,
            plan.platform.sites,
            plan.platform.group_prefix,
        )
    )

    def check() -> str:
        metadata = probe.check()
        probe.check_brokers(metadata)
        check_topics(probe.admin, metadata, topics)
        return check_contract(read_register(plan.kafka), plan.contract)

    if warning := await patience.until(check):
        _log.warning("the build is older than the installation", reason=warning)
    probe.expects = tuple(topics)
    return probe
