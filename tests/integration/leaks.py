"""Looks for marked values in everything that a running platform leaves behind.

A marker is looked for as it is, and as base64 and hex would carry it. Where it
may be follows from its zone: what is of a site stays in the site's topics and
databases, those of its agent among them; what the trace needs (pseudonyms,
orders) may also be in the trace's own; what is sealed may be nowhere.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from bson.raw_bson import RawBSONDocument
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from pymongo import MongoClient

from services.kit.app import App
from services.kit.contracts import Topic, contract

SITE = "hospital-a"
SITES = (SITE, "hospital-b", "hospital-c")
Zone = Literal["nowhere", "site", "trace", "shared"]
_MAY_BE_IN: dict[Zone, tuple[Zone, ...]] = {
    "nowhere": (),
    "site": ("site",),
    "trace": ("site", "trace"),
    "shared": ("site", "trace", "shared"),
}
_ZONES: dict[str, Zone] = {"clinical": "site", "agent": "site", "traceability": "trace"}


class Place(NamedTuple):
    """Somewhere that a value may have come to, whose it is, and what is there."""

    name: str
    zone: Zone
    content: bytes


class Marker(NamedTuple):
    """A value that nothing else has; `field` is where it was planted."""

    field: str
    value: str
    zone: Zone


def found(markers: Iterable[Marker], places: Iterable[Place]) -> set[tuple[Marker, str, Zone]]:
    """Every marker with every place that it came to."""
    wanted = [(marker, _forms(marker.value)) for marker in markers]
    return {
        (marker, place.name, place.zone)
        for place in places
        for marker, forms in wanted
        if any(form in place.content for form in forms)
    }


def leaked(hits: Iterable[tuple[Marker, str, Zone]]) -> list[str]:
    """What came to where it must not be, in words."""
    wrong = [(marker, name) for marker, name, zone in hits if zone not in _MAY_BE_IN[marker.zone]]
    return sorted(f"{marker.field} ({marker.zone}) is in {name}" for marker, name in wrong)


def _forms(value: str) -> list[bytes]:
    plain = value.encode()
    forms = [plain, plain.hex().encode()]
    for shift in range(3):  # where it begins within three bytes decides how base64 writes it
        written = base64.b64encode(bytes(shift) + plain)
        forms.append(written[(0, 2, 3)[shift] : (shift + len(plain)) * 8 // 6])
    return forms


# -- places ---------------------------------------------------------------------


def topics(kafka: str) -> Iterator[Place]:
    """Every record of every topic: key, headers and value."""
    consumer = Consumer({"bootstrap.servers": kafka, "group.id": "leaks", "enable.partition.eof": True})
    try:
        there = consumer.list_topics(timeout=10).topics
        partitions = [
            TopicPartition(name, number, OFFSET_BEGINNING)
            for name, topic in there.items()
            if not name.startswith("__")
            for number in topic.partitions
        ]
        consumer.assign(partitions)
        open_ends = len(partitions)
        while open_ends:
            message = consumer.poll(10)
            assert message is not None, "the broker does not answer"
            error = message.error()
            if error is not None:
                assert error.code() == KafkaError._PARTITION_EOF, error
                open_ends -= 1
                continue
            headers = b"|".join(value or b"" for _, value in message.headers() or [])
            content = b"|".join((message.key() or b"", headers, message.value() or b""))
            name = message.topic() or ""
            yield Place(f"topic {name}", _zone_of_topic(name), content)
    finally:
        consumer.close()


def _zone_of_topic(name: str) -> Zone:
    entry: Topic | None = dict(contract().names(SITES)).get(name.removesuffix(".dlq"))
    if entry is None or entry.scope == "shared":
        return "shared"
    return "site" if entry.scope == "site" else _ZONES.get(entry.owner, "shared")


def databases(mongo: str, apps: dict[str, App]) -> Iterator[Place]:
    """Every document of every service's database, as its bytes are stored. Of a service that each site has
    its own of, the name is with the site behind a dot."""
    with MongoClient[RawBSONDocument](mongo, document_class=RawBSONDocument) as client:
        for service, app in apps.items():
            database = client[app.settings.database]
            for name in database.list_collection_names():
                content = b"".join(document.raw for document in database[name].find())
                zone = _ZONES.get(service.partition(".")[0], "shared")
                yield Place(f"database of {service}: {name}", zone, content)


def as_of(site: str, places: Iterable[Place]) -> Iterator[Place]:
    """The places as one site's markers have them: what is another site's is outside of it."""
    for place in places:
        others = any(other in place.name for other in SITES if other != site)
        yield place._replace(zone="shared") if others else place


def files(folder: Path) -> Iterator[Place]:
    """What the processes keep on disk: the names of the files, and what is in them."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            content = str(path.relative_to(folder)).encode() + b"|" + path.read_bytes()
            yield Place(f"file {path.relative_to(folder)}", "shared", content)
