"""Work in a child process: what comes back, in which order, and how the child ends."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.kit.errors import Invalid, Retryable
from services.kit.ids import parse_lot
from services.kit.offload import InChild, Offload


def gone(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        threads = len(list(Path(f"/proc/{pid}/task").iterdir()))
    except (FileNotFoundError, ProcessLookupError):
        return True
    # It ended, and nobody has heard of it yet. Its first thread may have ended before the others.
    return stat.rpartition(")")[2].split()[0] == "Z" and threads <= 1


async def ended(pid: int) -> None:
    async with asyncio.timeout(20):
        while not gone(pid):
            await asyncio.sleep(0.01)


async def at_work(child: Offload, mark: Path) -> asyncio.Future[object]:
    """A call that takes a minute, once it has begun."""
    code = "(__import__('pathlib').Path(mark).touch(), __import__('time').sleep(60))"
    working = asyncio.ensure_future(child.run(eval, code, {"mark": str(mark)}))
    async with asyncio.timeout(20):
        while not mark.exists():
            await asyncio.sleep(0.01)
    return working


@pytest.fixture
async def child() -> AsyncIterator[Offload]:
    made = Offload("a test")
    yield made
    await made.close()


async def test_one_child_runs_all_calls_in_the_order_in_which_they_were_asked_for(child: Offload) -> None:
    first = asyncio.ensure_future(child.run(time.sleep, 0.1))
    times = await asyncio.gather(*(child.run(time.monotonic_ns) for _ in range(8)))
    assert times == sorted(times)
    assert first.done()
    pids = {await child.run(os.getpid) for _ in range(3)}
    assert pids == {child.pid}
    assert os.getpid() not in pids


async def test_an_error_comes_out_as_itself_with_the_place_where_it_arose(child: Offload) -> None:
    with pytest.raises(Invalid) as refused:
        await child.run(parse_lot, "no lot")
    with pytest.raises(Invalid) as here:
        parse_lot("no lot")
    assert str(refused.value) == str(here.value)
    assert (refused.value.reason, refused.value.field) == (here.value.reason, here.value.field)
    assert isinstance(refused.value.__cause__, InChild)
    assert "parse_lot" in str(refused.value.__cause__)
    assert await child.run(abs, -1) == 1


async def test_what_is_printed_in_the_child_disturbs_nothing(child: Offload) -> None:
    await child.run(print, "printed")
    assert await child.run(abs, -2) == 2


async def test_an_answer_that_cannot_be_handed_over_is_an_error(child: Offload) -> None:
    with pytest.raises(TypeError, match="pickle"):
        await child.run(threading.Lock)


async def test_a_child_that_is_killed_at_work_is_to_be_asked_again(child: Offload, tmp_path: Path) -> None:
    before = await child.run(os.getpid)
    working = await at_work(child, tmp_path / "mark")
    os.kill(before, signal.SIGKILL)
    with pytest.raises(Retryable, match="a test"):
        await working
    assert await child.run(os.getpid) != before


async def test_a_child_that_is_killed_at_rest_is_not_missed(child: Offload) -> None:
    before = await child.run(os.getpid)
    os.kill(before, signal.SIGKILL)
    await ended(before)
    assert await child.run(os.getpid) != before


async def test_who_gives_up_does_not_disturb_the_others(child: Offload) -> None:
    pid = await child.run(os.getpid)
    slow = asyncio.ensure_future(child.run(time.sleep, 0.2))
    waiting = asyncio.ensure_future(child.run(os._exit, 1))
    await asyncio.sleep(0.02)
    slow.cancel()
    waiting.cancel()
    assert await child.run(os.getpid) == pid


async def test_an_idle_child_ends_and_another_is_made_when_it_is_needed() -> None:
    child = Offload("a test", idle_seconds=0.05)
    first = await child.run(os.getpid)
    await ended(first)
    assert child.pid is None
    assert await child.run(os.getpid) != first
    await child.close()


async def test_a_child_that_was_begun_answers_the_first_call_and_ends_when_none_comes() -> None:
    child = Offload("a test", idle_seconds=0.3)
    child.begin(gc.disable)
    assert not await child.run(gc.isenabled), "it is the child that was begun"
    await child.close()
    idle = Offload("a test", idle_seconds=0.3)
    idle.begin(gc.disable)
    async with asyncio.timeout(20):
        while (pid := idle.pid) is None:
            await asyncio.sleep(0.001)
    await ended(pid)
    await idle.close()


async def test_it_ends_with_its_service_in_the_middle_of_a_call(tmp_path: Path) -> None:
    child = Offload("a test")
    pid = await child.run(os.getpid)
    working = await at_work(child, tmp_path / "mark")
    await child.close()
    assert gone(pid)
    with pytest.raises(Retryable):
        await working
    with pytest.raises(Retryable):
        await child.run(abs, 1)


def test_it_ends_when_its_parent_is_killed_in_the_middle_of_a_call() -> None:
    code = """
import asyncio, os, time
from services.kit.offload import Offload
async def main():
    child = Offload("a test")
    print(await child.run(os.getpid), flush=True)
    await child.run(time.sleep, 60)
asyncio.run(main())
"""
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not gone(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    asyncio.run(ended(pid))
    assert gone(pid)
