"""One unit of work: what a handler reads, changes and emits, kept in memory.

Handlers are pure in effect: they see states through a `Work`, and what they
put or emit stays in it until the runner writes everything in one transaction.
A handler that touches a state which is not loaded yet is stopped by
`NotLoaded`, the runner loads it, and the handler runs again from the start.
So a handler must not catch broad exceptions, and must not keep anything
outside its `Work`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from google.protobuf.message import Message

from services.kit import tracing
from services.kit.contracts import Contract, event_type
from services.kit.envelope import Event, to_record
from services.kit.errors import Integrity
from services.kit.ids import derived_id, effect_id
from services.kit.store.kinds import Get, Kind, OutboxRow, Plan, Read, Stored, Where, Write
from services.kit.store.protocol import Loaded
from services.kit.words import sign

S = TypeVar("S")
_MAX_ROUNDS = 200


class NotLoaded(BaseException):
    """The handler needs states that are not loaded. Not an Exception on purpose:
    domain code that catches Exception must not swallow it."""

    def __init__(self, reads: set[Read]) -> None:
        super().__init__(len(reads))
        self.reads = reads


class NotYet(Exception):
    """The state that the event refers to has not arrived: keep the event until it has.

    Raised by `Work.require`; a fact or an event of another aggregate may overtake
    what it refers to, for nothing is ordered across keys and topics.
    """

    def __init__(self, kind: Kind[Any], id: str) -> None:
        super().__init__(f"{kind.name}/{id}")
        self.kind, self.id = kind, id


@dataclass(frozen=True)
class Acted:
    """A cause has acted on an aggregate, or an event has been emitted, and must not again."""


INBOX: Kind[Acted] = Kind("_inbox", Acted)


@dataclass(frozen=True)
class Scope:
    """What the works of a transaction may touch.

    `views` are the views that this runner makes, pinned to the making it works
    on. `making` is a rebuild: it writes its views and its own notes, and emits
    nothing. `own` names the runner's notes. `restored` is a database that was
    set back: what the topics show to have happened must not happen again.
    """

    views: Mapping[str, Kind[Any]] = field(default_factory=dict)
    own: tuple[str, ...] = ()
    making: bool = False
    restored: bool = False

    def pin(self, kind: Kind[S]) -> Kind[S]:
        return self.views.get(kind.name, kind)

    def keeps(self, kind: Kind[Any]) -> bool:
        return not self.making or kind.name in self.views or kind.name in self.own


_EVERYTHING = Scope()


@dataclass(frozen=True)
class Step:
    """A row of the step runner: work that is due at a moment of platform time.

    Stored by the transaction that makes it due; `due` is ISO text, UTC.
    `lease` (wall, ISO) and `attempts` belong to the step runner. `trace` and
    `after` are traceparents: of the span whose child its run is, or to which
    it links; both empty where no spans are made.
    """

    step: str
    key: str
    due: str
    payload: dict[str, str] = field(default_factory=dict)
    lease: str = ""
    attempts: int = 0
    trace: str = ""
    after: str = ""


STEPS: Kind[Step] = Kind("_step", Step, ("due",))


def moment_text(moment: datetime) -> str:
    """A moment as ISO text, UTC, that sorts in time order; one without an offset is UTC already."""
    utc = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return utc.isoformat(timespec="microseconds")


@dataclass(frozen=True)
class Cause:
    """What the work answers to: a request or an event.

    `id` makes the ids of its events; `now` is platform time (for an event:
    its own domain time, so that a second delivery decides alike). `fact` is an
    event without a version: nothing but the inbox tells its second delivery.
    `meaning` is what the actor's signature under a request means.
    """

    id: str
    now: datetime
    actor: str
    event: str = ""
    case: str = ""
    run: str = ""
    trace: str = ""
    fact: bool = False
    meaning: str = ""


class _Held(NamedTuple):
    version: int
    state: Any | None


class Overlay:
    """States loaded and changed by the works of one transaction."""

    def __init__(self, scope: Scope = _EVERYTHING) -> None:
        self.scope = scope
        self._base: dict[Get, int] = {}
        self._held: dict[Get, _Held] = {}
        self._found: dict[Where, set[str]] = {}
        self._changed: set[Get] = set()
        self.outbox: list[OutboxRow] = []

    def add(self, loaded: Loaded) -> None:
        """Take in what was read; what is held already stays as it is."""
        for read, items in loaded.items():
            if isinstance(read, Where):
                self._found[read] = {item.id for item in items}
                for item in items:
                    self._hold(Get(read.kind, item.id), item)
            else:
                self._hold(read, items[0] if items else None)

    def _hold(self, get: Get, item: Stored[Any] | None) -> None:
        if get not in self._base:
            self._base[get] = item.version if item else 0
            self._held[get] = _Held(item.version, item.state) if item else _Held(0, None)

    def holds(self, read: Read) -> bool:
        return read in self._held if isinstance(read, Get) else read in self._found

    def get(self, get: Get) -> _Held:
        try:
            return self._held[get]
        except KeyError:
            raise NotLoaded({get}) from None

    def where(self, where: Where) -> set[Get]:
        """Keys of the states that hold the value, with what this transaction changed."""
        if where not in self._found:
            raise NotLoaded({where})
        keys = {Get(where.kind, id) for id in self._found[where]}
        keys |= {get for get in self._changed if get.kind.name == where.kind.name}
        return keys

    def accept(self, work: Work) -> None:
        """Take over the changes of a work that went well."""
        for get, held in work.changes.items():
            self._held[get] = held
            self._changed.add(get)
        self.outbox.extend(work.outbox)

    def plan(self) -> Plan:
        writes = tuple(
            Write(get.kind, get.id, self._base[get], self._held[get].version, self._held[get].state)
            for get in self._changed
            if (self._base[get] or self._held[get].state is not None) and self.scope.keeps(get.kind)
        )
        return Plan(writes, () if self.scope.making else tuple(tracing.spread(self.outbox)))


class Work:
    """What one handler call sees and changes.

    `ahead`: the handler is tried out for what it reads, and what it does counts
    for nothing, so it may leave out what is costly once it has read everything.
    """

    def __init__(
        self, overlay: Overlay, cause: Cause, contract: Contract, service: str, *, ahead: bool = False
    ) -> None:
        self._overlay = overlay
        self._contract = contract
        self._service = service
        self._emitted: dict[tuple[str, str], int] = {}
        self._scope = overlay.scope
        self._acting: set[str] = set()
        self.blind: set[Read] = set()
        self.ahead = ahead
        self.cause = cause
        self.changes: dict[Get, _Held] = {}
        self.outbox: list[OutboxRow] = []

    @property
    def now(self) -> datetime:
        return self.cause.now

    @property
    def again(self) -> bool:
        """Is this an event that may have been folded before, by a database that was set back since?"""
        return self._scope.restored and bool(self.cause.event)

    def _held(self, get: Get) -> _Held:
        return self.changes[get] if get in self.changes else self._overlay.get(get)

    def get(self, kind: Kind[S], id: str) -> S | None:
        """The state, or None where there is none."""
        state: S | None = self._held(Get(self._scope.pin(kind), id)).state
        return state

    def require(self, kind: Kind[S], id: str) -> S:
        """The state that the event refers to; where it has not arrived, the event is kept until it has."""
        state = self.get(kind, id)
        if state is None:
            raise NotYet(self._scope.pin(kind), id)
        return state

    def version(self, kind: Kind[Any], id: str) -> int:
        """The state's version; 0 where there is none."""
        return self._held(Get(self._scope.pin(kind), id)).version

    def load(self, kind: Kind[Any], ids: Iterable[str]) -> None:
        """Ask for many states at once, before getting them one by one."""
        self.load_all(Get(kind, id) for id in ids)

    def load_all(self, reads: Iterable[Read]) -> None:
        """Ask at once for states of several kinds, by id or by value."""
        pinned = {read._replace(kind=self._scope.pin(read.kind)) for read in reads}
        missing = {read for read in pinned if read not in self.changes and not self._overlay.holds(read)}
        if missing:
            raise NotLoaded(missing)

    def expect(self, kind: Kind[Any], id: str) -> None:
        """Ask for what `apply` reads, before it is known whether there is anything to apply."""
        acted = self.cause.fact or self._scope.restored
        inbox = [Get(INBOX, self._acted_place(f"{kind.name}/{id}"))] if acted else []
        self.load_all([Get(kind, id), *inbox])

    def where(self, kind: Kind[S], field: str, value: Any, **also: Any) -> dict[str, S]:
        """Every state whose field holds the value, and whose other fields hold `also`, in order of id."""
        kind = self._scope.pin(kind)
        read = Where(kind, field, value, tuple(also.items()))
        keys = self._overlay.where(read)
        keys |= {get for get in self.changes if get.kind.name == kind.name}
        found = {get.id: self._held(get).state for get in keys}
        return {id: state for id, state in sorted(found.items()) if state is not None and read.takes(state)}

    def put(self, kind: Kind[S], id: str, state: S) -> None:
        """Write a state that is not an aggregate."""
        if kind.evolve is not None:
            raise Integrity(f"{kind.name} is an aggregate: it changes by its events only")
        get = Get(self._scope.pin(kind), id)
        self.changes[get] = _Held(self._base(get) + 1, state)

    def hold(self, kind: Kind[Any], ids: Iterable[str]) -> None:
        """Write states as they are: whoever changes one at the same moment conflicts with this work.

        Two transactions that only read what the other writes are both let through, each without the
        other. A state that is not there cannot be held.
        """
        for id in ids:
            state = self.get(kind, id)
            if state is not None:
                self.put(kind, id, state)

    def drop(self, kind: Kind[Any], id: str) -> None:
        """Delete a state, if there is one."""
        get = Get(self._scope.pin(kind), id)
        self.changes[get] = _Held(self._base(get), None)

    def _base(self, get: Get) -> int:
        """The version to write over. One that is not loaded is noted and does not stop the
        handler: what it writes blindly is loaded together, and then it runs again."""
        if get not in self.changes and not self._overlay.holds(get):
            self.blind.add(get)
            return 0
        return self._held(get).version

    def apply(
        self, kind: Kind[S], id: str, message: Message, *, site: str = "", case: str = "", run: str = ""
    ) -> S:
        """An aggregate's event: the state evolves, the version rises, the event goes out, signed.

        A fact that comes a second time acts on an aggregate once: then the
        state is answered as it is.
        """
        assert kind.evolve is not None, f"{kind.name} has no evolve"
        get = Get(kind, id)
        held = self._held(get)
        # Also the fact that makes the aggregate is noted: its second delivery finds a state.
        acted = self._scope.making or self._has_acted(get, message)
        if held.state is not None and acted:
            unchanged: S = held.state
            return unchanged
        sign(message, self.cause.actor, self.cause.meaning)
        state = kind.evolve(held.state, message)
        version = held.version + 1
        self.changes[get] = _Held(version, state)
        self._emit(message, kind.name, id, version, site, case, run)
        return state

    def emit_fact(self, message: Message, id: str, *, subject: str, site: str = "") -> None:
        """A fact that the handler knows and records; its id is the source's own. It is of no case: what
        happened is the same whichever event made it known, and one of a site's own topic says no case."""
        topic, key = self._contract.route(message, site)
        event = self._event(id, "fact", subject, message, key, None, "", "")._replace(case="")
        self.outbox.append(_row(event, topic, f"fact/{id}", 0))

    def copy(self, event: Event, topic: str, key: str) -> None:
        """Put the event, as it is, onto another topic of this service, under a case key."""
        record = to_record(event._replace(key=key, case=key), topic)
        id, place = derived_id("copy", topic, event.id), f"copy/{event.source}|{event.subject}"
        value = record.value or b""
        self.outbox.append(OutboxRow(id, place, event.seq or 0, topic, record.key, value, record.headers))

    def _has_acted(self, get: Get, message: Message) -> bool:
        """Has this cause acted on the aggregate before this work? From now on it has."""
        if not (self.cause.fact or self._scope.restored):
            return False
        target = f"{get.kind.name}/{get.id}"
        if self._scope.restored and self.get(INBOX, self._event_id(message, target)[0]) is not None:
            return True
        place = self._acted_place(target)
        if place in self._acting:
            return False
        if self.get(INBOX, place) is not None:
            return True
        self._acting.add(place)
        self.put(INBOX, place, Acted())
        return False

    def _acted_place(self, target: str) -> str:
        return f"{target}|{self.cause.event or self.cause.id}"

    def _event_id(self, message: Message, target: str) -> tuple[str, tuple[str, str], int]:
        """Id of the next event of this type about the target, with its key and number among them."""
        effect = event_type(type(message))
        n = self._emitted.get((effect, target), 0)
        return effect_id(self.cause.id, effect, f"{target}#{n}"), (effect, target), n

    def _emit(self, message: Message, kind: str, id: str, seq: int, site: str, case: str, run: str) -> None:
        target = f"{kind}/{id}"
        event_id, counted, n = self._event_id(message, target)
        self._emitted[counted] = n + 1
        topic, key = self._contract.route(message, site)
        event = self._event(event_id, kind, id, message, key, seq, case, run)
        self.outbox.append(_row(event, topic, target, seq))

    def _event(
        self,
        id: str,
        kind: str,
        subject: str,
        message: Message,
        key: str,
        seq: int | None,
        case: str,
        run: str,
    ) -> Event:
        # A case is called by its lot, and a site hears of lots that its own people received alone (ADR 14).
        told = self._contract.topic_of(event_type(type(message))).scope != "site"
        return Event(
            id=id,
            source=f"/svc/{self._service}/{kind}",
            subject=subject,
            time=self.cause.now,
            message=message,
            key=key,
            seq=seq,
            cause=self.cause.event,
            case=(case or self.cause.case) if told else "",
            run=run or self.cause.run,
            actor=self.cause.actor,
            trace=self.cause.trace,
        )

    def due(self, step: str, key: str, at: datetime, **payload: str) -> None:
        """Make a step due at a moment of platform time; a second call moves it."""
        made = Step(step, key, moment_text(at), payload)
        if tracing.on():
            later = made.due > moment_text(self.now)
            trace = self.cause.trace
            made = replace(made, after=trace) if later else replace(made, trace=trace)
        self.put(STEPS, f"{step}|{key}", made)

    def due_in(self, step: str, key: str, delay: timedelta, **payload: str) -> None:
        self.due(step, key, self.now + delay, **payload)

    def not_due(self, step: str, key: str) -> None:
        """Cancel a step."""
        self.drop(STEPS, f"{step}|{key}")


