"""What must hold whenever the platform is at rest, whatever was done to it before.

Looked for in the real topics and databases, past every service. Each rule
answers with sentences about what breaks it; nothing is repaired or tolerated.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from services.kit.bus.protocol import Partition
from services.kit.contracts import contract
from services.kit.envelope import Event
from services.kit.ids import derived_id
from tests.reliability import study_rules
from tests.reliability.asking import Acknowledged
from tests.reliability.export import Doc
from tests.reliability.specs import AGGREGATES, SITE, runners
from tests.unit.exchange.hospitals import ROWS

Databases = Mapping[str, Mapping[str, list[Doc]]]
_COPIES = {name for name, topic in contract().names((SITE,)) if topic.copies}


@dataclass(frozen=True)
class Facts:
    """What the rules look at."""

    databases: Databases
    events: list[Event]
    ends: Mapping[Partition, int]
    marks: Mapping[tuple[str, Partition], int]
    acknowledged: list[Acknowledged] = field(default_factory=list)
    runners: Mapping[str, tuple[str, ...]] = field(default_factory=runners)


def broken(facts: Facts) -> list[str]:
    """Everything that breaks a rule."""
    rules = (
        acknowledged_have_effect,
        numbers_are_whole,
        numbers_are_unique,
        order_is_kept,
        versions_match,
        watermarks_stand_at_the_ends,
        outbox_is_empty,
        positions_are_true,
        studies_hold,
    )
    return [sentence for rule in rules for sentence in rule(facts)]


def by_aggregate(events: Iterable[Event]) -> dict[tuple[str, str], list[Event]]:
    """The numbered events of each aggregate, as published; copies on other topics left out."""
    found: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in events:
        if event.seq is not None and event.topic not in _COPIES:
            found[(event.source, event.subject)].append(event)
    return found


def acknowledged_have_effect(facts: Facts) -> Iterator[str]:
    """I1: what was acknowledged is in the log, in the answers, and where it is looked for."""
    published = {event.id for event in facts.events}
    held = {
        (service, name, doc["_id"])
        for service, collections in facts.databases.items()
        for name, docs in collections.items()
        if name != "_outbox"
        for doc in docs
    }
    answers = {
        doc["_id"] for collections in facts.databases.values() for doc in collections.get("_answer", ())
    }
    for done in facts.acknowledged:
        what = f"{done.method} {done.request_id}"
        yield from (f"{what}: event {id} is lost" for id in done.event_ids if id not in published)
        yield from (f"{what}: no {place} in the database" for place in done.expects if place not in held)
        for topic, number, offset in done.positions:
            if facts.ends.get(Partition(topic, number), 0) <= offset:
                yield f"{what}: the log ends before {topic}/{number}/{offset}"
        if done.event_ids and derived_id("request", done.actor, done.method, done.request_id) not in answers:
            yield f"{what}: its answer is not stored"


def numbers_are_whole(facts: Facts) -> Iterator[str]:
    """Each aggregate has published its versions 1 to n without a gap."""
    for (source, subject), events in by_aggregate(facts.events).items():
        numbers = {event.seq for event in events}
        if numbers != set(range(1, len(numbers) + 1)):
            yield f"{source} {subject}: versions {sorted(n for n in numbers if n)} have a gap"


def numbers_are_unique(facts: Facts) -> Iterator[str]:
    """One version is one event and one event one version; repeats are the same, byte for byte."""
    places: dict[str, set[tuple[str, str, int | None]]] = defaultdict(set)
    for (source, subject), events in by_aggregate(facts.events).items():
        ids: dict[int | None, set[str]] = defaultdict(set)
        said: dict[str, set[bytes]] = defaultdict(set)
        for event in events:
            ids[event.seq].add(event.id)
            said[event.id].add(event.message.SerializeToString(deterministic=True))
            places[event.id].add((source, subject, event.seq))
        yield from (
            f"{source} {subject}: version {seq} is {len(found)} events"
            for seq, found in ids.items()
            if len(found) > 1
        )
        yield from (
            f"event {id} was published with two contents" for id, found in said.items() if len(found) > 1
        )
    yield from (
        f"event {id} has two places: {sorted(map(str, at))}" for id, at in places.items() if len(at) > 1
    )


def order_is_kept(facts: Facts) -> Iterator[str]:
    """No older version appears for the first time after a newer one of its aggregate, in any partition: on
    the topic of cases, events of one aggregate are of several cases."""
    newest: dict[tuple[str, int, str, str], int] = defaultdict(int)
    seen: set[tuple[str, int, str, str, int]] = set()
    for event in sorted(facts.events, key=lambda event: (event.topic, event.partition, event.offset)):
        if event.seq is None:
            continue
        place = (event.topic, event.partition, event.source, event.subject)
        if (*place, event.seq) not in seen and event.seq < newest[place]:
            yield f"{place}: version {event.seq} came first after version {newest[place]}"
        seen.add((*place, event.seq))
        newest[place] = max(newest[place], event.seq)


def versions_match(facts: Facts) -> Iterator[str]:
    """An aggregate is stored at the version that it published last."""
    published = {
        (source, subject): max(event.seq or 0 for event in events)
        for (source, subject), events in by_aggregate(facts.events).items()
    }
    for service, collections in facts.databases.items():
        for name in sorted(one for one in collections if f"{service}.{one}" in AGGREGATES):
            source = f"/svc/{service}/{name}"
            stored = {doc["_id"]: doc["v"] for doc in collections[name]}
            told = {subject: seq for (of, subject), seq in published.items() if of == source}
            for id in sorted(stored.keys() | told.keys()):
                held, said = stored.get(id, 0), told.get(id, 0)
                if held != said:
                    yield f"{source} {id}: stored at version {held}, published up to {said}"


def watermarks_stand_at_the_ends(facts: Facts) -> Iterator[str]:
    """Every runner has folded everything, and nothing that is not there."""
    for runner, topics in facts.runners.items():
        for partition, end in facts.ends.items():
            at = facts.marks.get((runner, partition), 0)
            if partition.topic in topics and at != end:
                yield f"{runner}: {partition.topic}/{partition.number} is folded up to {at} of {end}"
    for (runner, partition), at in facts.marks.items():
        if at > facts.ends.get(partition, 0):
            yield f"{runner}: its watermark {at} of {partition.topic}/{partition.number} is past the end"


def outbox_is_empty(facts: Facts) -> Iterator[str]:
    for service, collections in facts.databases.items():
        waiting = Counter(doc["agg"] for doc in collections.get("_outbox", ()) if doc.get("open"))
        yield from (
            f"{service}: {count} events of {agg} wait in the outbox" for agg, count in waiting.items()
        )


def positions_are_true(facts: Facts) -> Iterator[str]:
    """Where the relay says that an event stands, it stands."""
    at = {(event.topic, event.partition, event.offset): event.id for event in facts.events}
    read = {topic for topic, _, _ in at}
    for service, collections in facts.databases.items():
        for doc in collections.get("_outbox", ()):
            if doc.get("open") or doc.get("topic_at") not in read or doc["topic_at"] in _COPIES:
                continue
            place = (doc["topic_at"], doc["partition"], doc["offset"])
            if at.get(place) != doc["_id"]:
                yield f"{service}: event {doc['_id']} does not stand at {place}"


def studies_hold(facts: Facts) -> Iterator[str]:
    """Each study ends once, or waits; what it tells is that of all rows; what is metered is so once, and as
    agreed."""
    for doc in facts.databases.get("exchange", {}).get("study", ()):
        if doc["s"]["state"] == "computing":
            yield f"{doc['_id']} is in a job that nobody computes"
    told: dict[str, Event] = {}
    for event in facts.events:
        if event.topic not in _COPIES:
            told.setdefault(event.id, event)
    for name, rule in study_rules.rules(ROWS).items():
        yield from (f"{name}: {said}" for said in rule(list(told.values())))
