"""What takes long to start and is shared: above all a platform whose simulated world has ended, for all
who only look at it."""

from __future__ import annotations

import fcntl
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.loops.stack import Stack, running_stack

WORLD_SECONDS = 400
#: With the developer, whose transfers and studies close the other two loops; it ends within minutes.
WORLD = ("--seed", "7", "--size", "small", "--loops", "2", "--speed", "4")

#: What takes long to start and is shared: the two worlds that are broken, the platform whose world has ended.
SHARED = ("stand", "finished")
#: What a session holds of it, until its last test.
HELD = pytest.StashKey[ExitStack]()


def shared_by(item: pytest.Item) -> str:
    """Which of it a test wants; "" for none."""
    wanted = getattr(item, "fixturenames", ())
    return next((name for name in SHARED if name in wanted), "")


def held(session: pytest.Session) -> ExitStack:
    return session.stash.setdefault(HELD, ExitStack())


#: The groups that take longest: each is begun by a process of its own.
LONGEST = ("finished", "reliability")


def _group(nodeid: str) -> str:
    """Tests that run in one process: those of a folder, which may share a platform; in tests/integration,
    where none is shared, those of a file, so that no process is left with all of them at the end."""
    folder = nodeid.split("/")[1] if "/" in nodeid else ""
    if folder == "integration":
        return nodeid.split("::", maxsplit=1)[0]
    return "finished" if folder in ("loops", "ui") else folder


class Shared(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Where tests run in several processes, one process runs all of a group."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> LoadScopeScheduling | None:
    return Shared(config, log) if config.getvalue("dist") == "loadscope" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The groups that take longest begin first. The platform is started at the beginning of its group and
    the two worlds at the end of theirs: never both at once."""

    def order(item: pytest.Item) -> tuple[int, int]:
        group = _group(item.nodeid)
        place = LONGEST.index(group) if group in LONGEST else len(LONGEST)
        return place, {"finished": 0, "": 1, "stand": 2}[shared_by(item)]

    items.sort(key=order)


@contextmanager
def _room(config: pytest.Config, *, alone: bool) -> Iterator[None]:
    """Room on the machine, beside others or alone.

    Who waits to be alone stands in the door, so that nobody slips in before."""
    place = config.rootpath / ".state"
    place.mkdir(exist_ok=True)
    with (place / "tests.room").open("w") as room:
        with (place / "tests.door").open("w") as door:
            fcntl.flock(door, fcntl.LOCK_EX)
            fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Where times are promised, the tests of other processes wait; they do so before their own time runs."""
    with _room(item.config, alone=item.get_closest_marker("alone") is not None):
        return (yield)


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """What nobody shares any more stops now, and leaves the machine to the others."""
    if nextitem is None or shared_by(nextitem) != shared_by(item):
        item.session.stash.get(HELD, ExitStack()).close()


@pytest.fixture(scope="session")
def finished(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """Everything is up, and all that the world does is done."""
    stack = held(request.session).enter_context(running_stack(tmp_path_factory.mktemp("finished"), *WORLD))
    stack.until_world_is_done(WORLD_SECONDS)
    return stack
