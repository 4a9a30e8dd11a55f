"""A whole platform of real processes that a test may break: killed, frozen, cut off, starved of disk.

Every process is a child of the test, restarted when it dies, as an operator's
supervisor would. Between the services and both engines stands a proxy. Two
worlds never share an engine, so an undisturbed one can run beside.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from pymongo import MongoClient

from deploy.local.health import is_serving
from deploy.local.ports import load_ports
from services.kit.bus.migrate import migrate
from services.kit.settings import KafkaSettings
from services.kit.testing.engines import (
    HOST,
    KafkaEngine,
    MongoEngine,
    last_lines,
    tied_to_parent,
)
from tests.earlier import ROOT, python_path
from tests.reliability.proxy import Proxy
from tests.reliability.small_disk import SmallDisk
from tests.reliability.specs import AGENTS, SITE, SPECS

#: Platform time runs a thousand times slower than the wall: decisions of one test fall into one minute,
#: so that their moments can be compared with those of another run; deadlines lie beyond the test.
SPEED, NOON = 0.001, datetime(2026, 3, 2, 12, 0, 1, tzinfo=UTC)
#: The services that a world starts with.
SERVICES = tuple(name for name in SPECS if name not in (*AGENTS, "evaluator"))
#: A service as a test's own process (`part_child`).
PART = "tests.reliability.part_child"
_UP_SECONDS = 120.0
_RESTART_SECONDS = 0.3
#: Ports that worlds of this process have been given: two of them start at the same time.
_PORTS: set[int] = set()
_PORTS_LOCK = threading.Lock()


@cache
def starter() -> ThreadPoolExecutor:
    """The one thread that starts processes; it lives as long as the tests."""
    return ThreadPoolExecutor(1, "starter")


class Late(AssertionError):
    """Something that had to happen did not happen in time."""


def until(what: str, test: Callable[[], object], seconds: float = 60.0, pause: float = 0.1) -> None:
    """Return when the test is true; Late says what did not come."""
    end = time.monotonic() + seconds
    while not test():
        if time.monotonic() > end:
            raise Late(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)


@dataclass(frozen=True)
class Death:
    """A process ended: `armed` is the crash point it was to die at, `code` its exit status."""

    name: str
    code: int
    armed: str


@dataclass
class Child:
    """One process, and how it is started again."""

    name: str
    command: list[str]
    environment: dict[str, str]
    log: Path
    root: Path = ROOT
    once: dict[str, str] = field(default_factory=dict)
    armed: str = ""
    process: subprocess.Popen[bytes] | None = None
    wanted: bool = True
    at: float = 0.0

    def start(self) -> None:
        # "Tied to its parent" means to the very thread that starts it: that one has to stay.
        starter().submit(self._start).result()

    def _start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                tied_to_parent(self.command),
                cwd=self.root,
                env={**self.environment, **self.once, "PYTHONPATH": python_path(self.root)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,
            )
        self.armed, self.once = self.once.get("PHARMALOOP_CRASH_AT", ""), {}

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def signal(self, number: int) -> None:
        if self.is_alive:
            os.killpg(self.pid, number)


class World:
    """Engines, proxies and services; `parts` gives the processes of a service by role, `services` those
    that it starts with. Where the exchange is one of them, its agents and the evaluator come with it.
    `root` is the checkout whose build runs."""

    engines: tuple[str, ...] = ("kafka", "mongod")

    def __init__(
        self,
        folder: Path,
        keys: Path,
        parts: Mapping[str, tuple[str, ...]] | None = None,
        services: Iterable[str] = SERVICES,
        root: Path = ROOT,
    ) -> None:
        self.folder = folder
        self.root = root
        self.state = folder / "state"
        self.parts = {name: (parts or {}).get(name, ("all",)) for name in services}
        self.deaths: list[Death] = []
        self.children: dict[str, Child] = {}
        self.ports: dict[str, int] = {}
        self.disk = SmallDisk(folder / "disk")
        self._keys = keys
        self._lock = threading.RLock()
        self._ending = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    # -- up and down ----------------------------------------------------------

    def start(self) -> None:
        self._make_state()
        data = starter().submit(self.disk.open).result()
        self._start_engines(data)
        self.database = self._open_database()
        for name, roles in list(self.parts.items()):
            for role in roles if name != "exchange" else ():
                self.add(name, role)
        if "exchange" in self.parts:
            self.add_consortium()
        self._keeper.start()
        self.wait_serving()

    def _start_engines(self, data: Path) -> None:
        """One of each behind a proxy, and the platform's topics."""
        kafka_port, mongo_port = self._port("kafka"), self._port("mongod")
        self.kafka_proxy = Proxy(kafka_port, port=self._port("kafka_proxy"))
        self.mongo_proxy = Proxy(mongo_port, port=self._port("mongo_proxy"))
        self.kafka_proxy.start()
        self.mongo_proxy.start()
        self.kafka = KafkaEngine(
            data / "kafka", kafka_port, self._port("controller"), advertised=self.kafka_proxy.port
        )
        self.mongod = MongoEngine(data / "mongod", mongo_port)
        for engine in (self.kafka, self.mongod):
            engine.prepare()
            self._child(engine.name, engine.command(), dict(os.environ)).start()
        for engine in (self.kafka, self.mongod):
            engine.wait_ready(_UP_SECONDS, lambda name=engine.name: self.children[name].is_alive)  # type: ignore[misc]
        self.migrate()

    def _open_database(self) -> MongoClient[dict[str, Any]]:
        """Past the proxy, for those who look."""
        return MongoClient(HOST, self.mongod.port, directConnection=True, serverSelectionTimeoutMS=20_000)

    def stop(self) -> None:
        self._ending.set()
        if self._keeper.is_alive():
            self._keeper.join(10)
        if hasattr(self, "database"):
            # While its server lives: it says goodbye, and would look for a dead one for long.
            self.database.close()
        for child in reversed(list(self.children.values())):
            child.signal(signal.SIGCONT)
            child.signal(signal.SIGKILL)
            if child.process is not None:
                child.process.wait(20)
        for proxy in (getattr(self, "kafka_proxy", None), getattr(self, "mongo_proxy", None)):
            if proxy is not None:
                proxy.stop()
        self.disk.close()

    def _make_state(self) -> None:
        self.state.mkdir(parents=True)
        self._keys.mkdir(parents=True, exist_ok=True)
        # One set of keys for all worlds: what is keyed (digests) can then be compared.
        (self.state / "keys").symlink_to(self._keys)
        # Set an hour ago: a process whose clock is minutes behind would rightly refuse to start before it.
        since = datetime.now(UTC) - timedelta(hours=1)
        raw = {"anchor": NOON.isoformat(), "wall_anchor": since.isoformat(), "speed": SPEED}
        (self.state / "clock.json").write_text(json.dumps(raw))

    def _port(self, name: str) -> int:
        """A port of this world's own, from below those that the system gives to anybody who asks."""
        with _PORTS_LOCK:
            port = load_ports(self.folder, [name], {}, given=_PORTS)[name]
            _PORTS.add(port)
            return port

    @property
    def bootstrap(self) -> str:
        return self.kafka.bootstrap

    def migrate(self) -> None:
        """Make the topics, and register the contract, of the build that runs here."""
        if self.root == ROOT:
            migrate(KafkaSettings(bootstrap_servers=self.bootstrap), (SITE,))
            return
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "PHARMALOOP_STATE_DIR": str(self.state),
            "PHARMALOOP_SITES": json.dumps([SITE]),
            # The migration sets the clock's speed, to its default where nothing is said.
            "PHARMALOOP_CLOCK_SPEED": str(SPEED),
            "PYTHONPATH": python_path(self.root),
        }
        command = [sys.executable, "-m", "services.kit.bus.migrate"]
        subprocess.run(command, cwd=self.root, env=environment, check=True)

    @property
    def mongodb_uri(self) -> str:
        """The database as services are told of it."""
        return f"mongodb://{HOST}:{self.mongo_proxy.port}/?directConnection=true"

    def _child(self, name: str, command: list[str], environment: dict[str, str]) -> Child:
        child = Child(name, command, environment, self.folder / f"{name}.log", self.root)
        with self._lock:
            self.children[name] = child
        return child

    def add(
        self,
        service: str,
        role: str = "all",
        *,
        name: str = "",
        instance: str = "0",
        module: Iterable[str] = (),
        settings: Mapping[str, str] | None = None,
        once: Mapping[str, str] | None = None,
    ) -> str:
        """Start one more process of a service: its own, or what `module` says instead. `once` is in its
        environment until it first dies."""
        name = name or (service if role == "all" else f"{service}-{role}")
        self.ports[name] = self._port(name)
        prefix = f"PHARMALOOP_{service.upper()}_"
        environment = {
            **os.environ,
            "KAFKA_BOOTSTRAP_SERVERS": self.bootstrap,
            "MONGODB_URI": self.mongodb_uri,
            "PHARMALOOP_STATE_DIR": str(self.state),
            f"{prefix}GRPC_PORT": str(self.ports[name]),
            f"{prefix}METRICS_PORT": "0",
            f"{prefix}INSTANCE": instance,
            **{f"{prefix}{key.upper()}": value for key, value in (settings or {}).items()},
            "PYTHONUNBUFFERED": "1",
        }
        command = [sys.executable, "-m", *(module or (f"services.{service}.main",)), "--role", role]
        with self._lock:  # or the keeper starts it as well
            child = self._child(name, command, environment)
            child.once = dict(once or {})
            child.start()
        return name

    def add_consortium(self) -> None:
        """The exchange, an agent for each site, whose cohorts are made up, and the evaluator."""
        self.parts |= {name: ("all",) for name in ("exchange", "evaluator", *AGENTS)}
        self.add("exchange", module=(PART, "exchange"), settings={"pause_seconds": "0.1"})
        to = {"exchange": self.address("exchange")}
        self.add("evaluator", module=(PART, "evaluator"), settings=to)
        for name, site in AGENTS.items():
            self.add("agent", name=name, module=(PART, "agent"), settings={"site": site, **to})

    def remove(self, name: str) -> None:
        """Stop a process for good, as an operator would."""
        with self._lock:
            child = self.children.pop(name)
        child.signal(signal.SIGCONT)
        child.signal(signal.SIGTERM)
        assert child.process is not None
        child.process.wait(30)

    def complaints(self, most: int = 8) -> list[str]:
        """The last lines of every service that are more than information."""
        found = []
        for name in self.names:
            lines = self.children[name].log.read_text(errors="replace").splitlines()
            found += [line for line in lines if '"level": "info"' not in line][-most:]
        return found

    # -- what the keeper does ---------------------------------------------------

    def _keep(self) -> None:
        """Start again what died, like a supervisor."""
        while not self._ending.wait(0.05):
            with self._lock:
                for child in self.children.values():
                    if child.wanted and not child.is_alive:
                        self._bury(child)

    def _bury(self, child: Child) -> None:
        now = time.monotonic()
        if child.process is not None:
            self.deaths.append(Death(child.name, child.process.returncode, child.armed))
            child.process, child.at = None, now + _RESTART_SECONDS
        elif now >= child.at:
            child.start()

    # -- what a test does -------------------------------------------------------

    @property
    def names(self) -> list[str]:
        """Every process of a service."""
        return [name for name in self.children if name not in self.engines]

    def part(self, service: str, role: str) -> str:
        """The process that plays a role of a service."""
        return service if self.parts[service] == ("all",) else f"{service}-{role}"

    def address(self, service: str) -> str:
        return f"{HOST}:{self.ports[self.part(service, 'api')]}"

    def kill(self, name: str) -> None:
        """kill -9; the keeper starts it again."""
        self.children[name].signal(signal.SIGKILL)

    def freeze(self, name: str) -> None:
        self.children[name].signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        self.children[name].signal(signal.SIGCONT)

    def again(
        self, name: str, command: list[str] | None = None, once: Mapping[str, str] | None = None
    ) -> None:
        """Kill a process and start it with more in its environment, until it next dies."""
        with self._lock:
            child = self.children[name]
            child.signal(signal.SIGKILL)
            assert child.process is not None
            child.process.wait(20)
            child.command = command or child.command
            child.once = dict(once or {})
            child.start()

    def move(self, name: str, root: Path) -> int:
        """Stop a process as an operator would, and start it from the build at `root`; its exit status."""
        with self._lock:
            child = self.children[name]
            child.signal(signal.SIGTERM)
            assert child.process is not None
            status = child.process.wait(90)
            child.root = root
            child.start()
        until(f"{name} serves", lambda: is_serving(f"{HOST}:{self.ports[name]}"), _UP_SECONDS)
        return status

    def file_limit(self, name: str, size: int | None) -> None:
        """No file of the process may grow beyond so many bytes; None takes the limit away."""
        limit = resource.RLIM_INFINITY if size is None else size
        with self._lock, suppress(ProcessLookupError):  # who died of it starts again without
            child = self.children[name]
            if child.is_alive:
                resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))

    def wait_serving(self) -> None:
        """Until every process of a service says that it serves."""
        waiting = list(self.names)
        end = time.monotonic() + _UP_SECONDS
        while waiting:
            waiting = [name for name in waiting if not is_serving(f"{HOST}:{self.ports[name]}")]
            if time.monotonic() > end:
                raise Late(f"{waiting} do not serve:\n{last_lines(self.children[waiting[0]].log)}")
            time.sleep(0.1)
