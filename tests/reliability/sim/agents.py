"""The agents of three sites and the evaluator: the product's own, on connections inside the simulated world.

Their calls are tasks of the exchange's process and their own process alike:
they wait while either does not turn, and break when either dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, cast

from grpc import StatusCode, aio

from services.exchange.domain.disclosure.budget import Grant
from services.exchange.domain.disclosure.limits import Profile
from services.exchange.evaluator import main as evaluating
from services.exchange.evaluator.agent import Evaluator
from services.exchange.site.agent import Agent
from services.exchange.site.main import _seen
from services.exchange.site.seen import seen_datasets, seen_identities
from services.exchange.site.session import Site
from services.exchange.site.stored import Cohorts, site_keys
from services.kit.errors import Rejected
from services.kit.rpc.context import Caller, bind
from services.kit.rpc.errors import status_of
from services.kit.sealing import KeyProvider
from tests.unit.exchange.hospitals import Hospital, data

if TYPE_CHECKING:
    from tests.reliability.sim.process import Process

#: Queries that an analyst may put to a dataset: more than any storm makes jobs.
_QUERIES = 1000
ROWS = 120
EVALUATOR = "evaluator"


async def run_agent(process: Process, keys: KeyProvider) -> None:
    """The agent of a process's site, until its process dies."""
    app, line = process.app, Line(process, f"agent/{process.app.site}")
    site = Site(
        name=app.site,
        keys=site_keys(keys, app.site),
        profile=Profile.PROTECTED,
        source=Hospital(app.site, data(app.site, ROWS)),
        kept=Cohorts(app.store),
        study=lambda study: _seen(app, study),
        identities=lambda: seen_identities(app.store),
        now=app.clock.now,
        dataset=f"{app.site}/routine",
        grant=Grant(_QUERIES, 100 * _QUERIES),
    )
    stub = cast(Any, line)
    await Agent(site, stub, stub, app.site).run()


async def run_evaluator(process: Process, keys: KeyProvider) -> None:
    """The evaluator of contributions, until its process dies."""
    app, name = process.app, EVALUATOR
    stub = cast(Any, Line(process, f"evaluator/{name}"))
    key = keys.make(f"exchange/{name}/evaluator")
    await Evaluator(
        name, key, stub, lambda study: evaluating._study(app, study), lambda: seen_datasets(app.store)
    ).run()


def _broken(code: StatusCode, words: str) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), words)


class Line:
    """What an agent or the evaluator calls: the RPCs of whichever process of the exchange lives."""

    def __init__(self, process: Process, actor: str) -> None:
        self._process, self._actor = process, actor

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def call(request: Any, *, timeout: float, metadata: Any) -> Any:
            exchange = self._exchange()
            answer: asyncio.Future[Any] = self._process.loop.create_future()
            task = exchange.run(self._served(exchange, method, request))
            task.add_done_callback(lambda done: self._tell(answer, done))
            try:
                async with asyncio.timeout(timeout):
                    return await answer
            except TimeoutError:
                raise _broken(StatusCode.DEADLINE_EXCEEDED, "no answer in time") from None

        return call

    async def Work(self, said: AsyncIterator[Any], *, timeout: float, metadata: Any) -> AsyncIterator[Any]:
        exchange = self._exchange()
        heard: asyncio.Queue[Any] = asyncio.Queue()
        saying = self._process.run(self._say(exchange, said, heard))
        try:
            async for task in self._watch("Work", _each(heard), timeout):
                yield task
        finally:
            saying.cancel()

    async def _say(self, exchange: Process, said: AsyncIterator[Any], heard: asyncio.Queue[Any]) -> None:
        """What is said comes to the exchange in its own event loop, if it lives."""
        async for one in said:
            if not exchange.loop.is_closed():
                exchange.loop.call_soon(heard.put_nowait, one)

    def WatchValuations(self, request: Any, *, timeout: float, metadata: Any) -> AsyncIterator[Any]:
        return self._watch("WatchValuations", request, timeout)

    async def _watch(self, method: str, request: Any, timeout: float) -> AsyncIterator[Any]:
        exchange = self._exchange()
        told: asyncio.Queue[Any] = asyncio.Queue()
        task = exchange.run(self._watched(exchange, method, request, told))
        task.add_done_callback(lambda done: self._end(told, done))
        self._process.watches = task
        try:
            async with asyncio.timeout(timeout):
                while (one := await told.get()) is not None:
                    yield one
        except TimeoutError:
            raise _broken(StatusCode.DEADLINE_EXCEEDED, "the watch is begun anew") from None
        finally:
            task.cancel()

    def _exchange(self) -> Process:
        found = self._process.world.processes.get("exchange/0")
        if found is None or found.dead:
            raise _broken(StatusCode.UNAVAILABLE, "nobody listens there")
        return found

    async def _served(self, exchange: Process, method: str, request: Any) -> Any:
        bind(Caller(self._actor, method, "00-" + "1" * 32 + "-" + "2" * 16 + "-01"))
        return await exchange.methods[method](request, None)

    async def _watched(self, exchange: Process, method: str, request: Any, told: asyncio.Queue[Any]) -> None:
        tasks = exchange.methods[method](request, None)
        try:
            async for task in tasks:
                self._at_caller(told.put_nowait, task)
        finally:
            await tasks.aclose()

    def _at_caller(self, what: Callable[..., Any], *given: Any) -> None:
        """In the caller's own event loop, if it lives."""
        if not self._process.loop.is_closed():
            self._process.loop.call_soon(what, *given)

    def _end(self, told: asyncio.Queue[Any], done: asyncio.Task[None]) -> None:
        if not done.cancelled():
            done.exception()
        self._at_caller(told.put_nowait, None)

    def _tell(self, answer: asyncio.Future[Any], done: asyncio.Task[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if done.cancelled():
            self._at_caller(_fail, answer, _broken(StatusCode.UNAVAILABLE, "the connection broke"))
        elif isinstance(error, Rejected):
            said = status_of(error)
            trailing = aio.Metadata(*said.trailing_metadata)
            self._at_caller(_fail, answer, aio.AioRpcError(said.code, aio.Metadata(), trailing, said.details))
        elif error is not None:
            self._at_caller(_fail, answer, _broken(StatusCode.UNAVAILABLE, repr(error)))
        else:
            self._at_caller(_answer, answer, done.result())


async def _each(heard: asyncio.Queue[Any]) -> AsyncIterator[Any]:
    while True:
        yield await heard.get()


def _answer(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
