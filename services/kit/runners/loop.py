"""The loop protocol, pure: a state machine on the events of one case topic.

A machine's state is absolute, never a count of deliveries. The envelope here
keeps which source versions a case has seen, which sources are parked behind a
dead letter, and the effects of its latest event: a repeated event changes
nothing, and if it is the latest its effects go out again with the same ids.

Why the latest is enough: the driver (`loop_driver`) stores a case, waits until
the table's change is in the log, and waits for the log to take each effect,
before it takes the next event of the partition. So when a case holds a later
event, every effect of the earlier ones is in the log; and only the latest
event of a partition can be in doubt.

A case knows all dead letters of a source that nobody has settled, in order.
Only the first of them may be processed again; each that is settled, by a
record that succeeds or by one that gives the letter up, is taken off; with the
last the source is free. So whatever is published, and whatever its publisher
knows, nothing of a source overtakes, and a letter that came a moment ago is
not forgotten.

This module must never do I/O, ask a clock, or raise for a bad record.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

import msgspec
from google.protobuf.message import Message

from services.kit import tracing
from services.kit.bus.protocol import Outgoing, Position, Record
from services.kit.contracts import Contract, contract, event_type
from services.kit.envelope import Event, from_record
from services.kit.errors import Integrity, Poison, Rejected
from services.kit.ids import effect_id
from services.kit.log import get_logger
from services.kit.runners.letters import why
from services.kit.runners.limit import PARKED_REASON

_log = get_logger("kit.loop")
S = TypeVar("S")
#: Headers with the place of a letter (`place_of` its record): this record is the letter's, sent again;
#: or: the letter is given up, and nothing else of this record counts.
REDRIVE, DISCARD = "pl_redrive", "pl_discard"
#: A stored case: this byte, the offset of its latest record, its parked sources, then msgpack.
#: The second format knew of a parked source the place of its first letter alone.
_FORMATS = (b"\x02", b"\x03")
_FORMAT = _FORMATS[-1]
_HEAD = struct.Struct(">cqi")


@dataclass(frozen=True)
class Effect:
    """An event that the machine emits. `seq` counts up within `run`."""

    message: Message
    run: str
    seq: int


@dataclass(frozen=True)
class Sent:
    """An effect as it is kept for a repeat."""

    type: str
    body: bytes
    run: str
    seq: int


@dataclass(frozen=True)
class Latest:
    """The latest event of a case: all that its effects are built from again."""

    id: str
    time: str
    case: str
    trace: str
    sent: tuple[Sent, ...] = ()


@dataclass(frozen=True)
class Case(Generic[S]):
    """What the table holds for a case.

    `state` is None while nothing but dead letters came. `parked` has for a
    source the offsets of the records whose dead letters wait, in order. `at` is
    the offset of the latest record that the case has taken in, of whatever kind.
    """

    state: S | None
    seen: dict[str, int] = field(default_factory=dict)
    latest: Latest | None = None
    parked: dict[str, tuple[int, ...]] = field(default_factory=dict)
    at: int = -1


@dataclass(frozen=True)
class Turn(Generic[S]):
    """What one record does: a dead letter to send first, the case to store, effects to send then."""

    case: Case[S]
    effects: tuple[Event, ...] = ()
    letter: Outgoing | None = None
    reason: str = ""
    fresh: bool = False


def source_of(event: Event) -> str:
    """Identity under which an event's version counts."""
    return f"{event.source}|{event.subject}"


def source_in(record: Record) -> str:
    """The same identity, read from a record that may be broken; empty when it tells no source or no case."""
    headers = dict(record.headers) if record.key else {}
    try:
        source = headers.get("ce_source", b"").decode()
        return f"{source}|{headers.get('ce_subject', b'').decode()}" if source else ""
    except UnicodeDecodeError:
        return ""


def place_of(record: Record) -> str:
    """Where the record stands, as the headers say it."""
    return f"{record.topic}/{record.partition}/{record.offset}"


def place_in(record: Record, header: str) -> Position | None:
    """The place that a header of the record names; None where none can be read."""
    text = dict(record.headers).get(header, b"").decode(errors="replace")
    topic, _, rest = text.partition("/")
    partition, _, offset = rest.partition("/")
    if not (partition.isdecimal() and offset.isdecimal()):
        return None
    return Position(topic, int(partition), int(offset))


