"""What a drill breaks, and how that is undone.

A fault keeps nothing in memory that its undoing needs: it may be undone by a
later process, twice, and by one that does not know whether it was ever planted.
"""

import os
import resource
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from confluent_kafka import Consumer, Producer, TopicPartition

from deploy.drill.ground import Ground

#: The key of what drills throw in, which no aggregate has, and the reason for which it is discarded.
GARBAGE_KEY = "thrown in by a drill"
_KAFKA_SECONDS = 20.0
_AGAIN = 100
_KEEPER_SECONDS = 60.0
_PAUSE = 0.1


class Fault(Protocol):
    """Something that is broken on purpose."""

    def plant(self, ground: Ground) -> str:
        """Break it; answers what was done, in a sentence."""

    def undo(self, ground: Ground) -> str:
        """Mend it, if it stands; answers what was done, in a sentence."""


@dataclass(frozen=True)
class Stopped:
    """A process that has ended, and is not started again."""

    process: str

    def plant(self, ground: Ground) -> str:
        ground.supervisor.stop(self.process)
        return f"{self.process} was stopped"

    def undo(self, ground: Ground) -> str:
        return _started(ground, self.process)


@dataclass(frozen=True)
class Killed:
    """A process that was killed without a word, and is not started again."""

    process: str

    def plant(self, ground: Ground) -> str:
        with suppress(ProcessLookupError):
            os.kill(ground.process(self.process).pid, signal.SIGKILL)
        # Its keeper has it back within a second, and stops only what it has.
        end = time.monotonic() + _KEEPER_SECONDS
        while ground.process(self.process).state != "STOPPED":
            ground.supervisor.stop(self.process)
            if time.monotonic() > end:
                raise RuntimeError(f"{self.process} could not be kept from coming back")
            time.sleep(_PAUSE)
        return f"{self.process} was killed with SIGKILL, and is kept from coming back"

    def undo(self, ground: Ground) -> str:
        return _started(ground, self.process)


def _started(ground: Ground, process: str) -> str:
    if ground.process(process).state in ("RUNNING", "STARTING"):
        return f"{process} runs already"
    ground.supervisor.start(process)
    return f"{process} was started again"


@dataclass(frozen=True)
class Frozen:
    """A process that stands still (SIGSTOP) while what it reads is sent to it again: records of a topic that
    it has taken already, which must change nothing."""

    process: str
    topic: str

    def plant(self, ground: Ground) -> str:
        pid = ground.process(self.process).pid
        os.kill(pid, signal.SIGSTOP)
        sent = _send_again(ground.plan.bootstrap, self.topic)
        told = f"{sent} records of {self.topic} were sent once more"
        return f"{self.process} (pid {pid}) was frozen with SIGSTOP; {told}"

    def undo(self, ground: Ground) -> str:
        state = ground.process(self.process)
        if state.state in ("RUNNING", "STARTING") and state.pid:
            with suppress(ProcessLookupError):
                os.kill(state.pid, signal.SIGCONT)
        return f"{self.process} was told to go on; {_started(ground, self.process)}"


@dataclass(frozen=True)
class Garbage:
    """One record on a topic that nobody can read, under a key that no aggregate has."""

    topic: str
    event: str

    def plant(self, ground: Ground) -> str:
        producer = Producer(_quiet({"bootstrap.servers": ground.plan.bootstrap, "acks": "all"}))
        headers = {
            "ce_specversion": "1.0",
            "ce_id": "garbage",
            "ce_type": self.event,
            "ce_source": "/drill/poison",
            "ce_time": "2026-03-02T12:00:00+00:00",
            "ce_subject": "garbage",
            "pl_seq": "1",
        }
        value = b"\x0a\xff\x01cut"
        producer.produce(self.topic, value=value, key=GARBAGE_KEY.encode(), headers=list(headers.items()))
        if producer.flush(_KAFKA_SECONDS):
            raise RuntimeError(f"Kafka did not take the record within {_KAFKA_SECONDS:g} s")
        return f"{len(value)} bytes that are no {self.event.rpartition('.')[2]} were written to {self.topic}"

    def undo(self, ground: Ground) -> str:
        mine = letters_of_drills(ground)
        for letter in mine:
            ground.ask("dlq", "discard", letter, "--reason", GARBAGE_KEY, "--yes")
        return f"letters of the drill that were left and are discarded: {len(mine)}"


def letters_of_drills(ground: Ground) -> list[str]:
    """Ids of the dead letters that drills have made and nobody has settled."""
    return [name for name, letter in ground.letters().items() if letter.get("key") == GARBAGE_KEY]


@dataclass(frozen=True)
class NoSpace:
    """A process that may write no byte more to any file: the refusal that a full volume gives (as EFBIG where
    a full volume gives ENOSPC), for this process alone. Its log goes through a pipe, and goes on."""

    process: str

    def plant(self, ground: Ground) -> str:
        pid = ground.process(self.process).pid
        _limit(pid, 0)
        return f"{self.process} (pid {pid}) may write no byte more to a file"

    def undo(self, ground: Ground) -> str:
        state = ground.process(self.process)
        with suppress(ProcessLookupError):
            if state.pid:
                _limit(state.pid, resource.RLIM_INFINITY)
        return f"{self.process} may write files again; {_started(ground, self.process)}"


def _limit(pid: int, size: int) -> None:
    _, most = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size if most < 0 or 0 <= size < most else most, most))


def _send_again(bootstrap: str, topic: str) -> int:
    """Publish the last records of each partition of a topic once more, as they are; answers how many."""
    config = {"bootstrap.servers": bootstrap, "group.id": "drill", "enable.auto.commit": False}
    consumer = Consumer(_quiet({**config, "enable.partition.eof": False}))
    records: list[Any] = []
    try:
        for partition in consumer.list_topics(topic, timeout=_KAFKA_SECONDS).topics[topic].partitions:
            place = TopicPartition(topic, partition)
            first, end = consumer.get_watermark_offsets(place, timeout=_KAFKA_SECONDS)
            consumer.assign([TopicPartition(topic, partition, max(first, end - _AGAIN))])
            while (message := consumer.poll(2.0)) is not None and not message.error():
                records.append(message)
                if (message.offset() or 0) >= end - 1:
                    break
    finally:
        consumer.close()
    producer = Producer(_quiet({"bootstrap.servers": bootstrap, "acks": "all"}))
    for record in records:
        producer.produce(
            topic,
            value=record.value(),
            key=record.key(),
            headers=record.headers() or [],
            partition=record.partition(),
        )
    if producer.flush(_KAFKA_SECONDS):
        raise RuntimeError(f"Kafka did not take the records within {_KAFKA_SECONDS:g} s")
    return len(records)


def _quiet(config: dict[str, Any]) -> dict[str, Any]:
    """A broker that is away is what a drill may be about, and no news."""
    return {**config, "log_level": 0, "error_cb": lambda error: None}
