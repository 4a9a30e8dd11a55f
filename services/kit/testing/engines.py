"""Start a real Kafka and a real MongoDB on this machine.

The one place that knows how: the local stack and the test fixtures both start
their engines here, so that what is tested is what is run. An engine is a
directory, a port, a command line and a way to see that it is ready; who keeps
the process alive is the caller's matter. It must never report ready for a
program that is not its own, and never leave a child behind.
"""

import importlib.util
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from services.kit.testing import java

HOST = "127.0.0.1"
#: In an order of this process; below the ports of stacks, which stand below those of outgoing connections.
_own_ports = cycle(random.SystemRandom().sample(range(15_000, 20_000), 5_000))
KAFKA_LIBS = Path(__file__).resolve().parents[3] / ".tools" / "kafka" / "libs"
REPLICA_SET = "rs0"
NOT_YET_INITIALIZED = 94  # MongoDB's error code
#: A broker with these settings asks who may do what.
ASKING = {"authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer"}

Alive = Callable[[], bool]


class EngineError(RuntimeError):
    """An engine cannot start or did not become ready; the message names the cause and the remedy."""


class Engine(Protocol):
    """What a runner needs to know of an engine."""

    name: str

    def prepare(self) -> None:
        """Make the data directory ready to start from; what is there already is kept."""

    def command(self) -> list[str]:
        """The command line of the process, once it is prepared."""

    def wait_ready(self, timeout: float, alive: Alive) -> None:
        """Block until clients are served; EngineError when `alive` says no, or after `timeout` seconds."""


def free_port() -> int:
    """A port that nobody holds, below those that outgoing connections are given: none takes it meanwhile."""
    while True:
        port = next(_own_ports)
        with socket.socket() as probe, suppress(OSError):
            probe.bind((HOST, port))
            return port


def check_port(port: int, name: str, setting: str) -> None:
    """Refuse a port that another program holds, before a child fails on it in its own words."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise EngineError(
                f"port {port} ({name}) is in use by another program: "
                f"stop it, or choose another port with {setting}=<port>"
            ) from None


def tied_to_parent(command: list[str]) -> list[str]:
    """The same command, told by the kernel to stop when the process that started it is gone."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--", *command] if setpriv else command


@dataclass(frozen=True)
class SecuredListeners:
    """What a broker listens on beside its plain port: passwords (SASL/PLAIN) and TLS."""

    sasl_port: int = 0
    users: Mapping[str, str] = field(default_factory=dict)
    ssl_port: int = 0
    #: PEM file with the private key (PKCS 8) and then its certificate.
    ssl_keystore: Path = Path()

    def listeners(self) -> str:
        """Addresses of the listeners, as they are appended to the plain ones."""
        named = (("SASL", self.sasl_port), ("TLS", self.ssl_port))
        return "".join(f",{name}://{HOST}:{port}" for name, port in named if port)

    def properties(self) -> str:
        lines = []
        if self.sasl_port:
            users = "".join(f' user_{name}="{password}"' for name, password in self.users.items())
            module = "org.apache.kafka.common.security.plain.PlainLoginModule"
            lines += [
                "listener.name.sasl.sasl.enabled.mechanisms=PLAIN",
                f"listener.name.sasl.plain.sasl.jaas.config={module} required{users};",
            ]
        if self.ssl_port:
            lines += [
                "listener.name.tls.ssl.keystore.type=PEM",
                f"listener.name.tls.ssl.keystore.location={self.ssl_keystore}",
            ]
        return "".join(f"{line}\n" for line in lines)


