"""A canonical export of everything the platform holds and has said, so that two runs can be compared.

One line a state or event, sorted, in domain terms: business keys, states,
sets, moments to the minute. The same inputs give the same text, whatever was
killed, repeated or delayed on the way. What is left out stands in
`exclusions`, with the reason.
"""

from __future__ import annotations

import difflib
import fnmatch
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from pharmaloop.alerting.v1 import events_pb2 as alerting
from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.envelope import Event
from tests.reliability import exclusions as without
from tests.reliability.specs import AGGREGATES

Doc = dict[str, Any]
_MOMENT = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d):\d\d(\.\d+)?(Z|\+00:00)")
_MICROSECONDS = 60_000_000
_DIFF_LINES = 60

#: Fields that hold a message of the contract as bytes; opened, so that what is in them can be compared.
_MESSAGES: dict[tuple[str, str], type[Message]] = {
    ("production.lot", "deviations[].detected"): production.DeviationDetected,
    ("production.lot", "deviations[].updated"): production.DeviationUpdated,
    ("production.capa", "proposed"): production.CapaProposed,
    ("production.capa", "validated"): production.ChangeValidated,
    ("production.capa", "filing"): production.ChangeFilingAssessed,
    ("production.capa", "check"): production.CapaEffectivenessChecked,
    ("production.capa", "refused"): production.CapaRefused,
    ("production.capa_row", "validated"): production.ChangeValidated,
    ("production.capa_row", "filing"): production.ChangeFilingAssessed,
    ("production.capa_row", "check"): production.CapaEffectivenessChecked,
    ("production.capa_row", "refused"): production.CapaRefused,
    ("production.model", "trained"): production.GoldenModelTrained,
    ("production.deviation_row", "detected"): production.DeviationDetected,
    ("production.deviation_row", "updated"): production.DeviationUpdated,
    ("production.capa_row", "proposed"): production.CapaProposed,
    ("clinical.exposure", "received"): clinical.ExposureReceived,
    ("clinical.exposure", "opened"): clinical.PlansOpened,
    ("clinical.exposure", "summarised"): clinical.FollowUpSummarised,
    ("clinical.evidence", "latest"): clinical.EvidenceReleased,
    ("clinical.exposure", "noticed"): clinical.NoticesSummarised,
    ("alerting.alert", "raised"): alerting.AlertRaised,
    ("rnd.hypothesis", "updated"): rnd.HypothesisUpdated,
    ("rnd.hypothesis_row", "updated"): rnd.HypothesisUpdated,
    ("loops.run", "opened"): loops.SafetyRunOpened,
    ("loops.run", "closed"): loops.LoopClosed,
}


@dataclass(frozen=True)
class Export:
    """The text, line by line, and what names it."""

    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()

    def difference(self, other: Export) -> str:
        """What `other` has otherwise, shortened; empty when nothing differs."""
        found = [
            line
            for line in difflib.unified_diff(self.lines, other.lines, "expected", "found", n=0, lineterm="")
            if not line.startswith("@@")
        ]
        return "\n".join(_marked(found)[:_DIFF_LINES])


def _marked(lines: list[str]) -> list[str]:
    return [line if len(line) < 600 else f"{line[:600]} ... ({len(line)} characters)" for line in lines]


def export(
    databases: Mapping[str, Mapping[str, Iterable[Doc]]], events: Iterable[Event], *, moments: bool = True
) -> Export:
    """`databases` gives the documents by service and collection; `moments` False leaves moments out."""
    tidy = _minutes if moments else _no_moments
    lines = [
        line
        for service, collections in databases.items()
        for name, docs in collections.items()
        if not _is_left_out(f"{service}.{name}", without.COLLECTIONS)
        for line in _state_lines(f"{service}.{name}", docs, tidy)
    ]
    return Export(tuple(sorted([*lines, *_event_lines(events, tidy)])))


# -- states -------------------------------------------------------------------


