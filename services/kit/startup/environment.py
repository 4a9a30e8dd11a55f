"""Environment variables that nobody reads: a typo must not leave a default in force.

Every variable with our prefix must be known. What belongs to another service
is that service's to judge, for one environment may serve all of them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from pydantic_settings import BaseSettings

from services.kit.errors import Invalid
from services.kit.log import get_logger
from services.kit.settings import (
    PREFIX,
    KafkaSettings,
    MongoSettings,
    PlatformSettings,
    ServiceSettings,
    TlsSettings,
    service_prefix,
)

_log = get_logger("kit.startup")
#: Read without a settings class: by the log, by tests, by the command line.
_BARE = ("LOG_LEVEL", "CRASH_AT", "ACTOR")
#: Who owns no topic: ports of the local stack, the simulated world, test runs, the HTTP edge, sites' agents,
#: the evaluator.
_TOOLS = ("PORT_", "WORLD_", "TEST_", "PORTAL_", "AGENT_", "EVALUATOR_")
#: What Kubernetes tells every pod of the services beside it.
_SERVICE_LINK = re.compile(r"_SERVICE_HOST$|_SERVICE_PORT(_|$)|_PORT_\d+_(TCP|UDP|SCTP)(_|$)")


def _names(cls: type[BaseSettings]) -> set[str]:
    return {name.upper() for name in cls.model_fields}


def check_environment(
    environment: Mapping[str, str], service: str, cls: type[ServiceSettings], services: Iterable[str]
) -> None:
    """Refuse a variable of ours that is not known, naming the nearest that is.

    `services` are the names of all services of the installation.
    """
    own = service_prefix(service)
    known = {PREFIX + name for name in (*_names(PlatformSettings), *_BARE)} | {own + n for n in _names(cls)}
    known |= {f"{PREFIX}TLS_{name}" for name in _names(TlsSettings)}
    others = {service_prefix(name): _names(ServiceSettings) for name in services if name != service}
    offered = known | {prefix + name for prefix, names in others.items() for name in names}
    foreign = (*others, *(PREFIX + tool for tool in _TOOLS))
    for name in sorted(environment):
        if not name.startswith(PREFIX) or name in known or _is_link(name, environment[name]):
            continue
        if name.startswith(own) or not name.startswith(foreign):
            raise Invalid("UNKNOWN_SETTING", f"{name} is not a setting{_nearest(name, offered)}", name)
    _warn_of_near_misses(environment)


def _nearest(name: str, offered: set[str]) -> str:
    # Compared without what they have in common, which would make all of them alike.
    rests = sorted(known.removeprefix(PREFIX) for known in offered)
    close = difflib.get_close_matches(name.removeprefix(PREFIX), rests, 1, 0.6)
    return (
        f"; did you mean {PREFIX}{close[0]}? Correct or remove it"
        if close
        else "; remove it from the environment"
    )


def _is_link(name: str, value: str) -> bool:
    return bool(_SERVICE_LINK.search(name)) or (name.endswith("_PORT") and value.startswith("tcp://"))


def _warn_of_near_misses(environment: Mapping[str, str]) -> None:
    """KAFKA_ and MONGODB_ are other people's prefixes too: what looks like ours is only told."""
    known = [f"KAFKA_{name}" for name in _names(KafkaSettings)]
    known += [f"MONGODB_{name}" for name in _names(MongoSettings)]
    for name in environment:
        if name.startswith(("KAFKA_", "MONGODB_")) and name not in known:
            close = difflib.get_close_matches(name, known, 1, 0.88)
            if close:
                _log.warning("a variable has no effect", variable=name, did_you_mean=close[0])
