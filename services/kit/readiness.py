"""Whether a process can do its work, and if not, why: the truth behind health and status.

Ready = every runner turns, the database takes writes, Kafka answers and takes
records, the state folder can be written. What is wrong is asked again every
two seconds, so that readiness comes back by itself. Nothing here stops a
process; only being usurped does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from services.kit.alive import Heartbeat
from services.kit.bus.watched import WatchedProducer
from services.kit.clock import SKEW_SECONDS, wall_clock
from services.kit.errors import PharmaLoopError
from services.kit.log import get_logger
from services.kit.metrics import CLOCK_SKEW, READY, TROUBLE, Metrics
from services.kit.presence import BEAT_SECONDS, Presence, Usurped
from services.kit.runners.protocol import Runner
from services.kit.startup.backbone import BackboneProbe
from services.kit.startup.database import DatabaseProbe
from services.kit.startup.machine import takes_nothing

_log = get_logger("kit.readiness")
HEARTBEAT_SECONDS = 1.0
#: So often the other folders are tried.
VOLUME_SECONDS = 10.0
#: A runner that has not turned for so long is no help to who asks.
HUNG_SECONDS = 30.0


@dataclass
class Readiness:
    """What keeps a process from being ready, by part. Background work may add its own in `waits`."""

    metrics: Metrics
    backbone: BackboneProbe
    database: DatabaseProbe
    presence: Presence
    producer: WatchedProducer
    heartbeat: Heartbeat
    runners: Callable[[], Sequence[Runner]] = tuple
    #: Folders beside the heartbeat's that the process writes to: each may be a volume of its own.
    volumes: Sequence[Path] = ()
    started: float = field(default_factory=time.monotonic)
    waits: dict[str, str] = field(default_factory=dict)
    _found: dict[str, str] = field(default_factory=dict)
    _told_skew: float = 0.0

    def reasons(self) -> list[str]:
        """Why the process is not ready; empty when it is."""
        now = time.monotonic()
        found = {**self._found, **self.waits}
        if trouble := self.producer.trouble():
            found["producer"] = trouble
        for runner in self.runners():
            status = runner.status
            if status.state != "running":
                found[status.name] = f"{status.state}{f' ({status.detail})' if status.detail else ''}"
            elif now - (status.beat or now) > HUNG_SECONDS:
                found[status.name] = f"has not turned for {now - status.beat:.0f} s"
        return [f"{part}: {why}" for part, why in found.items()]

    def ages(self) -> dict[str, float]:
        """Seconds since each loop has turned; this being asked proves that the event loop does."""
        now = time.monotonic()
        return {runner.name: now - (runner.status.beat or self.started) for runner in self.runners()}

    # -- what runs beside the service -----------------------------------

    async def watch_database(self) -> None:
        """Beat the row, see whether the database takes it. Ends only by being usurped."""
        while True:
            await self._ask("database", self.presence.beat)
            if "database" not in self._found:
                self._compare(await asyncio.to_thread(self.database.skew))
            await asyncio.sleep(BEAT_SECONDS)

    async def watch_backbone(self) -> None:
        while True:
            await self._ask("kafka", self.backbone.check)
            if "kafka" not in self._found:
                await self._ask("topics", self.backbone.check_topics_again)
            await asyncio.sleep(BEAT_SECONDS)

    async def watch_loops(self) -> None:
        """Write the heartbeat: the file is as old as the slowest loop. See whether each volume takes more."""
        full, next_look = "", 0.0
        while True:
            if (now := time.monotonic()) >= next_look:
                full, next_look = await asyncio.to_thread(self._full), now + VOLUME_SECONDS
            try:
                reasons = self.reasons()
                self.heartbeat.write(self.ages(), "; ".join(reasons))
                self._tell("state folder", full)
            except OSError as error:
                self._tell(
                    "state folder",
                    f"{self.heartbeat.path} cannot be written ({error.strerror}): free some space, "
                    "or correct PHARMALOOP_STATE_DIR",
                )
            await asyncio.sleep(HEARTBEAT_SECONDS)

    def _full(self) -> str:
        return "; ".join(filter(None, map(takes_nothing, self.volumes)))

    async def _ask(self, part: str, question: Callable[[], object]) -> None:
        try:
            await asyncio.to_thread(question)
        except Usurped:
            raise
        except PharmaLoopError as error:
            self._tell(part, str(getattr(error, "description", error)))
        except Exception as error:  # noqa: BLE001 -- a probe must not end what it watches
            self._tell(part, f"{type(error).__name__}: {error}")
        else:
            self._tell(part, "")

    def _tell(self, part: str, why: str) -> None:
        before = self._found.get(part, "")
        if why:
            self._found[part] = why
        else:
            self._found.pop(part, None)
        self.metrics.set(TROUBLE, float(bool(why)), part=part)
        if why and why != before:
            _log.warning("in trouble, trying again", part=part, reason=why)
        elif before and not why:
            _log.info("out of trouble", part=part)

    def _compare(self, skew: float | None) -> None:
        """Follow the database's clock where this machine's differs: leases are compared there."""
        if skew is None:
            return
        self.metrics.set(CLOCK_SKEW, skew)
        differs = abs(skew) > SKEW_SECONDS
        wall_clock.correct(skew if differs else 0.0)
        if differs and abs(skew - self._told_skew) > SKEW_SECONDS:
            _log.warning(
                "this machine's clock differs from the database's, which is followed: set it (NTP)",
                seconds=round(skew, 1),
            )
        self._told_skew = skew if differs else 0.0

    def leave(self, clean: bool) -> None:
        """The process ends; after a failure the heartbeat stays, and says so by its age."""
        self.presence.release()
        self.database.close()
        if clean:
            self.heartbeat.remove()

    def told_ready(self, ready: bool) -> None:
        self.metrics.set(READY, float(ready))
