"""How a client connects to Kafka: the one place that knows credentials and the client's own log."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import confluent_kafka as ck

from services.kit.log import get_logger
from services.kit.settings import KafkaSettings

_log = get_logger("kit.bus")
#: A connection of which nothing is heard for so long is given up: a firewall may have forgotten it.
_SILENT_MS = 20_000
#: A partition changes its leader, or the new one does not know yet how far all copies are: ask again.
ELECTING = (
    ck.KafkaError.NOT_LEADER_FOR_PARTITION,
    ck.KafkaError.LEADER_NOT_AVAILABLE,
    ck.KafkaError.OFFSET_NOT_AVAILABLE,
    ck.KafkaError.FENCED_LEADER_EPOCH,
    ck.KafkaError.UNKNOWN_LEADER_EPOCH,
)


def client_config(settings: KafkaSettings, client: str) -> dict[str, Any]:
    """The one place that says how a client connects."""
    config: dict[str, Any] = {
        "bootstrap.servers": settings.bootstrap_servers,
        "client.id": client,
        "security.protocol": settings.security_protocol,
        "socket.timeout.ms": _SILENT_MS,
        "socket.keepalive.enable": True,
        "logger": _Quiet(),
    }
    for name in ("ssl_ca_location", "ssl_certificate_location", "ssl_key_location"):
        if value := getattr(settings, name):
            config[name.replace("_", ".")] = value
    if settings.sasl:
        config["sasl.mechanism"] = settings.sasl_mechanism
        config["sasl.username"] = settings.sasl_username
        config["sasl.password"] = settings.sasl_password.get_secret_value()
    return config


class _Quiet:
    """Takes librdkafka's own log lines into ours, at debug: it repeats itself."""

    def log(self, _level: int, message: str, *args: Any) -> None:
        _log.debug("librdkafka", text=message % args if args else message)

    def __getattr__(self, _name: str) -> Callable[..., None]:
        return lambda message="", *args, **_: _log.debug("librdkafka", text=str(message))