class KafkaEngine:
    """One broker that is its own controller (KRaft), from the jars that `make setup` fetched."""

    name = "kafka"
    jvm_options: tuple[str, ...] = ("-Xmx512m", "-XX:+UseSerialGC")

    def __init__(
        self,
        data_dir: Path,
        port: int,
        controller_port: int,
        libs_dir: Path = KAFKA_LIBS,
        secured: SecuredListeners | None = None,
        *,
        advertised: int = 0,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """`advertised` is the port that clients are told, where a proxy stands before the broker; `settings`
        are further properties of it."""
        self.data_dir = data_dir
        self.secured = secured
        self.port = port
        self.controller_port = controller_port
        self.libs_dir = libs_dir
        self.advertised = advertised or port
        self.settings = settings
        self.bootstrap = f"{HOST}:{self.advertised}"
        self._java: Path | None = None

    def prepare(self) -> None:
        check_port(self.port, self.name, "PHARMALOOP_PORT_KAFKA")
        check_port(self.controller_port, "kafka_controller", "PHARMALOOP_PORT_KAFKA_CONTROLLER")
        if not any(self.libs_dir.glob("kafka_*.jar")):
            raise EngineError(f"no Kafka jars in {self.libs_dir}: run 'make setup'")
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self._properties.write_text(self.properties())
        self._log_config.write_text(KAFKA_LOG_CONFIG)
        if not (self.log_dirs / "meta.properties").exists():
            self._format_storage()

    def properties(self) -> str:
        """The broker's configuration; of a key that stands twice the later value counts."""
        secured = self.secured or SecuredListeners()
        further = "".join(f"{name}={value}\n" for name, value in self.settings.items())
        own = KAFKA_PROPERTIES.format(engine=self, listeners=secured.listeners())
        return own + secured.properties() + further

    def cluster_id(self) -> str:
        """The name under which the storage is formatted: brokers of one cluster share it."""
        return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")

    def command(self) -> list[str]:
        return [*self._jvm(*self.jvm_options), "kafka.Kafka", str(self._properties)]

    def wait_ready(self, timeout: float, alive: Alive) -> None:
        deadline = time.monotonic() + timeout
        _wait_for(lambda: _accepts(self.port), self.name, deadline, alive)
        _wait_for(self._serves_metadata, self.name, deadline, alive)
        _wait_for(self._serves_records, self.name, deadline, alive)

    @property
    def log_dirs(self) -> Path:
        return self.data_dir / "log"

    @property
    def _properties(self) -> Path:
        return self.data_dir / "server.properties"

    @property
    def _log_config(self) -> Path:
        return self.data_dir / "log4j2.properties"

    def _jvm(self, *options: str) -> list[str]:
        self._java = self._java or java.find_java()
        if self._java is None:
            raise EngineError(f"no Java {java.OLDEST} or newer was found: {java.REMEDY}")
        classpath = str(self.libs_dir / "*")
        return [str(self._java), *options, "-cp", classpath, f"-Dlog4j2.configurationFile={self._log_config}"]

    def _format_storage(self) -> None:
        # Joined by "=": the tool would read an id that begins with a dash as an option.
        arguments = ["format", f"--cluster-id={self.cluster_id()}", "-c", str(self._properties)]
        result = subprocess.run(
            [*self._jvm("-XX:TieredStopAtLevel=1"), "kafka.tools.StorageTool", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode != 0:
            raise EngineError(
                f"Kafka could not format {self.log_dirs}: {result.stderr.strip() or result.stdout.strip()}"
            )

    def _serves_metadata(self) -> bool:
        admin = self._admin()  # kept until the answer is there: a client that is let go cancels its calls
        try:
            # The stubs of this call describe another one's answer.
            answer: Any = admin.describe_cluster(request_timeout=2)
            cluster_id = answer.result().cluster_id
        except KafkaException:
            return False
        meta = (self.log_dirs / "meta.properties").read_text()
        if f"cluster.id={cluster_id}\n" not in meta:
            raise EngineError(
                f"another Kafka answers on port {self.port}: stop it, or set PHARMALOOP_PORT_KAFKA=<port>"
            )
        return True

    def _serves_records(self) -> bool:
        """Write three records and see them: a broker answers metadata before it can do that."""
        topic = f"ready-{uuid.uuid4().hex}"
        admin = self._admin()
        try:
            admin.create_topics([NewTopic(topic, num_partitions=1, replication_factor=1)])[topic].result(
                timeout=5
            )
            _produce(self.bootstrap, topic, count=3)
            visible = _high_watermark(self.bootstrap, topic)
            admin.delete_topics([topic])[topic].result(timeout=5)
        except KafkaException:
            return False
        return visible == 3

    def _admin(self) -> AdminClient:
        return AdminClient(_quiet({"bootstrap.servers": self.bootstrap}))


class MongoEngine:
    """One mongod as a replica set of one: transactions and change streams need the set.

    `user` (name, password) makes it ask for one: the user must exist in the data already.
    `replica_set=False` is what an operator may set up by mistake.
    """

    name = "mongod"
    cache_gigabytes = "0.5"

    def __init__(
        self, data_dir: Path, port: int, user: tuple[str, str] | None = None, *, replica_set: bool = True
    ) -> None:
        self.data_dir = data_dir
        self.port = port
        self.user = user
        self.replica_set = replica_set
        who = f"{user[0]}:{user[1]}@" if user else ""
        self.uri = f"mongodb://{who}{HOST}:{port}/?replicaSet={REPLICA_SET}"

    def prepare(self) -> None:
        check_port(self.port, self.name, "PHARMALOOP_PORT_MONGODB")
        self.data_dir.mkdir(parents=True, exist_ok=True)

    def command(self) -> list[str]:
        options = {
            "--dbpath": str(self.data_dir),
            "--port": str(self.port),
            "--bind_ip": HOST,
            "--wiredTigerCacheSizeGB": self.cache_gigabytes,
            "--oplogSize": "512",  # MB; the default, 5 % of the disk, is a server's
            "--setParameter": "diagnosticDataCollectionEnabled=false",
        }
        # A process that dies inside a transaction leaves it open; so long it may hold up the next.
        lifetime = ("--setParameter", "transactionLifetimeLimitSeconds=15")
        if self.replica_set:
            options |= {"--replSet": REPLICA_SET}
        if self.user:
            options |= {"--keyFile": str(self._key_file())}
        return [
            str(_find_mongod()),
            "--nounixsocket",
            *(word for option in options.items() for word in option),
            *lifetime,
        ]

    def wait_ready(self, timeout: float, alive: Alive) -> None:
        deadline = time.monotonic() + timeout
        _wait_for(lambda: _accepts(self.port), self.name, deadline, alive)
        if not self.replica_set:
            return
        name, password = self.user or (None, None)
        client: MongoClient[dict[str, Any]] = MongoClient(
            HOST,
            self.port,
            directConnection=True,
            serverSelectionTimeoutMS=2000,
            username=name,
            password=password,
        )
        with client:
            _wait_for(lambda: self._is_member(client), self.name, deadline, alive)
            _wait_for(lambda: _is_primary(client), self.name, deadline, alive)

    def _key_file(self) -> Path:
        """The key that the members of a set with users share."""
        file = self.data_dir / "key"
        if not file.exists():
            file.write_text(uuid.uuid4().hex * 2)
            file.chmod(0o600)
        return file

    def _is_member(self, client: MongoClient[dict[str, Any]]) -> bool:
        """See that the set consists of this mongod at this port; make or mend it where it does not."""
        try:
            config = self._set_config(client)
            members = config["members"]
            if [member["host"] for member in members] == [f"{HOST}:{self.port}"]:
                return True
            # The data was made on another port. A mongod that does not find itself in the set stays
            # out of it for ever, unless it is told by force.
            members = [{**members[0], "host": f"{HOST}:{self.port}"}]
            moved = {**config, "version": config["version"] + 1, "members": members}
            client.admin.command("replSetReconfig", moved, force=True)
        except PyMongoError:
            return False
        return True

    def _set_config(self, client: MongoClient[dict[str, Any]]) -> dict[str, Any]:
        try:
            config: dict[str, Any] = client.admin.command("replSetGetConfig")["config"]
        except OperationFailure as error:
            if error.code != NOT_YET_INITIALIZED:
                raise
            config = {
                "_id": REPLICA_SET,
                "version": 1,
                "members": [{"_id": 0, "host": f"{HOST}:{self.port}"}],
            }
            client.admin.command("replSetInitiate", config)
        return config


@contextmanager
def running(
    engine: Engine, log_file: Path, *, timeout: float = 60, grace: float = 20
) -> Iterator[subprocess.Popen[bytes]]:
    """Run an engine as a child in its own process group; at the end exactly that child is stopped."""
    engine.prepare()
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        command = tied_to_parent(engine.command())
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, process_group=0)
    try:
        try:
            engine.wait_ready(timeout, lambda: child.poll() is None)
        except EngineError as error:
            raise EngineError(f"{error}; the last lines of its log:\n{last_lines(log_file)}") from None
        yield child
    finally:
        stop(child, grace)


def stop(child: subprocess.Popen[bytes], grace: float) -> None:
    """SIGTERM, and SIGKILL after `grace` seconds, to the child's own process group."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is not None:
            return
        os.killpg(child.pid, kind)
        try:
            child.wait(grace)
        except subprocess.TimeoutExpired:
            continue


def last_lines(log_file: Path, count: int = 15) -> str:
    lines = log_file.read_text(errors="replace").splitlines() if log_file.exists() else []
    return "\n".join(f"  {line}" for line in lines[-count:]) or "  (empty)"


def _wait_for(condition: Callable[[], bool], name: str, deadline: float, alive: Alive) -> None:
    while True:
        if not alive():
            raise EngineError(f"{name} stopped before it was ready")
        # Asked after `alive`: what answered then is our child and no stranger on its port.
        if condition():
            return
        if time.monotonic() > deadline:
            raise EngineError(f"{name} was not ready in time")
        time.sleep(0.1)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _is_primary(client: MongoClient[dict[str, Any]]) -> bool:
    try:
        return bool(client.admin.command("hello").get("isWritablePrimary"))
    except PyMongoError:
        return False


def _find_mongod() -> Path:
    # Looked for by path: importing the wheel's package would start nothing useful and costs time.
    for folder in getattr(importlib.util.find_spec("fiftyone"), "submodule_search_locations", None) or []:
        program = Path(folder) / "db" / "bin" / "mongod"
        if program.exists():
            return program
    if on_path := shutil.which("mongod"):
        return Path(on_path)
    raise EngineError(
        "mongod was not found: run 'make setup', which installs it from its wheel (Linux x86-64), "
        "put a mongod 6 or newer on PATH, or point MONGODB_URI at a replica set"
    )


def _quiet(config: dict[str, Any]) -> dict[str, Any]:
    """While a broker starts, refused connections are expected and no news."""
    return {**config, "log_level": 0, "error_cb": lambda error: None}


def _produce(bootstrap: str, topic: str, count: int) -> None:
    producer = Producer(_quiet({"bootstrap.servers": bootstrap, "acks": "all", "message.timeout.ms": 5000}))
    for index in range(count):
        producer.produce(topic, value=str(index).encode())
    producer.flush(6)


def _high_watermark(bootstrap: str, topic: str) -> int:
    consumer = Consumer(_quiet({"bootstrap.servers": bootstrap, "group.id": topic}))
    try:
        return int(consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=5)[1])
    finally:
        consumer.close()


KAFKA_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{engine.controller_port}
listeners=PLAINTEXT://127.0.0.1:{engine.port},CONTROLLER://127.0.0.1:{engine.controller_port}{listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{engine.advertised}{listeners}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,TLS:SSL
log.dirs={engine.log_dirs}
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=false
# A killed broker's own controller waits for its session to end before it may register again.
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=1000
"""

KAFKA_LOG_CONFIG = """\
status=error
appender.console.type=Console
appender.console.name=console
appender.console.layout.type=PatternLayout
appender.console.layout.pattern=[%d] %-5p %m (%c)%n
rootLogger.level=info
rootLogger.appenderRef.console.ref=console
"""
