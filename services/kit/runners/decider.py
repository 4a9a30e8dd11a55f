"""The decider: commands that wait together are committed together.

A command is answered from the stored answer when the same actor has sent the
same request before. One that names what is not known here is not stored: that
may be on its way, and the same request is decided once it is here. Its events
go to the outbox in the transaction that changes the aggregates; the answer
then waits, at most a second, until the relay has published them, and says
where they stand. One command must never be the end of those it was grouped
with: a group that the database refuses is halved until the culprit stands
alone.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from services.kit import points, tracing
from services.kit.bus.protocol import Position
from services.kit.clock import Clock
from services.kit.contracts import Contract
from services.kit.errors import REFUSALS, Invalid, PharmaLoopError, Rejected, Retryable, Unknown
from services.kit.log import get_logger
from services.kit.metrics import DECIDER_GROUP, DECIDER_SECONDS, DECIDER_WAITING, Metrics
from services.kit.relay import Relay
from services.kit.store.kinds import Kind, Plan, Read
from services.kit.store.protocol import AsyncStore, AsyncTransaction, Loaded, Unstorable
from services.kit.words import meaning_of
from services.kit.work import Done, Job, Overlay, Scope, Work, request_cause, run_jobs

_log = get_logger("kit.decider")
T = TypeVar("T")
_MAX_GROUP = 256
#: More would wait longer than callers do.
_MAX_WAITING = 2000
_POSITION_SECONDS = 1.0
#: How long a caller waits that does not say it.
_PATIENCE_SECONDS = 30.0
#: The answer must be on its way so much before the caller's deadline.
_MARGIN_SECONDS = 0.05

#: A command's function: sees the states, applies events, answers with a message.
Command = Callable[[Work, Any], Message]


@dataclass(frozen=True)
class Answer:
    """The stored answer to a request: a message, or the refusal as data."""

    message: bytes = b""
    event_ids: tuple[str, ...] = ()
    refusal: str = ""
    reason: str = ""
    description: str = ""
    field: str = ""


ANSWERS: Kind[Answer] = Kind("_answer", Answer)


@dataclass(frozen=True)
class Decision:
    """What a submitted command gives: the answer's bytes, and where its events stand."""

    message: bytes
    event_ids: tuple[str, ...]
    positions: tuple[Position, ...]
    pending: bool


@dataclass
class _Waiting:
    job: Job
    future: asyncio.Future[Answer]


def _answered(command: Command, request: Message) -> Callable[[Work], Answer]:
    """Run a command unless its request was answered before; store the answer."""

    def call(work: Work) -> Answer:
        before = work.get(ANSWERS, work.cause.id)
        if before is not None:
            return before
        message = command(work, request)
        ids = tuple(row.id for row in work.outbox)
        answer = Answer(message.SerializeToString(), ids)
        work.put(ANSWERS, work.cause.id, answer)
        return answer

    return call


def _refused(error: Rejected) -> Callable[[Work], Answer]:
    """Store a refusal as the answer, so that the repeated request is refused alike."""

    def call(work: Work) -> Answer:
        before = work.get(ANSWERS, work.cause.id)
        if before is not None:
            return before
        answer = Answer(
            refusal=type(error).__name__,
            reason=error.reason,
            description=error.description,
            field=error.field,
        )
        work.put(ANSWERS, work.cause.id, answer)
        return answer

    return call


def _group(
    jobs: list[Job], contract: Contract, service: str, scope: Scope
) -> Generator[set[Read], Loaded, tuple[list[Done], Plan]]:
    """Run a group of commands, then store the refusals among their answers.

    What a command names and is not known here was not decided about: that refusal is told, not kept.
    """
    overlay = Overlay(scope)
    results = yield from run_jobs(jobs, overlay, contract, service)
    refused = {
        n: done.error
        for n, done in enumerate(results)
        if isinstance(done.error, Rejected) and not isinstance(done.error, Unknown)
    }
    stores = [Job(jobs[n].cause, _refused(error)) for n, error in refused.items()]
    stored = yield from run_jobs(stores, overlay, contract, service)
    for n, done in zip(refused, stored, strict=True):
        results[n] = done
    return results, overlay.plan()


async def drive(txn: AsyncTransaction, work: Generator[set[Read], Loaded, T]) -> T:
    """Run a generator that asks for states, against a transaction."""
    try:
        reads = next(work)
        while True:
            reads = work.send(await txn.load(reads))
    except StopIteration as stop:
        result: T = stop.value
        return result


