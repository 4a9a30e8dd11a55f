"""Bring the processes of a plan up, in order: engines, topics, services, world.

Each step waits for the one before. What does not become ready is named in one
line with its last words, and what was started for it is stopped again.
"""

import fcntl
import json
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from deploy.local.health import health, health_of_page
from deploy.local.plan import MIGRATE, PORTAL, SERVICES, WORLD, Plan, port_name
from deploy.local.supervised import Supervisor
from services.kit.bus.kafka import client_config
from services.kit.errors import Invalid
from services.kit.settings import KafkaSettings, read_settings
from services.kit.testing.engines import HOST, EngineError, check_port, last_lines

ENGINE_SECONDS = 60
SERVICE_SECONDS = 90
GIVEN_ENGINE_SECONDS = 5
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Say = Callable[[str], None]


class StackError(Exception):
    """The stack cannot do what was asked; the message says why in one line, a log may follow."""


class Stack:
    def __init__(self, plan: Plan, say: Say) -> None:
        self.plan = plan
        self.supervisor = Supervisor(plan)
        self._say = say

    def start(self, *, tied: bool) -> None:
        """Bring everything up, in order; what was started is stopped again when something fails."""
        with self._alone():
            if self.supervisor.is_up():
                raise StackError(
                    "the stack is already up: 'make logs' follows its logs, 'make down' stops it"
                )
            begin = time.monotonic()
            self._check_given_engines()
            self._check_ports()
            for engine in self.plan.engines:
                engine.prepare()
            self._write_endpoints()
            try:
                self.supervisor.spawn(tied=tied)
                self._start_programs()
            except BaseException as error:
                ignore_signals()
                self.supervisor.shut_down()
                if isinstance(error, OSError):
                    raise StackError(
                        f"the process runner stopped ({error}); its log is in {self.supervisor.folder}"
                    ) from None
                raise
            self._say(f"ready after {time.monotonic() - begin:.1f} s")

    def check(self) -> None:
        """See that every service of a stack that is up serves."""
        for name in self.supervisor.states():
            if name in SERVICES and (answer := health(self._address(name))) != "SERVING":
                raise self._with_last_lines(f"the stack is up, but {name} is not serving ({answer})", name)

    def restart(self, name: str) -> None:
        """Stop a program, by force where it does not follow, and start it; returns when it serves."""
        self.supervisor.stop(name)
        self.supervisor.start(name)
        if name in SERVICES:
            self._wait_serving(name)
        elif name == PORTAL:
            self._wait(PORTAL, partial(health_of_page, f"{self.plan.portal_url}/healthz"))
            self._say(f"portal: {self.plan.portal_url}")
        else:
            self._say(f"{name}: started")

    def _start_programs(self) -> None:
        self._start_engines()
        if self.plan.runs(MIGRATE):
            self._migrate()
        for name in self.plan.services:
            self.supervisor.start(name)
        for name in self.plan.services:
            self._wait_serving(name)
        if self.plan.runs(PORTAL):
            self.supervisor.start(PORTAL)
            self._wait(PORTAL, partial(health_of_page, f"{self.plan.portal_url}/healthz"))
            self._say(f"portal: {self.plan.portal_url}")
        if self.plan.runs(WORLD):
            self.supervisor.start(WORLD)
            self._say("world: started")

    def _start_engines(self) -> None:
        for engine in self.plan.engines:
            self.supervisor.start(engine.name)
        for engine in self.plan.engines:
            try:
                engine.wait_ready(ENGINE_SECONDS, partial(self._is_alive, engine.name))
            except EngineError as error:
                raise self._with_last_lines(str(error), engine.name) from None
            self._say(f"{engine.name}: ready on port {engine.port}")

    def _migrate(self) -> None:
        log_file = self.plan.log_file(MIGRATE)
        with log_file.open("wb") as log:
            status = subprocess.run(
                self.plan.migrate_command(),
                env=self.plan.child_environment(),
                stdout=log,
                stderr=log,
                check=False,
            ).returncode
        if status != 0:
            raise self._with_last_lines(f"the topics could not be made (exit status {status})", MIGRATE)
        self._say("topics: ready")

    def _wait_serving(self, name: str) -> None:
        address = self._address(name)
        self._wait(name, partial(health, address))
        self._say(f"{name}: serving on {address}")

    def _wait(self, name: str, ask: Callable[[], str]) -> None:
        """Until a process says that it serves; one that cannot is named with its last words."""
        deadline = time.monotonic() + SERVICE_SECONDS
        while (answer := ask()) != "SERVING":
            state = self.supervisor.state(name)
            if state.state == "FATAL":
                raise self._with_last_lines(f"{name} stops again and again ({state.description})", name)
            if time.monotonic() > deadline:
                raise self._with_last_lines(
                    f"{name} is not serving after {SERVICE_SECONDS} s ({answer})", name
                )
            time.sleep(0.2)

    def _address(self, name: str) -> str:
        return f"{HOST}:{self.plan.ports[port_name(name, 'grpc')]}"

    def _is_alive(self, name: str) -> bool:
        return self.supervisor.state(name).state in ("STARTING", "RUNNING")

    def _with_last_lines(self, message: str, name: str) -> StackError:
        log_file = self.plan.log_file(name)
        return StackError(f"{message}; the last lines of {log_file}:\n{last_lines(log_file)}")

    def _check_ports(self) -> None:
        for name in [*self.plan.services, *(n for n in (PORTAL, WORLD) if self.plan.runs(n))]:
            for label, port, setting in self.plan.listening(name):
                check_port(port, label, setting)

    def _check_given_engines(self) -> None:
        if "KAFKA_BOOTSTRAP_SERVERS" in self.plan.environment and not _kafka_answers(self.plan.bootstrap):
            raise StackError(
                f"KAFKA_BOOTSTRAP_SERVERS={self.plan.bootstrap}: no Kafka answers there that takes the "
                "KAFKA_* settings; 'python -m services.kit.bus.migrate' says why"
            )
        if "MONGODB_URI" in self.plan.environment and not _mongodb_answers(self.plan.mongodb_uri):
            raise StackError("MONGODB_URI: no MongoDB answers there that takes these credentials")

    def _write_endpoints(self) -> None:
        file = self.plan.state / "endpoints.json"
        file.write_text(json.dumps(self.plan.endpoints(), indent=2) + "\n")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One start at a time in a state directory."""
        self.plan.state.mkdir(parents=True, exist_ok=True)
        with (self.plan.state / "start.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError("the stack is being started by another command") from None
            yield


def _kafka_answers(bootstrap: str) -> bool:
    try:
        settings = read_settings(KafkaSettings).model_copy(update={"bootstrap_servers": bootstrap})
        config = {**client_config(settings, "stack"), "error_cb": lambda error: None}
        AdminClient(config).list_topics(timeout=GIVEN_ENGINE_SECONDS)
    except (KafkaException, Invalid):
        return False
    return True


def _mongodb_answers(uri: str) -> bool:
    try:
        with MongoClient[dict[str, object]](
            uri, serverSelectionTimeoutMS=GIVEN_ENGINE_SECONDS * 1000
        ) as client:
            client.admin.command("ping")
    except PyMongoError:
        return False
    return True


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def stop_on_signals() -> None:
    """Let each way of being told to stop end in the same orderly way."""
    # Set for SIGINT too: a shell gives its background jobs a SIGINT that is ignored.
    for number in SIGNALS:
        signal.signal(number, _interrupt)


def ignore_signals() -> None:
    """While everything is being stopped, a second Ctrl-C must not leave half of it behind."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
