"""The agents of three sites: the product's own, on connections that end inside the simulated world.

An agent's calls are tasks of the exchange's process and its own process alike:
they wait while either does not turn, and break when either dies.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any, cast

from grpc import StatusCode, aio

from services.exchange.domain.disclosure.budget import Grant
from services.exchange.domain.disclosure.limits import Profile
from services.exchange.site.agent import Agent
from services.exchange.site.main import _seen
from services.exchange.site.seen import seen_identities
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


async def run_agent(process: Process, keys: KeyProvider) -> None:
    """The agent of a process's site, until its process dies."""
    app, line = process.app, Line(process)
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


def _broken(code: StatusCode, words: str) -> aio.AioRpcError:
    return aio.AioRpcError(code, aio.Metadata(), aio.Metadata(), words)


class Line:
    """What an agent calls: the RPCs of whichever process of the exchange lives."""

    def __init__(self, process: Process) -> None:
        self._process = process

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

    async def WatchTasks(self, request: Any, *, timeout: float, metadata: Any) -> AsyncIterator[Any]:
        exchange = self._exchange()
        told: asyncio.Queue[Any] = asyncio.Queue()
        task = exchange.run(self._watched(exchange, request, told))
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
        bind(Caller(f"agent/{self._process.app.site}", method, "00-" + "1" * 32 + "-" + "2" * 16 + "-01"))
        return await exchange.methods[method](request, None)

    async def _watched(self, exchange: Process, request: Any, told: asyncio.Queue[Any]) -> None:
        tasks = exchange.methods["WatchTasks"](request, None)
        try:
            async for task in tasks:
                self._at_agent(told.put_nowait, task)
        finally:
            await tasks.aclose()

    def _at_agent(self, what: Callable[..., Any], *given: Any) -> None:
        """In the agent's own event loop, if it lives."""
        if not self._process.loop.is_closed():
            self._process.loop.call_soon(what, *given)

    def _end(self, told: asyncio.Queue[Any], done: asyncio.Task[None]) -> None:
        if not done.cancelled():
            done.exception()
        self._at_agent(told.put_nowait, None)

    def _tell(self, answer: asyncio.Future[Any], done: asyncio.Task[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if done.cancelled():
            self._at_agent(_fail, answer, _broken(StatusCode.UNAVAILABLE, "the connection broke"))
        elif isinstance(error, Rejected):
            said = status_of(error)
            trailing = aio.Metadata(*said.trailing_metadata)
            self._at_agent(_fail, answer, aio.AioRpcError(said.code, aio.Metadata(), trailing, said.details))
        elif error is not None:
            self._at_agent(_fail, answer, _broken(StatusCode.UNAVAILABLE, repr(error)))
        else:
            self._at_agent(_answer, answer, done.result())


def _answer(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)
