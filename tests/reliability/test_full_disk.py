"""The disk under both engines is full, then space is given back: they recover, and nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.reliability.stand import Stand
from tests.reliability.world import World, until

pytestmark = pytest.mark.faults

ENGINES = ("kafka", "mongod")


def full(world: World, ended: threading.Event) -> None:
    """No byte more for either engine, until both have felt it."""
    ended.wait(1.0)
    # A checkpoint a second: without, mongod could live a minute on the space that it took before.
    world.database.admin.command({"setParameter": 1, "syncdelay": 1})
    with _no_space(world):
        until("both engines stop for want of space", lambda: {*ENGINES} <= _died(world), 90)


def _died(world: World) -> set[str]:
    return {death.name for death in world.deaths}


@contextmanager
def _no_space(world: World) -> Iterator[None]:
    if world.disk.is_small:
        world.disk.fill()
        yield
        world.disk.empty()
        return
    # No disk of one's own here: the same refusal of every write comes from a limit on the files, and
    # ends with the process that it stopped.
    print(f"no small disk ({world.disk.why_not}): files are limited instead")
    for name in ENGINES:
        world.file_limit(name, 4096)
    yield


@pytest.mark.timeout(600)
def test_a_full_disk_loses_nothing(stand: Stand) -> None:
    stand.rough.deaths.clear()
    stand.play(full)