def _row(event: Event, topic: str, aggregate: str, seq: int) -> OutboxRow:
    record = to_record(event, topic)
    return OutboxRow(event.id, aggregate, seq, topic, record.key, record.value or b"", record.headers)


def request_cause(
    actor: str, method: str, request_id: str, now: datetime, trace: str = "", meaning: str = ""
) -> Cause:
    """The cause that a command is."""
    id = derived_id("request", actor, method, request_id)
    return Cause(id, now, actor, trace=trace, meaning=meaning)


def event_cause(event: Event, actor: str) -> Cause:
    """The cause that an event is: its id, its domain time, its case and run."""
    fact = event.seq is None
    return Cause(event.id, event.time, actor, event.id, event.case, event.run, event.trace, fact)


@dataclass(frozen=True)
class Job:
    """One handler call of a transaction."""

    cause: Cause
    call: Callable[[Work], Any]


class Done(NamedTuple):
    """What became of a job: its work and answer, or the error that undid it."""

    work: Work | None
    answer: Any
    error: Exception | None


def run_jobs(
    jobs: list[Job], overlay: Overlay, contract: Contract, service: str
) -> Generator[set[Read], Loaded, list[Done]]:
    """Run jobs in order over one overlay. Yields what to load; is sent what was loaded.

    A job that raises leaves no trace in the overlay; the others stand.
    """
    ahead = Ahead(jobs, overlay.scope)
    results = []
    for job in jobs:
        results.append((yield from run_one(job, overlay, contract, service, ahead)))
    return results


