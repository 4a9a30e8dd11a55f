"""Compose files as a container engine would read them: layered, with their variables filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from deploy.local.plan import ROOT

FOLDER = ROOT / "deploy" / "compose"
FILES = (
    *("compose.yaml", "compose.observability.yaml", "compose.dev.yaml"),
    *("compose.tls.yaml", "compose.dev.tls.yaml"),
)
#: What deploy/compose/certificates.sh makes; never there before.
MADE = "./certificates/"
#: What has no default; the tests choose it.
CHOSEN = {"PHARMALOOP_GRAFANA_PASSWORD": "chosen"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::([-?])([^}]*))?\}")


def filled(text: str, environment: Mapping[str, str]) -> str:
    """`${NAME}`, `${NAME:-default}` and `${NAME:?why}` replaced; KeyError where a value is demanded."""

    def value(found: re.Match[str]) -> str:
        name, kind, rest = found.groups()
        if name in environment:
            return environment[name]
        if kind == "-":
            return str(rest)
        raise KeyError(f"{name}: {rest or 'no default'}")

    return _VARIABLE.sub(value, text)


def text_of(name: str, environment: Mapping[str, str] = CHOSEN) -> str:
    return filled((FOLDER / name).read_text(), environment)


def load(name: str, environment: Mapping[str, str] = CHOSEN) -> dict[str, Any]:
    raw = yaml.safe_load(text_of(name, environment))
    return {key: value for key, value in raw.items() if not key.startswith("x-")}


def merged(name: str) -> str:
    """One file as plain YAML: the checker of the specification knows no merge keys."""
    return str(yaml.safe_dump(load(name), sort_keys=False))


def layered(*names: str) -> dict[str, Any]:
    """Services of several files, the later on top; lists and mappings are added to, as an engine does."""
    services: dict[str, Any] = {}
    for name in names:
        for service, told in load(name)["services"].items():
            services[service] = _merge(services.get(service, {}), told)
    return services


def sources(service: Mapping[str, Any]) -> list[str]:
    """What a service mounts: names of volumes, and paths beside the files."""
    volumes = service.get("volumes", [])
    return [one["source"] if isinstance(one, dict) else one.split(":")[0] for one in volumes]


def _merge(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _merge(below.get(key), value) for key, value in above.items()}}
    if isinstance(below, list) and isinstance(above, list):
        return [*below, *above]
    return above
