"""The decider: commands that wait together are committed together.

A command is answered from the stored answer when the same actor has sent the
same request before. Its events go to the outbox in the transaction that
changes the aggregates; the answer then waits, at most a second, until the
relay has published them, and says where they stand.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import Message

from services.kit import points
from services.kit.bus.protocol import Position
from services.kit.clock import Clock
from services.kit.contracts import Contract
from services.kit.errors import REFUSALS, Invalid, PharmaLoopError, Rejected, Retryable
from services.kit.log import get_logger
from services.kit.relay import Relay
from services.kit.store.kinds import Kind, Plan, Read
from services.kit.store.protocol import AsyncStore, AsyncTransaction, Loaded
from services.kit.work import Done, Job, Overlay, Work, request_cause, run_jobs

_log = get_logger("kit.decider")
T = TypeVar("T")
_MAX_GROUP = 256
_POSITION_SECONDS = 1.0

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
    jobs: list[Job], contract: Contract, service: str
) -> Generator[set[Read], Loaded, tuple[list[Done], Plan]]:
    """Run a group of commands, then store the refusals among their answers."""
    overlay = Overlay()
    results = yield from run_jobs(jobs, overlay, contract, service)
    refused = {n: done.error for n, done in enumerate(results) if isinstance(done.error, Rejected)}
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
    ) -> None:
        self._service = service
        self._commands = commands
        self._store = store
        self._relay = relay
        self._contract = contract
        self._clock = clock
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()

    async def submit(
        self, method: str, request: Message, *, request_id: str, actor: str, trace: str = ""
    ) -> Decision:
        """Decide one command. Raises Rejected with the rule's reason, or Retryable."""
        if not request_id:
            raise Invalid("REQUIRED", "give every request an id of its own", "request_id")
        cause = request_cause(actor, method, request_id, self._clock.now(), trace)
        waiting = _Waiting(
            Job(cause, _answered(self._commands[method], request)), asyncio.get_running_loop().create_future()
        )
        await self._queue.put(waiting)
        answer = await waiting.future
        if answer.refusal:
            raise REFUSALS[answer.refusal](answer.reason, answer.description, answer.field)
        positions = await self._relay.positions(answer.event_ids, _POSITION_SECONDS)
        found = tuple(positions.values())
        return Decision(answer.message, answer.event_ids, found, len(found) < len(answer.event_ids))

    async def run(self) -> None:
        """Take what waits, decide it together, again and again, until cancelled."""
        while True:
            group = [await self._queue.get()]
            with contextlib.suppress(asyncio.QueueEmpty):
                while len(group) < _MAX_GROUP:
                    group.append(self._queue.get_nowait())
            await self._decide(group)

    async def _decide(self, group: list[_Waiting]) -> None:
        jobs = [waiting.job for waiting in group]

        async def work(txn: AsyncTransaction) -> list[Done]:
            results, plan = await drive(txn, _group(jobs, self._contract, self._service))
            await txn.write(plan)
            points.reached("decider.written")
            return results

        try:
            results = await self._store.transact(work)
        except Exception as error:  # noqa: BLE001 -- whoever waits must hear of it
            _log.warning("group not committed", commands=len(group), error=repr(error))
            self._fail(group, error)
            return
        points.reached("decider.committed")
        self._relay.wake()
        for waiting, done in zip(group, results, strict=True):
            _settle(waiting.future, done)

    def _fail(self, group: list[_Waiting], error: Exception) -> None:
        told = (
            error
            if isinstance(error, PharmaLoopError)
            else Retryable("the database did not take it; try again")
        )
        for waiting in group:
            if not waiting.future.done():
                waiting.future.set_exception(told)


def _settle(future: asyncio.Future[Answer], done: Done) -> None:
    if future.done():
        return
    if done.error is not None:
        if not isinstance(done.error, PharmaLoopError):
            _log.error("command failed", exc_info=done.error)
        future.set_exception(done.error)
    else:
        future.set_result(done.answer)
