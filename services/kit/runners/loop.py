"""The loop protocol, pure: a state machine on the events of one case topic.

A machine's state is absolute, never a count of deliveries. The envelope here
keeps which source versions a case has seen, and the effects of its latest
events: a repeated event changes nothing, and its effects go out again with
the same ids (an effect may have been lost between the table and the log).
The faust driver in `loops` and the in-memory one below run the same code.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import msgspec
from google.protobuf.message import Message

from services.kit.contracts import contract, event_type
from services.kit.envelope import Event
from services.kit.ids import effect_id

S = TypeVar("S")
#: How many of the latest events keep their effects for a repeat.
_REMEMBERED = 256


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
class Case(Generic[S]):
    """What the table holds for a case."""

    state: S
    seen: dict[str, int] = field(default_factory=dict)
    recent: dict[str, tuple[Sent, ...]] = field(default_factory=dict)


def source_of(event: Event) -> str:
    """Identity under which an event's version counts."""
    return f"{event.source}|{event.subject}"


@dataclass(frozen=True)
class Loop(Generic[S]):
    """A machine with its state's class: one step of the table."""

    name: str
    state: type[S]
    react: Callable[[S | None, Event], tuple[S, list[Effect]]]

    def step(self, case: Case[S] | None, event: Event) -> tuple[Case[S], list[Event]]:
        """The case after the event, and the events to send."""
        source = source_of(event)
        if case is not None and event.seq is not None and case.seen.get(source, 0) >= event.seq:
            return case, [_again(self.name, sent, event) for sent in case.recent.get(event.id, ())]
        state, effects = self.react(case.state if case else None, event)
        seen = dict(case.seen) if case else {}
        recent = dict(case.recent) if case else {}
        if event.seq is not None:
            seen[source] = event.seq
        recent[event.id] = tuple(_sent(effect) for effect in effects)
        for old in list(recent)[: max(0, len(recent) - _REMEMBERED)]:
            del recent[old]
        out = [_again(self.name, sent, event) for sent in recent[event.id]]
        return Case(state, seen, recent), out

    def dump(self, case: Case[S]) -> bytes:
        """The case as bytes, for the table."""
        plain = {
            "state": msgspec.to_builtins(case.state, builtin_types=(bytes,)),
            "seen": case.seen,
            "recent": {
                id: [[s.type, s.body, s.run, s.seq] for s in sent] for id, sent in case.recent.items() if sent
            },
        }
        return msgspec.msgpack.encode(plain)

    def load(self, raw: bytes) -> Case[S]:
        plain = msgspec.msgpack.decode(raw)
        state = msgspec.convert(plain["state"], self.state, builtin_types=(bytes,))
        recent = {id: tuple(Sent(*sent) for sent in items) for id, items in plain["recent"].items()}
        return Case(state, plain["seen"], recent)


def _sent(effect: Effect) -> Sent:
    body = effect.message.SerializeToString(deterministic=True)
    return Sent(event_type(type(effect.message)), body, effect.run, effect.seq)


def _again(loop: str, sent: Sent, cause: Event) -> Event:
    """The event of an effect: its id follows from the cause, the type and its number."""
    message = contract().class_of(sent.type).FromString(sent.body)
    return Event(
        id=effect_id(cause.id, sent.type, f"{sent.run}#{sent.seq}"),
        source=f"/svc/loops/{loop}",
        subject=sent.run,
        time=cause.time,
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
        case, out = self.loop.step(self.cases.get(event.case), event)
        self.cases[event.case] = self.loop.load(self.loop.dump(case))
        return out
