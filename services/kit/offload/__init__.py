"""Work in a child process: what would take the interpreter from everybody else for seconds.

A thread is not enough for long computations in Python: they share one lock with
the event loop and the batch runners. The child is started when it is needed and
ended when it has been idle for a while, with all the libraries that it loaded by
then. It runs one call after the other, in the order in which they were asked for.

It imports nothing but the modules of what it is called with, never the program
that started it (as `multiprocessing` would). It ends with its parent, however
that ends: it stops when its input does, which the kernel closes for a parent
that was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ParamSpec, TypeVar

from services.kit.errors import Retryable
from services.kit.offload.child import read_frame, write_frame

P = ParamSpec("P")
T = TypeVar("T")
IDLE_SECONDS = 120.0
_END_SECONDS = 5.0
#: One thread for a library's own threads: the machine is not the child's alone, and sums keep their order.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


class InChild(Exception):
    """Where in the child an error arose: the cause of the error that the caller gets."""


class Offload:
    """One child process, made when it is needed."""

    def __init__(self, name: str, idle_seconds: float = IDLE_SECONDS) -> None:
        """`name` is said when the child ends before its time."""
        self._name = name
        self._idle_seconds = idle_seconds
        #: All that is done to the child is done by this one thread: that is what keeps the order.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"offload {name}")
        self._child: subprocess.Popen[bytes] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asked = 0
        self._closed = False

    @property
    def pid(self) -> int | None:
        """Id of the child; None while there is none."""
        child = self._child
        return None if child is None or child.poll() is not None else child.pid

    async def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function answers, or raises, in the child.

        `function` must be one that a module has by its name; it, its arguments and its answer are pickled.
        What it keeps in its module is there at the next call, unless the child ended in between. Retryable
        when the child is killed meanwhile. Who is cancelled does not wait any more; a call that has begun
        goes on to its end all the same.
        """
        if self._closed:
            raise Retryable(f"{self._name} has ended with its service")
        if self._timer is not None:
            self._timer.cancel()
        call = pickle.dumps((function, args, kwargs))
        self._asked += 1
        try:
            answer = await asyncio.wrap_future(self._thread.submit(self._ask, call))
        finally:
            self._asked -= 1
            if not self._asked and not self._closed:
                self._end_when_idle()
        done, value, told = pickle.loads(answer)
        if done:
            result: T = value
            return result
        kind, said, state = value
        error: BaseException = kind.__new__(kind, *said)
        error.__dict__.update(state)
        raise error from InChild(told)

    def begin(self, load: Callable[[], None]) -> None:
        """Start the child now and have it call `load`; the first call need not wait for what that imports."""

        def beginning() -> None:
            with contextlib.suppress(Retryable):  # the first call starts another
                self._ask(pickle.dumps((load, (), {})))

        self._thread.submit(beginning)
        self._end_when_idle()

    async def close(self) -> None:
        """End the child, in the middle of its work if need be, and take no more calls."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        child = self._child
        if child is not None:
            child.kill()
        self._thread.submit(self._end)
        await asyncio.to_thread(self._thread.shutdown)

    def _end_when_idle(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._idle_seconds, self._thread.submit, self._end)

    # -- in the thread ------------------------------------------------------------

    def _ask(self, call: bytes) -> bytes:
        if self._closed:
            raise Retryable(f"{self._name} ends with its service")
        child = self._child
        if child is None or child.poll() is not None:
            self._end()
            child = self._child = self._started()
        assert child.stdin is not None, "it was started with pipes"
        assert child.stdout is not None, "it was started with pipes"
        try:
            write_frame(child.stdin, call)
            return read_frame(child.stdout)
        except (EOFError, OSError) as error:
            self._end()
            ended = f"the child process for {self._name} ended ({child.returncode})"
            raise Retryable(f"{ended}; the next call starts another") from error

    def _started(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", str(Path(__file__).with_name("child.py"))]
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **_ENVIRONMENT}
        )
        assert child.stdin is not None, "it was started with pipes"
        write_frame(child.stdin, pickle.dumps(sys.path))
        return child

    def _end(self) -> None:
        """End the child: it ends when its input does."""
        child, self._child = self._child, None
        if child is None:
            return
        for pipe in (child.stdin, child.stdout):
            try:
                pipe.close()  # type: ignore[union-attr]
            except OSError:  # what was not read yet of a child that is gone
                continue
        try:
            child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
