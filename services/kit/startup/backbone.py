"""Is there a Kafka behind the settings, does it let us in, and are its topics as the contract says?

librdkafka tries for ever and tells its causes to a callback; here they become
one sentence that names the setting. What may come by itself is Retryable
(not up yet, topics not made yet); what an operator has to change is Invalid
or Integrity. No text of a setting that may hold a secret is ever quoted.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import confluent_kafka as ck
from confluent_kafka.admin import AdminClient, ConfigResource, ResourceType

from services.kit.bus.kafka import client_config
from services.kit.contracts import Contract
from services.kit.errors import Integrity, Invalid, PharmaLoopError, Retryable
from services.kit.settings import KafkaSettings
from services.kit.tls import handshake

ATTEMPT_SECONDS = 3.0
_SLICE_SECONDS = 0.25
_TCP_SECONDS = 2.0
_ADDRESS = re.compile(r"^[^:/\s]+:\d{1,5}$|^\[[0-9a-fA-F:]+\]:\d{1,5}$")
_FOREVER = "-1"
_DAY_MS = 86_400_000
_MIGRATE = "run 'python -m services.kit.bus.migrate'"

#: What librdkafka says -> (setting, what is wrong and what to do). The first match counts.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        "Unsupported SASL mechanism",
        "KAFKA_SASL_MECHANISM",
        "the broker does not offer this mechanism: set one that it offers",
    ),
    (
        "current SASL state",
        "KAFKA_SECURITY_PROTOCOL",
        "the broker asks for no password on this port: set PLAINTEXT or SSL, or name the port that does",
    ),
    (
        "PLAINTEXT broker listener",
        "KAFKA_SECURITY_PROTOCOL",
        "the broker does not speak TLS on this port: "
        "set PLAINTEXT or SASL_PLAINTEXT, or name the port that does",
    ),
    (
        "certificate verify failed",
        "KAFKA_SSL_CA_LOCATION",
        "the broker's certificate is not signed by this authority: name the file of the one that signed it",
    ),
    (
        "certificate required",
        "KAFKA_SSL_CERTIFICATE_LOCATION",
        "the broker wants a client certificate: give one and its KAFKA_SSL_KEY_LOCATION",
    ),
    (
        "SASL",
        "KAFKA_SASL_USERNAME",
        "the broker refused this user or its KAFKA_SASL_PASSWORD: correct them, or create the user",
    ),
)


def cause(told: Iterable[str], where: str) -> PharmaLoopError | None:
    """The error that an operator has to mend, if the client's words tell of one."""
    for text in told:
        for words, variable, remedy in _CAUSES:
            if words in text:
                return Invalid("BACKBONE", f"Kafka at {where}: {remedy} ({variable})", variable)
    return None


