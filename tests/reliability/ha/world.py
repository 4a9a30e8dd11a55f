"""A platform of real processes on three brokers and a replica set of three, without proxies between."""

from __future__ import annotations

import os
import signal
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from services.kit.bus.migrate import migrate
from services.kit.startup.backbone import reach
from services.kit.testing.engines import HOST, last_lines
from tests.reliability.ha.engines import NUMBERS, Broker, Brokers, Member, Members
from tests.reliability.small_disk import SmallDisk
from tests.reliability.specs import SITE
from tests.reliability.world import SERVICES, World, until

_UP_SECONDS = 240.0
_MEGABYTES = 6000


class ThreeWorld(World):
    """Services know all brokers and all members, and who leads is their clients' matter."""

    engines = tuple(f"{kind}-{number}" for kind in ("kafka", "mongod") for number in NUMBERS)

    def __init__(self, folder: Path, keys: Path, services: Iterable[str] = SERVICES) -> None:
        super().__init__(folder, keys, services=services)
        self.disk = SmallDisk(folder / "disk", _MEGABYTES)

    def _start_engines(self, data: Path) -> None:
        voters = {number: self._port(f"controller-{number}") for number in NUMBERS}
        cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        self.brokers = Brokers(
            [
                Broker(number, data / f"kafka-{number}", self._port(f"kafka-{number}"), voters, cluster)
                for number in NUMBERS
            ]
        )
        self.members = Members(
            [Member(number, data / f"mongod-{number}", self._port(f"mongod-{number}")) for number in NUMBERS]
        )
        engines: list[Broker | Member] = [*self.members.each, *self.brokers.each]
        with ThreadPoolExecutor(len(engines)) as together:  # making a broker's folder takes a JVM
            list(together.map(lambda engine: engine.prepare(), engines))
        for engine in engines:
            self._child(engine.name, engine.command(), dict(os.environ)).start()
        self._until("all listen", lambda: not any(reach(f"{HOST}:{engine.port}") for engine in engines))
        self.members.found()
        self._until("the set is whole", self.members.whole)
        self._until("the brokers are together", self.brokers.together)
        migrate(self.brokers.settings, (SITE,))
        self._until("every partition has its copies", self.brokers.in_step)

    def _until(self, what: str, test: Callable[[], object]) -> None:
        """While the engines come up: one that ends says why."""

        def so() -> object:
            for name in self.engines:
                child = self.children[name]
                assert child.is_alive, f"{name} ended:\n{last_lines(child.log)}"
            return test()

        until(what, so, _UP_SECONDS)

    def _open_database(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(self.members.uri, serverSelectionTimeoutMS=20_000, readConcernLevel="majority")

    @property
    def bootstrap(self) -> str:
        return self.brokers.bootstrap

    @property
    def mongodb_uri(self) -> str:
        return self.members.uri

    def lose(self, name: str) -> None:
        """kill -9, and nobody starts it again before `bring_back`."""
        with self._lock:
            child = self.children[name]
            child.wanted = False
            child.signal(signal.SIGKILL)
        assert child.process is not None
        child.process.wait(20)

    def bring_back(self, name: str) -> None:
        with self._lock:
            self.children[name].wanted = True