class Decider:
    """Runs a service's commands, grouped."""

    def __init__(
        self,
        service: str,
        commands: dict[str, Command],
        *,
        store: AsyncStore,
        relay: Relay,
        contract: Contract,
        clock: Clock,
        metrics: Metrics | None = None,
        committed: Callable[[], None] | None = None,
    ) -> None:
        """`committed` is called after every commit; without one, the relay is woken."""
        self._service = service
        self._commands = commands
        self._store = store
        self._relay = relay
        self._committed = committed or relay.wake
        self._contract = contract
        self._clock = clock
        self._metrics = metrics or Metrics(service)
        self._loop = asyncio.get_running_loop()
        self._scope = Scope()
        self._closed = ""
        self._queue: deque[_Waiting] = deque()
        self._some = asyncio.Event()

    def close(self, why: str) -> None:
        """Take no commands; Retryable tells why."""
        self._closed = why

    def open(self) -> None:
        """Take commands again."""
        self._closed = ""

    def after_restore(self) -> None:
        """The database was set back once: what the topics show to have been decided is not decided again."""
        self._scope = Scope(restored=True)

    async def submit(
        self,
        method: str,
        request: Message,
        *,
        request_id: str,
        actor: str,
        trace: str = "",
        seconds: float = _PATIENCE_SECONDS,
    ) -> Decision:
        """Decide one command. Raises Rejected with the rule's reason, or Retryable.

        `seconds` is how long the caller waits. A command that was not begun by
        then, or whose caller has gone, is never begun; one that was begun may
        yet be committed: the same request, sent again, has one effect.
        """
        if not request_id:
            raise Invalid("REQUIRED", "give every request an id of its own", "request_id")
        if self._closed:
            raise Retryable(self._closed)
        if len(self._queue) >= _MAX_WAITING:
            raise Retryable(f"{len(self._queue)} commands wait already; send the same request in a moment")
        end = self._loop.time() + max(0.0, min(seconds, _PATIENCE_SECONDS) - _MARGIN_SECONDS)
        trace = trace or tracing.current()
        cause = request_cause(actor, method, request_id, self._clock.now(), trace, meaning_of(request))
        waiting = _Waiting(Job(cause, _answered(self._commands[method], request)), self._loop.create_future())
        self._queue.append(waiting)
        self._some.set()
        answer = await self._answer(waiting, end)
        if answer.refusal:
            raise REFUSALS[answer.refusal](answer.reason, answer.description, answer.field)
        wait = min(_POSITION_SECONDS, max(0.0, end - self._loop.time()))
        positions = await self._relay.positions(answer.event_ids, wait)
        found = tuple(positions.values())
        return Decision(answer.message, answer.event_ids, found, len(found) < len(answer.event_ids))

    async def _answer(self, waiting: _Waiting, end: float) -> Answer:
        try:
            async with asyncio.timeout_at(end):
                return await waiting.future  # cancelled with its caller, and then not begun
        except TimeoutError:
            late = "it was not decided within the call's deadline; send the same request again"
            raise Retryable(late) from None

    async def run(self) -> None:
        """Take what waits, decide it together, again and again, until cancelled."""
        while True:
            await self._some.wait()
            group = self._take()
            self._metrics.set(DECIDER_WAITING, len(self._queue))
            if group:
                began = self._loop.time()
                await self._decide(group)
                self._metrics.observe(DECIDER_SECONDS, self._loop.time() - began)

    def _take(self) -> list[_Waiting]:
        """The next group; whoever went away or whose time is over is left out."""
        group: list[_Waiting] = []
        while self._queue and len(group) < _MAX_GROUP:
            waiting = self._queue.popleft()
            if not waiting.future.done():
                group.append(waiting)
        if not self._queue:
            self._some.clear()
        return group

    async def _decide(self, group: list[_Waiting]) -> None:
        try:
            results = await self._store.transact(self._transaction([waiting.job for waiting in group]))
        except (Retryable, OSError) as error:
            # Nothing is wrong with any of them.
            _log.warning("group not committed", commands=len(group), error=repr(error))
            self._fail(group, error)
            return
        except Exception as error:  # noqa: BLE001 -- whoever waits must hear of it
            await self._decide_apart(group, error)
            return
        points.reached("decider.committed")
        self._metrics.observe(DECIDER_GROUP, len(group))
        self._committed()
        for waiting, done in zip(group, results, strict=True):
            _settle(waiting.future, done)

    def _transaction(self, jobs: list[Job]) -> Callable[[AsyncTransaction], Awaitable[list[Done]]]:
        async def work(txn: AsyncTransaction) -> list[Done]:
            results, plan = await drive(txn, _group(jobs, self._contract, self._service, self._scope))
            await txn.write(plan)
            points.reached("decider.written")
            return results

        return work

    async def _decide_apart(self, group: list[_Waiting], error: Exception) -> None:
        """One of them cannot be committed: halve until it stands alone."""
        if len(group) == 1:
            _log.error("command cannot be committed", exc_info=error)
            self._fail(group, error)
            return
        middle = len(group) // 2
        await self._decide(group[:middle])
        await self._decide(group[middle:])

    def _fail(self, group: list[_Waiting], error: Exception) -> None:
        for waiting in group:
            if not waiting.future.done():
                waiting.future.set_exception(_told(error))


def _told(error: Exception) -> Exception:
    """What the caller hears of a failure."""
    if isinstance(error, Unstorable):
        why = f"the database cannot store what this command makes ({error}); send less, or other values"
        return Rejected("UNSTORABLE", why)
    if isinstance(error, OSError):
        return Retryable("the database did not take it; try again")
    return error


def _settle(future: asyncio.Future[Answer], done: Done) -> None:
    if future.done():
        return
    if done.error is not None:
        if not isinstance(done.error, PharmaLoopError):
            _log.error("command failed", exc_info=done.error)
        future.set_exception(done.error)
    else:
        future.set_result(done.answer)