class Ahead:
    """The jobs that come after the one that runs.

    When that one lacks states they are tried out, without keeping what they
    do, so that what all of them read goes to the database together. Each sees
    the states as they were loaded: whatever one job alone does when the others
    have had their turn, it must not seem that all of them would. One that lacks
    nothing is not tried out again; what it reads differently in its turn it
    loads by itself.
    """

    def __init__(self, jobs: Iterable[Job] = (), scope: Scope = _EVERYTHING) -> None:
        self._loaded = Overlay(scope)
        self._waiting = deque(jobs)
        self._place = {id(job): place for place, job in enumerate(self._waiting)}

    def begin(self, job: Job) -> None:
        """The job runs: it and those before it are not ahead any more."""
        while self._waiting and self._place[id(self._waiting[0])] <= self._place[id(job)]:
            self._waiting.popleft()

    def add(self, loaded: Loaded) -> None:
        """Take in what was read."""
        self._loaded.add(loaded)

    def lacking(self, contract: Contract, service: str) -> set[Read]:
        """What they read and nobody has loaded."""
        lacking: set[Read] = set()
        for _ in range(len(self._waiting)):
            job = self._waiting.popleft()
            lacks = _attempt(job, Work(self._loaded, job.cause, contract, service, ahead=True))[1]
            if lacks:
                lacking |= lacks
                self._waiting.append(job)
        return lacking


def _attempt(job: Job, work: Work) -> tuple[Done, set[Read]]:
    """What becomes of the job, and what it lacks: then what it did, or raised, counts for nothing."""
    try:
        answer = job.call(work)
    except NotLoaded as need:
        return Done(None, None, None), need.reads | work.blind
    except Exception as error:  # noqa: BLE001 -- this job's alone; the runner judges it
        return Done(None, None, error), work.blind
    return Done(work, answer, None), work.blind


def run_one(
    job: Job, overlay: Overlay, contract: Contract, service: str, ahead: Ahead | None = None
) -> Generator[set[Read], Loaded, Done]:
    """Run one job; its changes join the overlay unless it raises. It never raises itself."""
    ahead = ahead or Ahead([job])
    ahead.begin(job)
    for _ in range(_MAX_ROUNDS):
        done, lacks = _attempt(job, Work(overlay, job.cause, contract, service))
        if lacks:
            loaded = yield lacks | ahead.lacking(contract, service)
            overlay.add(loaded)
            ahead.add(loaded)
            continue
        if done.work is not None:
            overlay.accept(done.work)
        return done
    endless = f"a handler asked for states {_MAX_ROUNDS} times and never had enough; load many at once"
    return Done(None, None, Integrity(endless))
