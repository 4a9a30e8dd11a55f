"""How faust logs in to the broker: from the same settings as every other client.

librdkafka has its own function for that (`client_config` of the kit); what is
added to one belongs into the other.
"""

from __future__ import annotations

import ssl
from typing import Any

from faust.auth import SASLCredentials, SSLCredentials

from services.kit.errors import Invalid
from services.kit.settings import KafkaSettings


def credentials(kafka: KafkaSettings) -> Any:
    """faust's credentials; None where the broker asks for none."""
    encrypted = kafka.security_protocol in ("SSL", "SASL_SSL")
    context = _context(kafka) if encrypted else None
    if kafka.sasl:
        return SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.sasl_password.get_secret_value(),
            mechanism=kafka.sasl_mechanism,
            ssl_context=context,
        )
    return SSLCredentials(context) if encrypted else None


def _context(kafka: KafkaSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_ca_location or None)
    except OSError as error:
        raise _unreadable(error, "KAFKA_SSL_CA_LOCATION") from None
    try:
        if kafka.ssl_certificate_location:
            context.load_cert_chain(kafka.ssl_certificate_location, kafka.ssl_key_location)
    except OSError as error:
        raise _unreadable(error, "KAFKA_SSL_CERTIFICATE_LOCATION", "KAFKA_SSL_KEY_LOCATION") from None
    return context


def _unreadable(error: OSError, *settings: str) -> Invalid:
    said = f"{', '.join(settings)}: cannot be read as PEM ({error.strerror or error}); name a readable file"
    return Invalid("BAD_SETTING", said, settings[0])
