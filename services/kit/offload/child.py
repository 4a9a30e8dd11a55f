"""The child's side of `offload`: reads calls from its input, writes what came of them to its output.

Run as a script, by its path: before the first call it knows nothing of the
project but this file, so it costs what an empty interpreter does.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from typing import IO

_LENGTH = 8


def write_frame(out: IO[bytes], data: bytes) -> None:
    out.write(len(data).to_bytes(_LENGTH, "big"))
    out.write(data)
    out.flush()


def read_frame(source: IO[bytes]) -> bytes:
    """The next frame. EOFError where there is none, or only a part of one."""
    head = source.read(_LENGTH)
    size = int.from_bytes(head, "big")
    data = source.read(size) if len(head) == _LENGTH else b""
    if len(head) < _LENGTH or len(data) < size:
        raise EOFError("the other end is gone")
    return data


def _take(calls: queue.SimpleQueue[bytes]) -> None:
    """Hand on what is asked. Nobody is there any more when the input ends: the process ends, at once, also
    in the middle of a call."""
    try:
        while True:
            calls.put(read_frame(sys.stdin.buffer))
    except (EOFError, OSError):
        os._exit(0)


def _answer(call: bytes) -> bytes:
    """What came of a call: (True, answer, "") or (False, (class, arguments, state) of the error, where)."""
    try:
        function, args, kwargs = pickle.loads(call)
        return pickle.dumps((True, function(*args, **kwargs), ""))
    except Exception as error:  # noqa: BLE001 -- it is the caller's
        where = traceback.format_exc()
        try:
            return pickle.dumps((False, (type(error), error.args, error.__dict__), where))
        except Exception:  # noqa: BLE001 -- an error that cannot be pickled
            return pickle.dumps((False, (RuntimeError, (repr(error),), {}), where))


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # at a terminal, the parent's matter
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whoever prints does not disturb the answers
    sys.path[:] = pickle.loads(read_frame(sys.stdin.buffer))
    calls: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_take, args=(calls,), daemon=True).start()
    while True:
        write_frame(out, _answer(calls.get()))


if __name__ == "__main__":
    main()