class BackboneProbe:
    """Asks Kafka, in bounded time, whether it is there; one client for many questions.

    Who needs it for a moment uses it in a `with`: librdkafka ends the whole process when
    its client is collected as garbage in its own thread, while that tells an answer.
    """

    def __init__(self, settings: KafkaSettings, client: str) -> None:
        self._settings = settings
        self._where = settings.bootstrap_servers
        #: Topics that the service cannot do without, once they were found as they must be.
        self.expects: tuple[Needed, ...] = ()
        self._metadata: Any = None
        self._told: list[str] = []
        for address in self._where.split(","):
            if not _ADDRESS.match(address.strip()):
                raise Invalid(
                    "BAD_SETTING",
                    f"KAFKA_BOOTSTRAP_SERVERS: {address.strip()!r} is not host:port",
                    "KAFKA_BOOTSTRAP_SERVERS",
                )
        config = client_config(settings, f"{client}-probe")
        try:
            told = self._told  # and not the probe itself: it would be freed by the collector alone
            self.admin = AdminClient({**config, "error_cb": lambda error: told.append(error.str())})
        except ck.KafkaException as error:
            raise _refused_config(error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        client: Any = self.admin  # its stubs do not know that it can be closed
        client.__exit__(None, None, None)

    def check(self) -> Any:
        """The cluster's metadata; raises what keeps us out."""
        self._told.clear()
        end = time.monotonic() + ATTEMPT_SECONDS
        while True:
            try:
                self.admin.poll(0)
                self._metadata = self.admin.list_topics(timeout=_SLICE_SECONDS)
                return self._metadata
            except ck.KafkaException as error:
                self.admin.poll(0)
                found = cause(self._told, self._where)
                if found:
                    raise self._exactly(found) from None
                if time.monotonic() > end:
                    raise Retryable(self._silent(str(error.args[0]))) from None
                time.sleep(0.05)

    def _exactly(self, found: PharmaLoopError) -> PharmaLoopError:
        """Of certificates librdkafka tells little: say whose it is and what is wrong with it."""
        variable = str(getattr(found, "field", ""))
        told = self._of_certificates() if variable.startswith("KAFKA_SSL") else ""
        return Invalid("BACKBONE", f"Kafka: {told}", variable) if told else found

    def _of_certificates(self) -> str:
        if not self._settings.security_protocol.endswith("SSL"):
            return ""
        addresses = (address.strip() for address in self._where.split(","))
        return next(filter(None, (handshake.of_kafka(one, self._settings) for one in addresses)), "")

    def check_topics_again(self) -> None:
        """Somebody may have deleted a topic, or made it anew, or given it more partitions, while we run.

        By what the latest `check` heard.
        """
        if self._metadata is None:
            return
        for topic in self.expects:
            check_partitions(topic.name, topic.partitions, self._metadata)
        _check_there(self.expects, self._metadata)

    def _silent(self, error: str) -> str:
        """Nobody answers: say whether anybody listens."""
        addresses = [address.strip() for address in self._where.split(",")]
        troubles = [reach(address) for address in addresses]
        if all(troubles):
            listed = "; ".join(f"{a} {t}" for a, t in zip(addresses, troubles, strict=True))
            return f"no Kafka answers ({listed}): start it, or correct KAFKA_BOOTSTRAP_SERVERS={self._where}"
        if told := self._of_certificates():
            return f"Kafka: {told}"
        return (
            f"Kafka at {self._where} accepts connections and does not answer ({error}): it is still "
            f"starting, it expects another KAFKA_SECURITY_PROTOCOL than {self._settings.security_protocol}, "
            "or KAFKA_BOOTSTRAP_SERVERS names the port of something else"
        )

    def check_brokers(self, metadata: Any) -> None:
        """Can we reach the brokers under the names by which they call themselves?"""
        for broker in metadata.brokers.values():
            address = f"{broker.host}:{broker.port}"
            if trouble := reach(address):
                raise Retryable(
                    f"Kafka at {self._where} sends its clients to {address}, which {trouble}: "
                    "correct advertised.listeners of the broker, or KAFKA_BOOTSTRAP_SERVERS if this is "
                    "another network"
                )


def _refused_config(error: ck.KafkaException) -> Invalid:
    text = str(error.args[0])
    for name in ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location"):
        if name in text:
            variable = f"KAFKA_{name.replace('.', '_').upper()}"
            return Invalid("BAD_SETTING", f"{variable}: the file cannot be read as PEM; correct it", variable)
    return Invalid("BAD_SETTING", f"KAFKA_*: the client refuses the settings: {text}", "KAFKA_")


def reach(address: str) -> str:
    """Why no connection can be made to host:port; empty when one can."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _TCP_SECONDS):
            return ""
    except socket.gaierror:
        return "is not a known host name"
    except ConnectionRefusedError:
        return "refuses connections"
    except TimeoutError:
        return "does not answer"
    except (OSError, OverflowError) as error:
        return f"cannot be reached ({getattr(error, 'strerror', None) or 'no such port'})"


# -- topics -----------------------------------------------------------------


@dataclass(frozen=True)
class Needed:
    """A topic as it must be for a service to use it."""

    name: str
    partitions: int
    keep_ms: str = _FOREVER
    compacted: bool = False


def needed(
    contract: Contract, service: str, reads: Iterable[str], site: str, sites: tuple[str, ...], prefix: str
) -> Iterator[Needed]:
    """The topics that a service reads or writes, with their dead letters and its tables' changelogs."""
    read = set(reads)
    for name, topic in contract.names((site,) if site else sites):
        if name in read or service in (topic.owner, *topic.writers):
            keep = _FOREVER if topic.keep_days is None else str(topic.keep_days * _DAY_MS)
            yield Needed(name, topic.partitions, keep)
        if name in read:
            yield Needed(f"{name}.dlq", 1)
    partitions = {topic.name: topic.partitions for topic in contract.topics}
    for log in contract.changelogs:
        if log.owner == service:
            yield Needed(prefix + log.name, partitions[log.source], compacted=True)


def check_topics(admin: AdminClient, metadata: Any, topics: Iterable[Needed]) -> None:
    """Every topic is there, with its partitions, and keeps what must be kept."""
    wanted = list(topics)
    for topic in wanted:
        check_partitions(topic.name, topic.partitions, metadata)
    _check_there(wanted, metadata)
    _check_retention(admin, wanted)


def _check_there(topics: Iterable[Needed], metadata: Any) -> None:
    missing = [topic.name for topic in topics if topic.name not in metadata.topics]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise Retryable(f"topic {missing[0]}{more} is missing: {_MIGRATE} with this build's contract")


def check_partitions(name: str, count: int, metadata: Any) -> None:
    """A topic that exists has the partitions of topics.yaml."""
    found = metadata.topics.get(name)
    if found is None:
        return
    if found.error is not None and found.error.code() == ck.KafkaError.TOPIC_AUTHORIZATION_FAILED:
        raise Invalid(
            "NO_RIGHT", f"KAFKA_SASL_USERNAME: this user may not use topic {name}; grant it the right", name
        )
    have = len(found.partitions)
    if have and have != count:
        raise Integrity(
            f"topic {name} has {have} partitions and topics.yaml says {count}; "
            "counts are fixed at creation: make a new version of the topic"
        )


def _check_retention(admin: AdminClient, topics: list[Needed]) -> None:
    resources = {topic: ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics}
    try:
        answers = admin.describe_configs(list(resources.values()), request_timeout=ATTEMPT_SECONDS)
        configs = {resource.name: future.result(ATTEMPT_SECONDS) for resource, future in answers.items()}
    except (ck.KafkaException, TimeoutError) as error:
        raise Retryable(f"Kafka did not tell how its topics are configured: {error}") from None
    for topic in topics:
        config = {name: entry.value for name, entry in configs[topic.name].items()}
        for name, value in _wrong(topic, config):
            raise Integrity(
                f"topic {topic.name} has {name}={config.get(name)} and must have {name}={value}, or it "
                "loses events that states are folded from: correct it with 'kafka-configs --alter "
                f"--entity-type topics --entity-name {topic.name} --add-config {name}={value}', and see what "
                "is gone already"
            )


def _wrong(topic: Needed, config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(name, needed value) of what would lose records."""
    policy = "compact" if topic.compacted else "delete"
    if config.get("cleanup.policy") != policy:
        yield "cleanup.policy", policy
    if topic.compacted:
        return
    for name, least in (("retention.ms", topic.keep_ms), ("retention.bytes", _FOREVER)):
        have = str(config.get(name, _FOREVER))
        if have != _FOREVER and (least == _FOREVER or int(have) < int(least)):
            yield name, least