def _is_left_out(name: str, rules: Mapping[str, str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in rules)


def _state_lines(place: str, docs: Iterable[Doc], tidy: Callable[[str], str]) -> Iterable[str]:
    for doc in docs:
        plain = _Plain(
            {path: cls for (at, path), cls in _MESSAGES.items() if at == place},
            {path for at, path in without.FIELDS if at == place},
            {path for at, path in without.SETS if at == place},
            tidy,
        )
        line: Doc = {"id": doc["_id"], **plain.of(doc["s"], "")}
        if place in AGGREGATES and place not in without.VERSIONS:
            line["v"] = doc["v"]
        yield f"{place} {_json(line)}"


@dataclass(frozen=True)
class _Plain:
    """Makes plain, comparable values of a state."""

    messages: Mapping[str, type[Message]]
    fields: set[str]
    sets: set[str]
    tidy: Callable[[str], str]

    def of(self, value: Any, path: str) -> Any:
        if path in self.messages and isinstance(value, bytes):
            return self.of(_dict(self.messages[path].FromString(value)), path) if value else {}
        if isinstance(value, dict):
            return {
                name: self.of(item, _join(path, name, self.fields))
                for name, item in value.items()
                if _join(path, name, self.fields) not in self.fields
            }
        if isinstance(value, list | tuple):
            items = [self.of(item, f"{path}[]") for item in value]
            return sorted(items, key=_json) if path in self.sets else items
        if isinstance(value, bytes):
            return _short(value)
        return self.tidy(value) if isinstance(value, str) else value


def _join(path: str, name: str, known: set[str]) -> str:
    """The path of a field; in a dictionary with free keys `*` stands for all of them."""
    free = f"{path}.*" if path else "*"
    if any(one == free or one.startswith(f"{free}.") for one in known):
        return free
    return f"{path}.{name}" if path else name


def _short(value: bytes) -> str:
    return value.hex() if len(value) <= 32 else f"sha256:{hashlib.sha256(value).hexdigest()}"


def _minutes(text: str) -> str:
    return _MOMENT.sub(r"\1", text)


def _no_moments(text: str) -> str:
    return _MOMENT.sub("(moment)", text)


def _dict(message: Message) -> Doc:
    return MessageToDict(message, preserving_proto_field_name=True)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


# -- events -------------------------------------------------------------------


def distinct(events: Iterable[Event]) -> dict[tuple[str, str, object], Event]:
    """Each event once: by (source, subject, version), a fact by its id; the first one published."""
    found: dict[tuple[str, str, object], Event] = {}
    for event in events:
        number: object = event.id if event.seq is None else event.seq
        found.setdefault((event.source, event.subject, number), event)
    return found


def _event_lines(events: Iterable[Event], tidy: Callable[[str], str]) -> Iterable[str]:
    # Copies first: of an event and its copy, the event is the one that is compared.
    compared = distinct(event for event in events if not _is_left_out(event.topic, without.TOPICS)).values()
    for event in compared:
        if event.source not in without.SOURCES:
            known = event.source not in without.RENUMBERED
            if known or _name(event) not in without.TYPES:
                yield _event_line(event, tidy, number=known, origin=True)
    yield from sorted(set(_rounds((e for e in compared if e.source in without.SOURCES), tidy)))


def _rounds(events: Iterable[Event], tidy: Callable[[str], str]) -> Iterable[str]:
    """Of what is said again and again, the last; all else once."""
    last: dict[tuple[str, str, str], Event] = {}
    for event in sorted(events, key=lambda event: event.seq or 0):
        name = _name(event)
        if name in without.LAST_ONLY:
            last[(event.source, event.subject, name)] = event
        elif name not in without.TYPES:
            yield _event_line(event, tidy)
    yield from (_event_line(event, tidy) for event in last.values())


def _name(event: Event) -> str:
    return event.type.rsplit(".", 1)[1]


def _event_line(
    event: Event, tidy: Callable[[str], str], *, number: bool = False, origin: bool = False
) -> str:
    """What is compared of an event; with its number and its origin (id, cause, time) where these are."""
    name = _name(event)
    plain = _Plain(
        {},
        {path for of, path in without.EVENT_FIELDS if of in (name, event.type)},
        {path for of, path in without.EVENT_SETS if of == name},
        tidy,
    )
    head = [event.topic, event.source, event.subject, name]
    completed = name in without.CAUSED
    caused = completed or (event.seq is None and bool(event.cause))
    told: Doc = {
        **({"seq": event.seq} if number else {}),
        **({"id": event.id} if origin and not completed else {}),
        **({"cause": event.cause, "time": tidy(event.time.isoformat())} if origin and not caused else {}),
        "key": event.key,
        "case": event.case,
        "run": event.run,
        "actor": event.actor,
        "message": plain.of(_dict(event.message), ""),
    }
    return f"{' '.join(head)} {_json(told)}"