@dataclass(frozen=True)
class Loop(Generic[S]):
    """A machine with its state's class: one step of the table."""

    name: str
    state: type[S]
    react: Callable[[S | None, Event], tuple[S, list[Effect]]]

    # -- one event --------------------------------------------------------

    def step(self, case: Case[S] | None, event: Event) -> tuple[Case[S], list[Event]]:
        """The case after the event, and the events to send. Poison for one that has no version."""
        case = Case(None) if case is None else case
        source, seq = source_of(event), _version(event)
        if case.seen.get(source, 0) >= seq:
            latest = case.latest
            return case, self.due(case) if latest is not None and latest.id == event.id else []
        state, effects = self.react(case.state, event)
        sent = tuple(_sent(effect) for effect in effects)
        latest = Latest(event.id, event.time.isoformat(), event.case, event.trace, sent)
        after = replace(case, state=state, seen={**case.seen, source: seq}, latest=latest)
        return after, self.due(after)

    def due(self, case: Case[S]) -> list[Event]:
        """The effects of the case's latest event, each as it was, with the same id."""
        if case.latest is None:
            return []
        return [_event(self.name, sent, case.latest) for sent in case.latest.sent]

    # -- one record -------------------------------------------------------

    def take(self, runner: str, case: Case[S] | None, record: Record, trace: str = "") -> Turn[S]:
        """What a record of the case topic does. Only Integrity is raised.

        Its effects carry `trace`; the record's own, if that is empty.
        """
        before = Case(None) if case is None else case
        if DISCARD in dict(record.headers):
            after = _settled(before, source_in(record), place_in(record, DISCARD), record)
            return Turn(_moved_on(after, record))
        again = place_in(record, REDRIVE)
        try:
            event = _decoded(contract(), record)
            if trace:
                event = event._replace(trace=trace)
            known = before.seen.get(source_of(event), 0) >= _version(event)
            if not known:
                if record.offset <= before.at:
                    return Turn(before)  # it became a letter when it came first, whatever became of that
                _refuse_parked(before, record, again)
            after, effects = self.step(before, event)
        except Integrity:
            raise
        except Exception as error:  # noqa: BLE001 -- a record that cannot be processed is a dead letter
            return self._buried(runner, before, record, _poison(error, record))
        after = _settled(after, source_of(event), again, record)
        return Turn(_moved_on(after, record), tuple(effects), fresh=not known)

    def _buried(self, runner: str, case: Case[S], record: Record, error: Poison) -> Turn[S]:
        if record.offset <= case.at:
            return Turn(case)  # its letter was sent when it came first
        after, source = replace(case, at=record.offset), source_in(record)
        if source and place_in(record, REDRIVE) is None:  # one that was sent again keeps its letter's place
            waiting = (*case.parked.get(source, ()), record.offset)
            after = replace(after, parked={**case.parked, source: waiting})
        return Turn(after, (), letter(runner, record, error), error.reason)

    # -- bytes ------------------------------------------------------------

    def dump(self, case: Case[S]) -> bytes:
        """The case as bytes, for the table."""
        latest = case.latest
        plain = {
            "state": msgspec.to_builtins(case.state, builtin_types=(bytes,)),
            "seen": case.seen,
            "parked": case.parked,
            "latest": None
            if latest is None
            else [
                latest.id,
                latest.time,
                latest.case,
                latest.trace,
                [[s.type, s.body, s.run, s.seq] for s in latest.sent],
            ],
        }
        return _HEAD.pack(_FORMAT, case.at, len(case.parked)) + msgspec.msgpack.encode(plain)

    def load(self, raw: bytes) -> Case[S]:
        """The case of a table's value; Integrity when it is none of ours."""
        try:
            return self._load(raw)
        except (msgspec.DecodeError, msgspec.ValidationError, KeyError, TypeError, ValueError) as error:
            raise Integrity(
                f"the table of loop {self.name} holds a case that this version cannot read: {error!r}; "
                "run the version that wrote it, or have the table made anew: stop the service, "
                "delete its changelog topic (*-cases-changelog) and its folder in PHARMALOOP_STATE_DIR"
            ) from error

    def _load(self, raw: bytes) -> Case[S]:
        # The first format had no head, and knew neither offsets nor parked sources.
        plain = msgspec.msgpack.decode(raw[_HEAD.size :] if raw.startswith(_FORMATS) else raw)
        state = plain["state"]
        if state is not None:
            state = msgspec.convert(state, self.state, builtin_types=(bytes,))
        latest = _latest(plain.get("latest"))
        parked = {source: _waiting(held) for source, held in plain.get("parked", {}).items()}
        return Case(state, plain["seen"], latest, parked, offset_of(raw))


def offset_of(raw: bytes) -> int:
    """The offset of the latest record that a stored case has taken in, without reading all of it."""
    return int(_HEAD.unpack_from(raw)[1]) if _headed(raw) else -1


