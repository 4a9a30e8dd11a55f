"""Settings of a process, read once from the environment and then frozen.

Kafka, MongoDB and gRPC are each connected through one function of the kit
that takes these settings, so that TLS and credentials are settings, not code.
What is wrong is named by its environment variable; a value is never quoted,
for it may be a secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from services.kit.errors import Invalid
from services.kit.hospitals import FIRST

PREFIX = "PHARMALOOP_"


class KafkaSettings(BaseSettings):
    """How to reach the backbone."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_", frozen=True)

    bootstrap_servers: str = Field(default="127.0.0.1:9092", description="host:port, comma separated")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    ssl_ca_location: str = ""
    ssl_certificate_location: str = ""
    ssl_key_location: str = ""
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    sasl_username: str = ""
    sasl_password: SecretStr = SecretStr("")
    replication_factor: int = 1
    min_insync_replicas: int = 1

    @property
    def sasl(self) -> bool:
        return self.security_protocol.startswith("SASL_")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        password = self.sasl_password.get_secret_value()
        given = {
            "SASL_MECHANISM": self.sasl_mechanism,
            "SASL_USERNAME": self.sasl_username,
            "SASL_PASSWORD": password,
        }
        for name, value in given.items():
            if self.sasl and not value:
                raise ValueError(f"KAFKA_{name}: KAFKA_SECURITY_PROTOCOL={self.security_protocol} needs it")
            if value and not self.sasl:
                raise ValueError(
                    f"KAFKA_{name}: it has no effect with KAFKA_SECURITY_PROTOCOL={self.security_protocol}; "
                    "choose SASL_SSL or SASL_PLAINTEXT, or leave it out"
                )
        if bool(self.ssl_certificate_location) != bool(self.ssl_key_location):
            raise ValueError(
                "KAFKA_SSL_CERTIFICATE_LOCATION: give it with KAFKA_SSL_KEY_LOCATION, or neither"
            )
        return self


class MongoSettings(BaseSettings):
    """How to reach the database; a replica set, for transactions need one."""

    model_config = SettingsConfigDict(env_prefix="MONGODB_", frozen=True)

    uri: str = Field(default="mongodb://127.0.0.1:27017/?replicaSet=rs0", description="connection string")
    tls_ca_file: str = ""
    tls_certificate_key_file: str = ""


class TlsSettings(BaseSettings):
    """How gRPC is secured, by PEM files: both ends prove who they are. All three, or none for plain text."""

    model_config = SettingsConfigDict(env_prefix=f"{PREFIX}TLS_", frozen=True)

    cert: str = Field(default="", description="own certificate, and those between it and the authority")
    key: str = Field(default="", description="its private key, not encrypted")
    ca: str = Field(default="", description="authorities whose certificates are taken")

    @property
    def on(self) -> bool:
        return bool(self.ca)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        given = {name: getattr(self, name) for name in ("cert", "key", "ca")}
        if any(given.values()):
            for name, value in given.items():
                if not value:
                    raise ValueError(
                        f"{PREFIX}TLS_{name.upper()}: give it with the other two of {PREFIX}TLS_CERT, "
                        f"{PREFIX}TLS_KEY and {PREFIX}TLS_CA, or none of them"
                    )
        return self


class ServiceSettings(BaseSettings):
    """What every service needs to know; `for_service` reads its own prefix."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    grpc_host: str = "127.0.0.1"
    grpc_port: int = Field(default=0, ge=0, le=65535)
    health_port: int = Field(
        default=0, ge=0, le=65535, description="answers health alone, in plain text; 0: nowhere beside gRPC"
    )
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65535)
    database: str = ""
    max_request_bytes: int = 4_000_000
    reflection: bool = True
    most_subscriptions: int = Field(default=1000, ge=1, description="streams of changes that stand at once")
    most_subscriptions_of_actor: int = Field(default=100, ge=1, description="the same, of one actor")
    instance: str = Field(
        default="0", min_length=1, description="stable name of this instance: static group membership"
    )
    heartbeat_file: str = Field(
        default="", description="where liveness is written; alive/<name>.json in the state folder if empty"
    )


class PlatformSettings(BaseSettings):
    """What all processes of one installation share."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    state_dir: Path = Path(".state")
    endpoints: dict[str, str] = Field(default_factory=dict, description="gRPC address by service, JSON")
    sites: tuple[str, ...] = Field(default=(FIRST,), description="sites whose topics exist, JSON list")
    clock_speed: float = Field(
        default=600.0,
        gt=0,
        description="platform seconds in a wall second; a clock that is set is changed only if this is told",
    )
    group_prefix: str = Field(default="", description="prefix of consumer groups; set by tests")
    start_seconds: float = Field(
        default=10.0, ge=0, description="how long a start waits for what may come by itself"
    )
    otlp_endpoint: str = Field(
        default="",
        pattern=r"^(https?://[^\s/:]+:\d+)?$",
        description="where spans go, OTLP over gRPC: http://host:port, https:// for TLS; none if empty",
    )
    trace_ratio: float = Field(
        default=1.0, ge=0, le=1, description="share of traces whose spans are kept; the trace's id decides"
    )


S = TypeVar("S", bound=BaseSettings)
T = TypeVar("T", bound=ServiceSettings)


def read_settings(cls: type[S], prefix: str = "") -> S:
    """Settings from the environment; Invalid names the variable that is wrong."""
    prefix = prefix or cls.model_config.get("env_prefix", "")
    try:
        return cls(_env_prefix=prefix)
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # a rule between several; its text begins with the variable
            variable, _, problem = first["msg"].removeprefix("Value error, ").partition(": ")
            raise _bad(variable, problem) from None
        name, problem = str(first["loc"][0]), first["msg"]
    except SettingsError as error:
        # A value that should be JSON and is none; the message quotes the field.
        name, problem = str(error).split('"')[1], "this is not JSON"
    raise _bad(prefix + name.upper(), problem)


def _bad(variable: str, problem: str) -> Invalid:
    return Invalid("BAD_SETTING", f"{variable}: {problem}; correct the environment", variable)


def service_prefix(name: str) -> str:
    """What the variables of a service begin with."""
    return f"{PREFIX}{name.upper()}_"


def service_settings(name: str, cls: type[T]) -> T:
    """Settings of one service from PHARMALOOP_<NAME>_*."""
    return read_settings(cls, service_prefix(name))
