"""Is there room for a backup: an empty Kafka, an empty MongoDB, no tables of a former life?

A restore writes over nothing. What is there is named, with the way to take it
away; a stack on which a restore was broken off is refused like any other.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from confluent_kafka.admin import OffsetSpec

from services.cli.backup import databases
from services.cli.backup.manifest import Manifest
from services.cli.backup.topics import Backbone, refuse_unfinished
from services.cli.session import Failure
from services.kit.bus.register import TOPIC as REGISTER

_NAMED = 5
_TABLES = "loops"


class NotEmpty(Failure):
    """Something is there already, and nothing was written; exit status 1."""

    exit_code = 1
    usual = (
        "stop the services, empty this Kafka and this MongoDB (locally: 'make down clean'), start the two "
        "alone, and give the command again"
    )


def check(
    backbone: Backbone, client: databases.Client, manifest: Manifest, prefix: str, state: Path | None
) -> None:
    """NotEmpty names what is in the way."""
    refuse_unfinished(backbone)
    there = backbone.partitions()
    wanted = {topic.name: len(topic.partitions) for topic in manifest.topics}
    _topics(backbone, there, wanted)
    held = _held(client, prefix, {*manifest.databases})
    if held:
        raise NotEmpty(f"MongoDB is not empty: {_listed(held)}")
    tables = state / _TABLES if state else None
    if tables is not None and tables.is_dir() and any(tables.iterdir()):
        raise NotEmpty(
            f"{tables} holds the loops' tables of a former life, which would count for more than the backup",
            f"delete {tables}: the loops make it anew from their changelog",
        )


def _topics(backbone: Backbone, there: dict[str, int], wanted: dict[str, int]) -> None:
    # The register is what a migration writes first of all; it is made anew.
    places = [(name, number) for name, count in there.items() if name != REGISTER for number in range(count)]
    ends = backbone.offsets(places, OffsetSpec.latest())
    records: dict[str, int] = {}
    for (name, _), end in ends.items():
        records[name] = records.get(name, 0) + end
    if held := [f"{name} ({count:,} records)" for name, count in records.items() if count]:
        raise NotEmpty(f"Kafka at {backbone.settings.bootstrap_servers} is not empty: {_listed(held)}")
    for name, count in wanted.items():
        if name != REGISTER and there.get(name, count) != count:
            raise NotEmpty(
                f"topic {name} has {there[name]} partitions here and {count} in the backup",
                f"delete the topic {name}: the restore makes it",
            )


def _held(client: databases.Client, prefix: str, wanted: set[str]) -> list[str]:
    """Collections with documents, in databases of the platform or of the backup."""
    found = {*databases.names(client, prefix), *(wanted & set(client.list_database_names()))}
    held = []
    for database in sorted(found):
        for about in databases.collections(client, database):
            if (count := client[database][about["name"]].estimated_document_count()) or database in wanted:
                held.append(f"{database}.{about['name']} ({count:,} documents)")
    return held


def _listed(held: Iterable[str]) -> str:
    every = list(held)
    more = f", and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return ", ".join(every[:_NAMED]) + more
