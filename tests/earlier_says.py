"""Run with another build's code: prints what that build knows of events and stored states, as JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from services.kit.contracts import contract
from services.loops.machine import CASES
from tests.reliability.specs import SITE, SPECS, runners


def kinds() -> dict[str, dict[str, list[str]]]:
    """Of each kind of stored state, and each of its parts: the fields, and those that it must have."""
    states = {f"{service}.{kind.name}": kind.state for service, spec in SPECS.items() for kind in spec.kinds}
    states["loops.cases"] = CASES.state
    found = {}
    for name, state in states.items():
        (_,), parts = msgspec.json.schema_components([state])
        for part, schema in parts.items():
            at = name if part == state.__name__ else f"{name}/{part}"
            found[at] = {
                "fields": sorted(schema.get("properties", ())),
                "required": sorted(schema.get("required", ())),
            }
    return found


def readers() -> dict[str, list[str]]:
    """Of each topic, the services that read it, its owner left out."""
    own = {name: topic.owner for name, topic in contract().names((SITE,))}
    found: dict[str, set[str]] = {}
    for runner, topics in runners().items():
        for topic in topics:
            found.setdefault(topic, set()).add(SPECS[runner.rpartition(".")[0]].name)
    return {topic: sorted(names - {own[topic]}) for topic, names in found.items()}


def main() -> None:
    topics = dict(contract().names((SITE,)))
    said: dict[str, Any] = {
        "types": {event: [name, topic.owner] for name, topic in topics.items() for event in topic.events},
        "partitions": {name: topic.partitions for name, topic in topics.items()},
        "readers": readers(),
        "runners": runners(),
        "kinds": kinds(),
    }
    print(json.dumps(said))


if __name__ == "__main__":
    main()
