"""The contract at run time: which event goes to which topic, under which key.

Everything is read from `topics.yaml` and the compiled descriptors, so that a
topic or an event type exists in one place only.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from google.protobuf.message import Message

from services.kit.errors import Poison

#: Copies of events of any aggregate, ordered by case: the loops' own topic.
_SITE = "{site}"


@dataclass(frozen=True)
class Topic:
    """One entry of topics.yaml; `name` may hold `{site}`."""

    name: str
    owner: str
    key: str
    partitions: int
    keep_days: int | None
    scope: Literal["shared", "site", "private"]
    events: tuple[str, ...]
    writers: tuple[str, ...] = ()
    copies: bool = False

    def at(self, site: str) -> str:
        """The topic's name at a site."""
        if _SITE not in self.name:
            return self.name
        if not site:
            raise Poison("NO_SITE", f"{self.name} exists once for each site, and no site was given")
        return self.name.replace(_SITE, site)


@dataclass(frozen=True)
class Changelog:
    """A compacted topic of a loop processor's table."""

    name: str
    owner: str
    source: str


@dataclass(frozen=True)
class Contract:
    """Topics, event classes and the way between them."""

    topics: tuple[Topic, ...]
    changelogs: tuple[Changelog, ...]
    classes: dict[str, type[Message]]
    _by_event: dict[str, Topic] = field(default_factory=dict)

    def topic_of(self, event_type: str) -> Topic:
        """The topic that an event type lives on; Poison for an unknown type."""
        try:
            return self._by_event[event_type]
        except KeyError:
            raise Poison("UNKNOWN_TYPE", f"no topic carries {event_type!r}") from None

    def class_of(self, event_type: str) -> type[Message]:
        """The message class of an event type; Poison for an unknown type."""
        try:
            return self.classes[event_type]
        except KeyError:
            raise Poison("UNKNOWN_TYPE", f"{event_type!r} is not an event of the contract") from None

    def route(self, message: Message, site: str = "") -> tuple[str, str]:
        """Topic name and record key of an event."""
        topic = self.topic_of(event_type(type(message)))
        return topic.at(site), str(getattr(message, topic.key))

    def names_for(self, events: Iterator[str] | list[str] | set[str], site: str = "") -> tuple[str, ...]:
        """Names of the topics that carry the event types, sorted."""
        return tuple(sorted({self.topic_of(event).at(site) for event in events}))

    def names(self, sites: tuple[str, ...]) -> Iterator[tuple[str, Topic]]:
        """Every topic that exists, with its entry, for the given sites."""
        for topic in self.topics:
            for site in sites if _SITE in topic.name else ("",):
                yield topic.at(site), topic


def _topic(name: str, raw: dict[str, Any], defaults: dict[str, Any]) -> Topic:
    entry = {**defaults, **raw}
    keep = entry["keep"]
    return Topic(
        name=name,
        owner=entry["owner"],
        key=entry["key"],
        partitions=int(entry["partitions"]),
        keep_days=None if keep == "forever" else int(keep),
        scope=entry["scope"],
        events=tuple(entry["events"]),
        writers=tuple(entry.get("writers", ())),
        copies=bool(entry.get("copies", False)),
    )


def _topics_file() -> str:
    packaged = resources.files("pharmaloop").joinpath("topics.yaml")
    if packaged.is_file():
        return packaged.read_text()
    return (Path(__file__).parents[2] / "proto" / "topics.yaml").read_text()


def _class(event_type: str) -> type[Message]:
    package, name = event_type.rsplit(".", 1)
    module = importlib.import_module(f"{package}.events_pb2")
    found: type[Message] = getattr(module, name)
    return found


@cache
def contract() -> Contract:
    """The contract of this build, loaded once."""
    raw = yaml.safe_load(_topics_file())
    topics = tuple(_topic(name, entry, raw["defaults"]) for name, entry in raw["topics"].items())
    changelogs = tuple(
        Changelog(name, entry["owner"], entry["source"]) for name, entry in raw["changelogs"].items()
    )
    by_event = {event: topic for topic in topics for event in topic.events}
    return Contract(topics, changelogs, {event: _class(event) for event in by_event}, by_event)


#: What metrics call an event that is of no type of the contract.
OTHER = "other"
#: Asked for with every event; a descriptor makes its name anew each time.
_type_names: dict[type[Message], str] = {}


def event_type(cls: type[Message]) -> str:
    """Full name of an event class."""
    name = _type_names.get(cls)
    if name is None:
        name = _type_names[cls] = str(cls.DESCRIPTOR.full_name)
    return name


def short_type(cls: type[Message]) -> str:
    """An event class as metrics name it."""
    return short_name(event_type(cls))


def short_name(full: str) -> str:
    """An event's type as metrics name it: its domain and its name, such as production.LotStarted.

    `other` for what is the full name of none.
    """
    parts = full.split(".")
    return f"{parts[1]}.{parts[-1]}" if len(parts) > 2 else OTHER
