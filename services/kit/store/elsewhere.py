"""Hears what other processes of a service commit, so that the relay need not wait for its next look.

A commit rings the bell of its own process only. Where the relay is a process of its own, or several
processes of one service commit, the database tells of new rows of the outbox through a change stream. While
nothing is written that costs one question a second; a look at the outbox often enough to be as quick would be
fifty. What is heard is only a reason to look: the relay's own poll stays the safety net, and is all there is
while the stream is down.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

import pymongo
from pymongo.errors import OperationFailure, PyMongoError

from services.kit.log import get_logger
from services.kit.store.kinds import Doc

_log = get_logger("kit.elsewhere")
#: A stream that broke is opened again after so long; one that the server refuses is tried now and then.
_BROKEN_SECONDS, _REFUSED_SECONDS = 0.5, 30.0
#: A server that does not even say that there is nothing is gone, whatever its connection looks like.
_SILENT_SECONDS = 10.0
_JOIN_SECONDS = 2.0


class Stream(Protocol):
    """A change stream: the next change, or None when there was none for about a second."""

    def try_next(self) -> Doc | None: ...

    def close(self) -> None: ...


class Elsewhere:
    """Calls `heard` when a row was written to the outbox, by whichever process, in a thread of its own."""

    def __init__(self, open_stream: Callable[[], Stream], heard: Callable[[], None]) -> None:
        self._open = open_stream
        self._heard = heard
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="elsewhere", daemon=True)
        self._refused = False

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end, which it does within a second; `join` waits."""
        self._stopping.set()

    def join(self) -> None:
        if self._thread.is_alive():
            self._thread.join(_JOIN_SECONDS)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._listen()
            except PyMongoError as error:
                self._stopping.wait(self._pause(error))

    def _listen(self) -> None:
        stream = self._open()
        try:
            if self._refused:
                _log.info("commits of other processes are heard of again")
            self._refused = False
            # What was written before the stream stood was not heard of.
            self._heard()
            while not self._stopping.is_set():
                with pymongo.timeout(_SILENT_SECONDS):
                    change = stream.try_next()
                if change is not None:
                    self._heard()
        finally:
            stream.close()

    def _pause(self, error: PyMongoError) -> float:
        if self._stopping.is_set() or error.timeout or not isinstance(error, OperationFailure):
            return _BROKEN_SECONDS
        if not self._refused:
            self._refused = True
            _log.warning(
                "what other processes commit is published at the next look, up to half a second later: the "
                "database gives no change stream; give the user the role readWrite on its database",
                reason=str(error)[:200],
            )
        return _REFUSED_SECONDS
