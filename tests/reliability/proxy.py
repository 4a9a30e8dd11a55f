"""A TCP proxy that misbehaves on request, in the vocabulary of toxiproxy.

It stands between the services and an engine, so that a test can make the
network slow, deaf or broken while real clients and real engines talk. It must
never change a byte: what arrives, arrives whole and in order, or not at all.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
HOST = "127.0.0.1"
_CHUNK = 64 * 1024
#: Closing a socket with this linger sends RST instead of FIN.
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Faults:
    """What is wrong with the network now. All may be wrong at once; the default is nothing.

    latency, jitter  seconds that each chunk waits, plus or minus
    timeout          nothing gets through; open connections hang, new ones are accepted and hang
    slicer           a chunk arrives in pieces of so many bytes at most
    bandwidth        bytes in a second, per connection and direction
    limit_data       a connection is closed after so many bytes in one direction
    """

    latency: float = 0.0
    jitter: float = 0.0
    timeout: bool = False
    slicer: int = 0
    bandwidth: int = 0
    limit_data: int = 0


class _Link:
    """One client's connection and the one to the engine behind it."""

    def __init__(self, proxy: Proxy, client: Any, engine: Any) -> None:
        self._proxy = proxy
        self._ends = (client, engine)
        self.lost = False

    async def run(self) -> None:
        (from_client, to_client), (from_engine, to_engine) = self._ends
        pumps = {
            asyncio.ensure_future(self._pump(from_client, to_engine)),
            asyncio.ensure_future(self._pump(from_engine, to_client)),
        }
        try:
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self.close()

    async def _pump(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        passed = 0
        with suppress(OSError):
            while chunk := await source.read(_CHUNK):
                limit = self._proxy.faults.limit_data
                if limit and passed + len(chunk) > limit:
                    return
                passed += len(chunk)
                await self._deliver(chunk, target)

    async def _deliver(self, chunk: bytes, target: asyncio.StreamWriter) -> None:
        faults = self._proxy.faults
        if faults.latency or faults.jitter:
            await asyncio.sleep(
                max(0.0, faults.latency + faults.jitter * self._proxy.random.uniform(-1.0, 1.0))
            )
        size = faults.slicer or len(chunk)
        for start in range(0, len(chunk), size):
            # Also what was on its way when the network went deaf waits.
            await self._proxy.hearing(self)
            piece = chunk[start : start + size]
            if faults.bandwidth:
                await asyncio.sleep(len(piece) / faults.bandwidth)
            target.write(piece)
            await target.drain()

    def close(self, *, reset: bool = False) -> None:
        for _, writer in self._ends:
            if reset:
                connection: socket.socket = writer.get_extra_info("socket")
                with suppress(OSError):
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort() if reset else writer.close()


class Proxy:
    """Listens on a port of its own and passes on to `target`; runs in a thread of its own."""

    def __init__(self, target: int, *, port: int = 0, seed: int = 0) -> None:
        self.target = target
        self.port = port
        self.faults = Faults()
        self.random = random.Random(seed)
        self._links: set[_Link] = set()
        self._loop = asyncio.new_event_loop()
        self._heard = asyncio.Event()
        self._heard.set()
        self._server: asyncio.Server | None = None
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)

    # -- what a test does ---------------------------------------------------

    def start(self) -> None:
        self._thread.start()
        self._call(self._listen())

    def stop(self) -> None:
        self._call(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def set(self, faults: Faults) -> None:
        """From now on the network is like this. What hung goes on when the timeout is taken away."""
        self._call(self._set(faults))

    def heal(self) -> None:
        """Nothing is wrong any more."""
        self._call(self._set(Faults()))
        self.up()

    def down(self) -> None:
        """Nobody listens: connections are closed, new ones refused."""
        self._call(self._down())

    def up(self) -> None:
        self._call(self._listen())

    def reset_peer(self) -> int:
        """Break every open connection with a RST; answers how many there were."""
        return self._call(self._reset())

    def lose(self) -> int:
        """Open connections are never heard of again, as behind a firewall that forgot them;
        new ones work. Answers how many there were."""
        return self._call(self._lose())

    @property
    def connections(self) -> int:
        return len(self._links)

    # -- in the thread ------------------------------------------------------

    def _call(self, work: Coroutine[Any, Any, T]) -> T:
        done: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return done.result(30)

    async def hearing(self, link: _Link) -> None:
        if link.lost:
            await asyncio.Event().wait()
        await self._heard.wait()

    async def _set(self, faults: Faults) -> None:
        self.faults = faults
        if faults.timeout:
            self._heard.clear()
        else:
            self._heard.set()

    async def _listen(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._accept, HOST, self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            engine = await asyncio.open_connection(HOST, self.target)
        except (OSError, asyncio.CancelledError):
            writer.transport.abort()
            return
        link = _Link(self, (reader, writer), engine)
        self._links.add(link)
        try:
            await link.run()
        except asyncio.CancelledError:
            link.close()
        finally:
            self._links.discard(link)

    async def _reset(self) -> int:
        links = list(self._links)
        for link in links:
            link.close(reset=True)
        return len(links)

    async def _lose(self) -> int:
        for link in self._links:
            link.lost = True
        return len(self._links)

    async def _down(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for link in list(self._links):
            link.close()

    async def _end(self) -> None:
        await self._down()
        await asyncio.sleep(0)  # who was let in last has a task then
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # what was closed lets go of its socket
