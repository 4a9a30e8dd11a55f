"""Where the services listen: told, or found beside the checkout.

In this order: `--endpoints`, PHARMALOOP_ENDPOINTS, `endpoints.json` in
PHARMALOOP_STATE_DIR, `.state/endpoints.json` in the current folder or one
above it. The first two may be a flat JSON map {"service": "host:port"}, the
whole document of `endpoints.json`, or the name of such a file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.kit import hospitals

_FILE = "endpoints.json"
_PASSWORD = re.compile(r"(?<=://)([^:/@]+):[^@]*@")


class NoEndpoints(Exception):
    """It cannot be said where the services listen; the message says what to do."""


@dataclass(frozen=True)
class Endpoints:
    """Addresses by service, and of the engines where they are known."""

    grpc: Mapping[str, str]
    metrics: Mapping[str, str] = field(default_factory=dict)
    kafka: str = ""
    mongodb: str = ""
    #: What gave them: an option, a variable of the environment, a file.
    source: str = "the endpoints"
    #: The hospital whose process is called clinical alone.
    first_site: str = hospitals.FIRST

    @property
    def sites(self) -> dict[str, str]:
        """By site, the clinical process that speaks for it; one called clinical alone is the first's."""
        return hospitals.processes(self.grpc, self.first_site)

    def document(self) -> dict[str, Any]:
        """As `status --json` gives it; a password is never shown."""
        return {
            "grpc": dict(self.grpc),
            "metrics": dict(self.metrics),
            "kafka": self.kafka,
            "mongodb": _PASSWORD.sub(r"\1:***@", self.mongodb),
            "source": self.source,
        }


def state_dir(environment: Mapping[str, str] = os.environ, start: Path | None = None) -> Path | None:
    """The state folder of the platform; None where there is none."""
    if told := environment.get("PHARMALOOP_STATE_DIR"):
        return Path(told)
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if (folder / ".state").is_dir():
            return folder / ".state"
    return None


def find_endpoints(
    option: str = "", environment: Mapping[str, str] = os.environ, start: Path | None = None
) -> Endpoints:
    """The endpoints by the order above; NoEndpoints when none is given."""
    if text := option or environment.get("PHARMALOOP_ENDPOINTS", ""):
        return _parse(text, "--endpoints" if option else "PHARMALOOP_ENDPOINTS", environment)
    folder = state_dir(environment, start)
    if folder and (folder / _FILE).is_file():
        return _parse((folder / _FILE).read_text(), str(folder / _FILE), environment)
    raise NoEndpoints(
        "no running platform was found here: start one with 'make up' or 'make run', "
        "or say where it listens with --endpoints or PHARMALOOP_ENDPOINTS"
    )


def _parse(text: str, source: str, environment: Mapping[str, str]) -> Endpoints:
    if not text.lstrip().startswith("{"):
        if not Path(text).is_file():
            raise NoEndpoints(f"{source}: there is no file {text!r}; name one, or write the map of services")
        text, source = Path(text).read_text(), f"{text}, named by {source}"
    try:
        raw = json.loads(text)
        grpc = raw.get("grpc", raw)
        addresses = {str(name): str(address) for name, address in grpc.items()}
    except (ValueError, AttributeError):
        raise NoEndpoints(
            f'{source} is not a JSON map of services; write {{"production": "127.0.0.1:20001", ...}}'
        ) from None
    whole = raw if "grpc" in raw else {}
    return Endpoints(
        grpc=addresses,
        metrics=whole.get("metrics", {}),
        kafka=whole.get("kafka") or environment.get("KAFKA_BOOTSTRAP_SERVERS", ""),
        mongodb=whole.get("mongodb") or environment.get("MONGODB_URI", ""),
        source=source,
        first_site=_first_site(environment.get("PHARMALOOP_SITES", "")),
    )


def _first_site(text: str) -> str:
    """The first of the installation's sites."""
    try:
        first = json.loads(text)[0] if text else hospitals.FIRST
    except (ValueError, LookupError, TypeError):
        first = None
    if not isinstance(first, str):
        raise NoEndpoints('PHARMALOOP_SITES is not a JSON list of sites; write ["hospital-a", ...]')
    return first
