"""Three brokers and a replica set of three members on this machine, each a process with little memory.

Every record is on all three brokers and acknowledged when two have it; every
write is acknowledged when two members have it. So one of each may be lost.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from services.kit.bus.kafka import client_config
from services.kit.settings import KafkaSettings
from services.kit.startup.backbone import reach
from services.kit.testing.engines import HOST, REPLICA_SET, Alive, EngineError, KafkaEngine, MongoEngine

NUMBERS = (1, 2, 3)
COPIES, IN_STEP = 3, 2
_ASK_SECONDS, _ASK_MS = 3.0, 2000

#: Six engines and the platform share the machine: one that is only slow is not to be taken for dead.
_QUORUM = """\
node.id={number}
controller.quorum.voters={voters}
default.replication.factor={copies}
min.insync.replicas={in_step}
offsets.topic.replication.factor={copies}
transaction.state.log.replication.factor={copies}
transaction.state.log.min.isr={in_step}
share.coordinator.state.topic.replication.factor={copies}
share.coordinator.state.topic.min.isr={in_step}
broker.session.timeout.ms=9000
initial.broker.registration.timeout.ms=240000
controller.quorum.fetch.timeout.ms=6000
controller.quorum.election.timeout.ms=3000
"""


def _wait_listening(name: str, address: str, timeout: float, alive: Alive) -> None:
    end = time.monotonic() + timeout
    while reach(address):
        if not alive() or time.monotonic() > end:
            raise EngineError(f"{name} did not begin to listen")
        time.sleep(0.1)


class Broker(KafkaEngine):
    """One of the three brokers, each its own controller (KRaft); `voters` has the controllers' ports."""

    jvm_options = ("-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")

    def __init__(
        self, number: int, data_dir: Path, port: int, voters: Mapping[int, int], cluster: str
    ) -> None:
        super().__init__(data_dir, port, voters[number])
        self.number = number
        self.name = f"kafka-{number}"
        self._voters = ",".join(f"{one}@{HOST}:{at}" for one, at in voters.items())
        self._cluster = cluster

    def cluster_id(self) -> str:
        return self._cluster

    def properties(self) -> str:
        quorum = _QUORUM.format(number=self.number, voters=self._voters, copies=COPIES, in_step=IN_STEP)
        return super().properties() + quorum

    def wait_ready(self, timeout: float, alive: Alive) -> None:
        """It listens; whether it serves is a matter of all three: `Brokers.together`."""
        _wait_listening(self.name, f"{HOST}:{self.port}", timeout, alive)


class Brokers:
    """The three of them, as a client sees them. Who does not answer now is no error: None, or False."""

    def __init__(self, brokers: Sequence[Broker]) -> None:
        self.each = tuple(brokers)
        self.bootstrap = ",".join(broker.bootstrap for broker in brokers)
        self.settings = KafkaSettings(
            bootstrap_servers=self.bootstrap, replication_factor=COPIES, min_insync_replicas=IN_STEP
        )
        self.admin = AdminClient(client_config(self.settings, "looks"))

    def _metadata(self) -> Any:
        try:
            return self.admin.list_topics(timeout=_ASK_SECONDS)
        except KafkaException:
            return None

    def _partitions(self) -> list[Any]:
        topics = getattr(self._metadata(), "topics", {})
        return [partition for topic in topics.values() for partition in topic.partitions.values()]

    def together(self) -> bool:
        """Are all of them members of one cluster?"""
        return len(getattr(self._metadata(), "brokers", ())) == len(self.each)

    def first(self) -> Broker:
        """The one that leads most partitions."""
        number, _ = Counter(partition.leader for partition in self._partitions()).most_common(1)[0]
        return next(broker for broker in self.each if broker.number == number)

    def replaced(self, broker: Broker) -> bool:
        """Does another lead every partition?"""
        leaders = {partition.leader for partition in self._partitions()}
        return bool(leaders) and not leaders & {broker.number, -1}

    def in_step(self) -> bool:
        """Does every partition have all its copies?"""
        partitions = self._partitions()
        return bool(partitions) and all(len(partition.isrs) == COPIES for partition in partitions)

    def copies(self) -> dict[str, int]:
        """The fewest copies of a partition, by topic."""
        topics = getattr(self._metadata(), "topics", {})
        return {
            name: min(len(p.replicas) for p in topic.partitions.values()) for name, topic in topics.items()
        }


class Member(MongoEngine):
    """One mongod of the set."""

    cache_gigabytes = "0.25"

    def __init__(self, number: int, data_dir: Path, port: int) -> None:
        super().__init__(data_dir, port)
        self.name = f"mongod-{number}"
        self.host = f"{HOST}:{port}"

    def wait_ready(self, timeout: float, alive: Alive) -> None:
        """It listens; whether it serves is a matter of all three: `Members.whole`."""
        _wait_listening(self.name, self.host, timeout, alive)

    def asked(self, command: str, value: Any = 1) -> Mapping[str, Any]:
        """The answer of this member itself."""
        options: dict[str, Any] = {
            "directConnection": True,
            "serverSelectionTimeoutMS": _ASK_MS,
            "socketTimeoutMS": 30_000,
        }
        with MongoClient[dict[str, Any]](self.host, **options) as client:
            return client.admin.command(command, value)

    def says(self, role: str) -> bool:
        """Is it in the role: `isWritablePrimary`, or `secondary`?"""
        try:
            return not reach(self.host) and bool(self.asked("hello").get(role))
        except PyMongoError:
            return False


class Members:
    """The three of them."""

    def __init__(self, members: Sequence[Member]) -> None:
        self.each = tuple(members)
        self.uri = f"mongodb://{','.join(one.host for one in members)}/?replicaSet={REPLICA_SET}"

    def found(self) -> None:
        """Make the set, once."""
        places = [{"_id": n, "host": member.host} for n, member in enumerate(self.each)]
        self.each[0].asked("replSetInitiate", {"_id": REPLICA_SET, "version": 1, "members": places})

    def primary(self) -> Member | None:
        return next((member for member in self.each if member.says("isWritablePrimary")), None)

    def whole(self) -> bool:
        """Is one the primary, and do the others follow it?"""
        followers = sum(member.says("secondary") for member in self.each)
        return self.primary() is not None and followers == len(self.each) - 1
