"""Settings of a process, read once from the environment and then frozen.

Kafka, MongoDB and gRPC are each connected through one function of the kit
that takes these settings, so that TLS and credentials are settings, not code.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from services.kit.errors import Invalid


class KafkaSettings(BaseSettings):
    """How to reach the backbone."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_", frozen=True)

    bootstrap_servers: str = Field(default="127.0.0.1:9092", description="host:port, comma separated")
    security_protocol: str = "PLAINTEXT"
    ssl_ca_location: str = ""
    ssl_certificate_location: str = ""
    ssl_key_location: str = ""
    replication_factor: int = 1
    min_insync_replicas: int = 1


class MongoSettings(BaseSettings):
    """How to reach the database; a replica set, for transactions need one."""

    model_config = SettingsConfigDict(env_prefix="MONGODB_", frozen=True)

    uri: str = Field(default="mongodb://127.0.0.1:27017/?replicaSet=rs0", description="connection string")
    tls_ca_file: str = ""
    tls_certificate_key_file: str = ""


class ServiceSettings(BaseSettings):
    """What every service needs to know; `for_service` reads its own prefix."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    grpc_host: str = "127.0.0.1"
    grpc_port: int = 0
    metrics_host: str = "127.0.0.1"
    metrics_port: int = 0
    database: str = ""
    max_request_bytes: int = 4_000_000
    reflection: bool = True
    instance: str = Field(default="0", description="stable name of this instance: static group membership")


class PlatformSettings(BaseSettings):
    """What all processes of one installation share."""

    model_config = SettingsConfigDict(env_prefix="PHARMALOOP_", frozen=True, extra="ignore")

    state_dir: Path = Path(".state")
    endpoints: dict[str, str] = Field(default_factory=dict, description="gRPC address by service, JSON")
    sites: tuple[str, ...] = Field(default=("hospital-a",), description="sites whose topics exist, JSON list")
    clock_speed: float = Field(default=600.0, gt=0, description="platform seconds in a wall second")
    group_prefix: str = Field(default="", description="prefix of consumer groups; set by tests")


S = TypeVar("S", bound=BaseSettings)
T = TypeVar("T", bound=ServiceSettings)


def read_settings(cls: type[S], prefix: str = "") -> S:
    """Settings from the environment; Invalid names the variable that is wrong."""
    prefix = prefix or cls.model_config.get("env_prefix", "")
    try:
        return cls(_env_prefix=prefix)
    except ValidationError as error:
        first = error.errors()[0]
        name, problem = str(first["loc"][0]), first["msg"]
    except SettingsError as error:
        # A value that should be JSON and is none; the message quotes the field.
        name, problem = str(error).split('"')[1], "this is not JSON"
    variable = prefix + name.upper()
    raise Invalid("BAD_SETTING", f"{variable}: {problem}; correct the environment", variable)


def service_settings(name: str, cls: type[T]) -> T:
    """Settings of one service from PHARMALOOP_<NAME>_*."""
    return read_settings(cls, f"PHARMALOOP_{name.upper()}_")