def parked_of(raw: bytes) -> int:
    """How many sources a stored case has parked, without reading all of it."""
    return int(_HEAD.unpack_from(raw)[2]) if _headed(raw) else 0


def _headed(raw: bytes) -> bool:
    return raw.startswith(_FORMATS) and len(raw) >= _HEAD.size


def _waiting(held: list[int] | str) -> tuple[int, ...]:
    """Offsets of a source's letters; of the second format its first one's place."""
    return (int(held.rpartition("/")[2]),) if isinstance(held, str) else tuple(held)


def _latest(plain: Any) -> Latest | None:
    if plain is None:
        return None
    id, time, case, trace, sent = plain
    return Latest(id, time, case, trace, tuple(Sent(*one) for one in sent))


def letter(runner: str, record: Record, error: Poison) -> Outgoing:
    """The dead letter of a record: as it was, and why; without the reasons of an earlier letter."""
    kept = tuple(pair for pair in record.headers if not pair[0].startswith("dlq_"))
    headers = kept + why(runner, record, error.reason, error.description)
    return Outgoing(f"{record.topic}.dlq", record.key or b"", record.value, headers)


def _decoded(known: Contract, record: Record) -> Event:
    if not record.key:
        raise Poison("NO_KEY", "the record has no key, so it belongs to no case")
    return from_record(known, record)


def _version(event: Event) -> int:
    if event.seq is None:
        raise Poison(
            "NO_VERSION", "header pl_seq is missing: a case could not tell this event from its repeat"
        )
    return event.seq


def _refuse_parked(case: Case[Any], record: Record, again: Position | None) -> None:
    waiting = case.parked.get(source_in(record), ())
    if waiting and again != (record.topic, record.partition, waiting[0]):
        behind = place_of(record._replace(offset=waiting[0]))
        raise Poison(PARKED_REASON, f"an earlier record of this source was dead-lettered: {behind}")


def _settled(case: Case[S], source: str, place: Position | None, record: Record) -> Case[S]:
    """The case without the letter at the place; with the last one of a source its parking ends."""
    waiting = case.parked.get(source, ())
    if place is None or place[:2] != (record.topic, record.partition) or place.offset not in waiting:
        return case
    others = {name: offsets for name, offsets in case.parked.items() if name != source}
    left = tuple(offset for offset in waiting if offset != place.offset)
    return replace(case, parked={**others, source: left} if left else others)


def _moved_on(case: Case[S], record: Record) -> Case[S]:
    return replace(case, at=record.offset) if record.offset > case.at else case


def _poison(error: Exception, record: Record) -> Poison:
    if isinstance(error, Poison):
        return error
    if isinstance(error, Rejected):
        return Poison(error.reason, error.description)
    where = {"topic": record.topic, "partition": record.partition, "offset": record.offset}
    _log.error("handler failed", **where, exc_info=error)
    return Poison("HANDLER_FAILED", repr(error))


def _sent(effect: Effect) -> Sent:
    body = effect.message.SerializeToString(deterministic=True)
    name = event_type(type(effect.message))
    contract().topic_of(name)  # an effect that no topic carries is found before the case is stored
    return Sent(name, body, effect.run, effect.seq)


def _event(loop: str, sent: Sent, cause: Latest) -> Event:
    """The event of an effect: its id follows from the cause, the type and its number."""
    message = contract().class_of(sent.type).FromString(sent.body)
    return Event(
        id=effect_id(cause.id, sent.type, f"{sent.run}#{sent.seq}"),
        source=f"/svc/loops/{loop}",
        subject=sent.run,
        time=datetime.fromisoformat(cause.time),
        message=message,
        key=sent.run,
        seq=sent.seq,
        cause=cause.id,
        case=cause.case,
        run=sent.run,
        actor="service:loops",
        trace=cause.trace,
    )


@dataclass
class MemoryLoop(Generic[S]):
    """Drives a loop in memory, for tests and simulation."""

    loop: Loop[S]
    cases: dict[str, Case[S]] = field(default_factory=dict)

    def take(self, event: Event) -> list[Event]:
        """One event of the case topic; goes through the table's bytes, as the real one."""
        span = tracing.process(f"loops.{self.loop.name}", event)
        told = event._replace(trace=span.trace or event.trace)
        before = self.cases.get(event.case)
        case, out = self.loop.step(before, told)
        if case is not before:
            span.end()
        self.cases[event.case] = self.loop.load(self.loop.dump(case))
        return out

    def restart(self) -> list[Event]:
        """What goes out again once the table is recovered: the effects due of every case."""
        return [event for case in self.cases.values() for event in self.loop.due(case)]
