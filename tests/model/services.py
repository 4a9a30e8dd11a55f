"""The three services of the protocol as functions from (store, message) to (store, messages).

Handlers, commands, the guard against versions already seen, dead letters, the
loop's case and the step all are the product's own; see `stores` for how they run.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any

import msgspec
from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from services.clinical import handlers as clinical
from services.clinical.handlers import Here
from services.kit.bus.protocol import Partition, Record
from services.kit.clock import ManualClock
from services.kit.contracts import contract
from services.kit.envelope import to_record
from services.kit.errors import PharmaLoopError, Poison
from services.kit.runners.aside import Aside
from services.kit.runners.decider import Command
from services.kit.runners.fold import Flags, HandlerFold, drive
from services.kit.runners.letters import LETTERS, REDRIVE
from services.kit.runners.loop import Case
from services.kit.runners.notes import Making
from services.kit.runners.reactor import Events, Reactor
from services.kit.store.kinds import Plan, Where, Write
from services.kit.work import Job, Overlay, Scope, request_cause, run_one
from services.loops.domain import cases, safety
from services.loops.machine import CASES
from services.traceability import handlers as traceability
from services.traceability.outside import Outside
from services.traceability.protocol import FOLD
from tests.model import messages
from tests.model.stores import Database, Effect, ModelTransaction

_SCOPE = Scope()


class ModelOutside(Outside):
    """Keys that are the same on every call, sealed by nothing, and a clock that stands."""

    def now(self) -> datetime:
        return messages.START

    def key(self, run: str, site: str) -> bytes:
        return hmac.digest(b"the model", f"{run}|{site}".encode(), hashlib.sha256)

    def sealed(self, run: str, site: str) -> common.Sealed:
        return common.Sealed(key_id=site, ciphertext=self.key(run, site))


def _open_key(sealed: bytes) -> bytes:
    return common.Sealed.FromString(sealed).ciphertext


class Service:
    """A service with one reactor and commands, over its possible stores."""

    def __init__(self, name: str, reactor: str, events: Events, commands: Mapping[str, Command]) -> None:
        self.db = Database()
        self._name = name
        self._commands = commands
        #: Messages that the service cannot process until somebody mends it.
        self.unreadable: set[int] = set()
        self._broken = False
        made = {cls: partial(self._tried, handler) for cls, handler in events.items()}
        self._making = Making(f"{name}.{reactor}")
        self._fold = HandlerFold(Reactor(reactor, made), self._making, name, contract())

    def _tried(self, handler: Callable[[Any, Any], None], work: Any, event: Any) -> None:
        if self._broken:
            raise Poison("HANDLER_FAILED", "the service has a bug that this record shows")
        handler(work, event)

    def take(self, store: int, message: int, offset: int = 0, mended: bool = False) -> Effect:
        """What the reactor does with a message, in one transaction."""
        broken = message in self.unreadable and not mended
        record = messages.record(message, offset if message in self.unreadable else 0)

        def code(transaction: ModelTransaction) -> None:
            self._broken = broken
            self._fold.fold(transaction, [record], _SCOPE, Flags(True, True))

        return self.db.effect(store, ("take", message, record.offset, broken), code)

    def do(self, store: int, method: str, request: Message, actor: str = "platform") -> Effect:
        """What a command does, in one transaction."""
        body = request.SerializeToString(deterministic=True)
        cause = request_cause(actor, method, body.hex(), messages.START)
        command = self._commands[method]

        def code(transaction: ModelTransaction) -> None:
            overlay = Overlay()
            work = run_one(Job(cause, lambda w: command(w, request)), overlay, contract(), self._name)
            done = drive(transaction, work)
            if done.error is None:
                transaction.write(overlay.plan())
            elif isinstance(done.error, PharmaLoopError):
                transaction.error = str(done.error)
            else:
                raise done.error

        return self.db.effect(store, (method, body), code)

    def redrive(self, store: int) -> Effect:
        """A person has every dead letter processed again, now that the service is mended."""

        def code(transaction: ModelTransaction) -> None:
            self._broken = False
            read = Where(LETTERS, "waits", True)
            waiting = transaction.load([read])[read]
            writes = [
                Write(LETTERS, one.id, one.version, one.version, one.state.become(REDRIVE)) for one in waiting
            ]
            transaction.write(Plan(tuple(writes), ()))
            marked = {_place(one.state.record.record): 0 for one in waiting}
            store: Any = _Transacts(transaction)
            Aside(store, self._fold, self._making, lambda _: _SCOPE, marked).redrive()

        return self.db.effect(store, ("redrive",), code, parts=True)


def _place(record: Record) -> Partition:
    return Partition(record.topic, record.partition)


class _Transacts:
    """A store whose transactions are all one."""

    def __init__(self, transaction: ModelTransaction) -> None:
        self._transaction = transaction

    def transact(self, work: Callable[[ModelTransaction], Any]) -> Any:
        return work(self._transaction)


OUTSIDE = ModelOutside()


def trace_service() -> Service:
    """Traceability: the fold and its commands."""
    service = Service(
        "traceability", "fold", traceability.fold_events(OUTSIDE), traceability.commands(OUTSIDE)
    )
    assert service._making.runner == FOLD
    return service


def site_service(site: str) -> Service:
    """Clinical at one site."""
    here = Here()
    here.connect(site, _open_key, ManualClock(messages.START))
    return Service("clinical", "exposure", clinical.events(here), clinical.commands(here))


class Loops:
    """The safety loop on one case: the kit's loop protocol around the machine."""

    def __init__(self) -> None:
        self._cases: dict[bytes, int] = {b"": 0}
        self.cases: list[Case[cases.Case] | None] = [None]
        self._turns: dict[tuple[int, int], tuple[int, tuple[int, ...]]] = {}
        self._due: dict[int, tuple[int, ...]] = {}
        #: Keep what the latest event emitted, for a worker that dies and sends it again.
        self.keeps_latest = False

    def take(self, case: int, message: int) -> tuple[int, tuple[int, ...]]:
        """The case after a message, and the messages it emits."""
        key = (case, message)
        if key not in self._turns:
            after, effects = CASES.step(self.cases[case], messages.event(message))
            self._turns[key] = (self._number(after), tuple(map(_sent, effects)))
        return self._turns[key]

    def again(self, case: int) -> tuple[int, ...]:
        """What a restarted worker sends again."""
        if case not in self._due:
            held = self.cases[case]
            self._due[case] = tuple(map(_sent, CASES.due(held))) if held is not None else ()
        return self._due[case]

    def runs(self, case: int) -> tuple[safety.Run, ...]:
        held = self.cases[case]
        of_lot = held.state.safety if held is not None and held.state is not None else None
        return of_lot.runs if of_lot else ()

    def _number(self, case: Case[cases.Case]) -> int:
        case = case if self.keeps_latest else replace(case, latest=None)
        key = msgspec.msgpack.encode(case, order="sorted")
        if key not in self._cases:
            self._cases[key] = len(self.cases)
            self.cases.append(case)
        return self._cases[key]


def _sent(event: Any) -> int:
    return messages.take(to_record(event, contract().route(event.message)[0]))
