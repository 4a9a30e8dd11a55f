"""The disk under both engines is full, then space is given back: they recover, and nothing is lost."""

from __future__ import annotations

import threading

import pytest

from tests.reliability.stand import Stand
from tests.reliability.world import World

_FULL_SECONDS = 6.0


def full(world: World, ended: threading.Event) -> None:
    """No byte more for either engine for a while."""
    ended.wait(1.0)
    if world.disk.is_small:
        world.disk.fill()
    else:
        # No disk of one's own here: the same refusal of every write comes from a limit on the files.
        print(f"no small disk ({world.disk.why_not}): files are limited instead")
        for name in ("kafka", "mongod"):
            world.file_limit(name, 4096)
    threading.Event().wait(_FULL_SECONDS)
    if world.disk.is_small:
        world.disk.empty()
    else:
        for name in ("kafka", "mongod"):
            world.file_limit(name, None)


@pytest.mark.timeout(900)
def test_a_full_disk_loses_nothing(stand: Stand) -> None:
    stand.play(full)
