"""What other processes of a service commit is heard of, and a stream that breaks is opened again."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from pymongo.errors import AutoReconnect, OperationFailure, PyMongoError

from services.kit.store import elsewhere
from services.kit.store.elsewhere import Elsewhere
from services.kit.store.kinds import Doc

_REFUSAL = OperationFailure("not authorized on pharmaloop_rnd to execute command aggregate", 13)


class _Streams:
    """Streams of changes: each put is a row of the outbox, or what the server says instead."""

    def __init__(self) -> None:
        self.changes: queue.Queue[Doc | PyMongoError] = queue.Queue()
        self.opened = 0
        self.closed = 0
        self.refusals: list[PyMongoError] = []

    def open(self) -> _Streams:
        if self.refusals:
            raise self.refusals.pop(0)
        self.opened += 1
        return self

    def try_next(self) -> Doc | None:
        try:
            change = self.changes.get(timeout=0.01)
        except queue.Empty:
            return None
        if isinstance(change, PyMongoError):
            raise change
        return change

    def close(self) -> None:
        self.closed += 1


class _Heard:
    def __init__(self) -> None:
        self._count = threading.Semaphore(0)

    def __call__(self) -> None:
        self._count.release()

    def within(self, seconds: float = 5.0) -> bool:
        return self._count.acquire(timeout=seconds)


@contextmanager
def _listening(streams: _Streams, heard: Callable[[], None]) -> Iterator[Elsewhere]:
    ears = Elsewhere(streams.open, heard)
    ears.start()
    try:
        yield ears
    finally:
        ears.stop()
        ears.join()
        assert streams.closed == streams.opened


def test_a_row_that_another_process_writes_is_heard_of() -> None:
    streams, heard = _Streams(), _Heard()
    with _listening(streams, heard):
        assert heard.within(), "what was written before the stream stood has to be looked for"
        assert not heard.within(0.05), "while nothing is written nobody is woken"
        streams.changes.put({"_id": "a"})
        assert heard.within()


def test_a_stream_that_breaks_is_opened_again_and_nothing_between_is_missed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(elsewhere, "_BROKEN_SECONDS", 0.01)
    streams, heard = _Streams(), _Heard()
    with _listening(streams, heard):
        assert heard.within()
        streams.changes.put(AutoReconnect("connection closed"))
        assert heard.within(), "it looks again, for what was written meanwhile"
        streams.changes.put({"_id": "b"})
        assert heard.within()
    assert streams.opened == 2


def test_a_database_that_gives_no_stream_is_told_once_and_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(elsewhere, "_REFUSED_SECONDS", 0.01)
    told: list[str] = []
    monkeypatch.setattr(elsewhere._log, "warning", lambda text, **_: told.append(text))
    streams, heard = _Streams(), _Heard()
    streams.refusals = [_REFUSAL, _REFUSAL, _REFUSAL]
    with _listening(streams, heard):
        assert heard.within()
    (text,) = told
    assert "half a second" in text
    assert "role readWrite" in text
